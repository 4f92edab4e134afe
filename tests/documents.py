"""The examples of the documentation, so that tests can run them."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def example(document: str, language: str, holding: str = "") -> str:
    """Return the only code block of a language in a document that holds a text."""
    text = (DOCS / document).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if holding in block]
    return str(block)


@dataclass(frozen=True)
class Commands:
    """A block of shell commands in a document.

    Attributes:
        heading: The heading that it stands under.
        needs: What it needs that a lab has not, as its fence says; empty for nothing.
        lines: The commands, one a line.
    """

    heading: str
    needs: str
    lines: tuple[str, ...]


def commands(document: str) -> Iterator[Commands]:
    """Yield all blocks of shell commands of a document, in order."""
    heading = ""
    pattern = r"^## (?P<heading>[^\n]+)$|^ *```(?:sh|bash)(?: (?P<needs>\w+))?\n(?P<body>.*?)^ *```$"
    for match in re.finditer(pattern, (DOCS / document).read_text(), re.MULTILINE | re.DOTALL):
        if match["heading"]:
            heading = match["heading"]
        else:
            lines = textwrap.dedent(match["body"]).strip().splitlines()
            yield Commands(heading, match["needs"] or "", tuple(lines))
