"""How long the rest of something takes, at the pace so far."""


def time_left(done: int, total: int, seconds: float) -> str:
    """Say how long the rest takes; nothing in the first two seconds, which say little.

    Args:
        done: Parts that are done.
        total: All parts.
        seconds: How long those took.

    Returns:
        ``", about 1:05 left"``; empty where it is not known, or nothing is left.
    """
    if seconds < 2 or not 0 < done < total:
        return ""
    rest = round(seconds / done * (total - done))
    return f", about {rest // 60}:{rest % 60:02d} left"
