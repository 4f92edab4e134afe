"""Texts for messages: lists, text of other programs, and how long something takes.

Names and messages come from clusters, registries and Prometheus. ``printable`` is the one function that such
text passes before a person, a file or the engine's state gets it: the console, the Markdown, the page, JSON
and the engine's log call it for all their text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from archshift.common.failures import in_words

_Item = TypeVar("_Item")

LONGEST_TEXT: Final = 20_000
"""Most characters of one text. Texts of others are cut to less where they are read."""

_INVISIBLE: Final = re.compile(
    # Letters and marks that fonts show as nothing, although they count as printable (Unicode's
    # Default_Ignorable_Code_Point, and the empty pattern of Braille). The other ones are not printable.
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def printable(text: str, most: int = LONGEST_TEXT, *, lines: bool = False) -> str:
    """Return a text without characters that hide, forge or disguise something.

    White space becomes a blank. All else that does not show becomes U+FFFD: controls and escapes, marks that
    change the direction of text, characters without width, and lone surrogates, which no encoding can write.

    Args:
        text: Any text.
        most: Most characters; a longer text is cut and ends with an ellipsis.
        lines: Keep line feeds.
    """
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    if lines:
        text = text.replace("\r\n", "\n")
    return "".join(
        letter if letter.isprintable() and not _INVISIBLE.match(letter)
        else "\n" if lines and letter == "\n"
        else " " if letter.isspace()
        else "\ufffd"
        for letter in text
    )  # fmt: skip


def printable_json(value: Any) -> Any:
    """Return JSON values with printable texts, in keys and in values. Other objects stay as they are."""
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, Mapping):
        return {printable_json(key): printable_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [printable_json(entry) for entry in value]
    return value


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


def one_line(text: object, most: int = LONGEST_TEXT) -> str:
    """Return a text of another program, or an error, as one line of printable characters.

    Args:
        text: The text. An error without words, and a KeyError, whose words are the bare key, is named.
        most: Most characters; a longer line is cut and ends with an ellipsis.
    """
    words = in_words(text) if isinstance(text, BaseException) else str(text)
    line = " ".join(printable(words[: 4 * most], 4 * most).split())
    if isinstance(text, KeyError) or (isinstance(text, BaseException) and not line):
        line = f"{type(text).__name__} {line}".strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


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
