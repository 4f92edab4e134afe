"""Texts for progress messages."""


def time_left(done: int, total: int, seconds: float) -> str:
    """Return how long the remaining parts take at the pace so far: ``", about 1:05 left"``.

    Empty where nothing is left, where nothing is done yet, and in the first two seconds, when the pace is not
    reliable.

    Args:
        seconds: How long the parts that are done took.
    """
    if seconds < 2 or not 0 < done < total:
        return ""
    rest = round(seconds / done * (total - done))
    return f", about {rest // 60}:{rest % 60:02d} left"
