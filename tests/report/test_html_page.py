"""The page of the report without a browser: names stay names, and nothing but its own script may run."""

import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from archshift.report.html_page import page
from tests.build import fleet

HOSTILE = [
    "</script><script>alert({})</script>",
    "{}<img src=x onerror=alert(1)>",
    '{}" onmouseover="alert(1)" x="',
    "{}' autofocus onfocus='alert(1)",
    "</title></style><iframe src=javascript:alert(1)>{}",
    "{}<!--",
    "]]>{}&lt;b&gt;&amp;",
    "{{{{ report.__class__ }}}}{}{{% raw %}}",
]


class Reader(HTMLParser):
    """Reads a page: its elements with the names of their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.values: set[str] = set()
        self.text = ""
        self.sources: dict[str, str] = {}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(name for name, _ in attrs)] += 1
        self.values |= {value or "" for _, value in attrs}
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Keep text, and what style and script are."""
        if self._inside in ("script", "style"):
            self.sources[self._inside] = self.sources.get(self._inside, "") + data
        else:
            self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_a_cluster_stay_text(name: str) -> None:
    """Whatever workloads, owners, containers, images and reasons are called, the page has the same elements
    with the same attributes, and the name can be read in it as it is."""
    plain = Reader(page(fleet(30)))
    hostile = Reader(page(fleet(30, name=name, image=name)))
    # A table's rows are as many; what is empty or not does not depend on names.
    assert hostile.elements == plain.elements
    assert hostile.sources == plain.sources
    for number in (0, "team-3", "JIT"):
        assert name.format(number) in hostile.text


def test_marks_that_turn_a_text_round_are_shown_as_such() -> None:
    """A right-to-left override would make one image's name read like another's; controls end a page early."""
    read = Reader(page(fleet(30, name="a\u202egnp.{}\x00\x1b[31m\u2066")))
    assert "a\ufffdgnp.0\ufffd\ufffd[31m\ufffd" in read.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", read.text)


def test_the_policy_lets_nothing_in_but_what_is_in_the_page() -> None:
    """No source of anything: style and script are named by their hashes, no address is in the page."""
    text = page(fleet(30))
    read = Reader(text)
    hashes = {
        tag: f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"
        for tag, source in read.sources.items()
    }
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].replace("&#39;", "'") == (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?://|\burl\(|@import", text)
    names = {name for _, attributes in read.elements for name in attributes}
    assert not names & {"src", "srcset", "style", "action", "ping"}
    assert not [name for name in names if name.startswith("on")]
    # The policy is in force before anything that it is about.
    assert text.index("Content-Security-Policy") < text.index("<style>") < text.index("<body>")
