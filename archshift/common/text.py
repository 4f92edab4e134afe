"""Texts for messages: lists, text of other programs, and how long something takes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from archshift.common.failures import in_words

_Item = TypeVar("_Item")


def first_few(
    items: Sequence[_Item],
    most: int = 5,
    *,
    name: Callable[[_Item], str] = str,
    separator: str = ", ",
    rest: str = " and {} more",
) -> str:
    """Return the names of the first items, and how many more there are: ``a, b and 3 more``.

    Args:
        items: All of them.
        most: Most that are named.
        name: How one is named.
        separator: What stands between names.
        rest: How the others are counted.
    """
    more = rest.format(len(items) - most) if len(items) > most else ""
    return separator.join(map(name, items[:most])) + more


def one_line(text: object, most: int | None = None) -> str:
    """Return a text of another program, or an error, as one line of printable characters.

    Args:
        text: The text. An error without words, and a KeyError, whose words are the bare key, is named.
        most: Most characters; a longer line is cut and ends with an ellipsis. None for all.
    """
    words = in_words(text) if isinstance(text, BaseException) else str(text)
    words = words if most is None else words[: 4 * most]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    if isinstance(text, KeyError) or (isinstance(text, BaseException) and not line):
        line = f"{type(text).__name__} {line}".strip()
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with its noun, and its verb, in the right form: ``1 pod runs``, ``2 pods run``.

    Args:
        noun: In the singular.
        verb: In the plural; empty for none.
    """
    one = number == 1
    words = f"{number} {noun}" if one else f"{number} {noun}s"
    return f"{words} {verb}{'s' if one else ''}" if verb else words


def joined(*texts: str) -> str:
    """Return one text of several; empty ones are left out."""
    return "; ".join(filter(None, texts))


def is_or_are(number: int) -> str:
    """Return the verb that follows a number: ``1 of 2 pods is ready``."""
    return "is" if number == 1 else "are"


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
