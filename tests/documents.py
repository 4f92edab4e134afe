"""The examples of the documentation, so that tests can run them."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def example(document: str, language: str, holding: str = "") -> str:
    """Return the only code block of a language in a document that holds a text."""
    text = (DOCS / document).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if holding in block]
    return str(block)
