"""Words for lists and for the text of others."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.common.text import first_few, one_line, printable, printable_json
from tests.properties import examples

# Anything that JSON can hold: also lone surrogates, which ``st.text()`` leaves out.
any_text = st.text(st.characters(exclude_categories=[]))


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, ""), (1, "1"), (5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5 and 1 more")],
)
def test_the_first_names_and_how_many_more(count: int, words: str) -> None:
    """The last that fits is named, not counted."""
    assert first_few(range(1, count + 1)) == words


def test_a_sentence_says_how_the_rest_is_counted() -> None:
    """Its separator too."""
    named = first_few(["a", "b", "c"], 2, name=str.upper, separator="; ", rest="; {} others")
    assert named == "A; B; 1 others"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\n  lines\t", "two lines"),
        ("\x1b[31mred\x1b[m", "�[31mred�…"),
        ("x" * 20, "xxxxxxxxx…"),
        (KeyError("users"), "KeyError …"),
        (OSError(), "OSError"),
    ],
)
def test_text_of_others_is_one_printable_line(text: object, line: str) -> None:
    """It ends on terminals and in commit messages; an error without words is named."""
    assert one_line(text, 10) == line


def test_a_line_is_whole_where_nothing_limits_it() -> None:
    """Only a limit cuts."""
    assert one_line("x " * 1000) == "x " * 999 + "x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\r\nd\x85e\u2028f\u00a0g", "a b c  d e f g"),
        ("\x1b[2J\x07\x9b31m", "�[2J��31m"),
        ("app\u202egnp.exe\u2066", "app�gnp.exe�"),
        ("pay\u200bments\ufeff\u00ad\u2060", "pay�ments���"),
        ("\u3164\u2800\ufe0f\u034f\U000e0100", "�����"),
        ("\ud800x\udfff", "�x�"),
        ("plain: ünï 日本 🚀", "plain: ünï 日本 🚀"),
    ],
)
def test_what_hides_or_forges_is_replaced(text: str, shown: str) -> None:
    """Escapes, directions, characters without width, surrogates, and lines of another's making."""
    assert printable(text) == shown


@examples
@given(any_text)
def test_whatever_it_gets_is_one_line_that_every_encoding_can_write(text: str) -> None:
    """Nothing is left that a terminal obeys, and what is printable stays."""
    shown = printable(text)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) <= 1
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {unicodedata.category(letter) for letter in shown} & hidden
    assert printable(shown) == shown


def test_no_character_without_width_passes() -> None:
    """All that Unicode calls ignorable, as of the tables of this Python."""
    for code in (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0xE0001):
        assert printable(chr(code)) == "�", hex(code)
    assert printable("".join(map(chr, range(sys.maxunicode + 1))), 1 << 21).isprintable()


def test_a_text_is_cut() -> None:
    """Nobody reads a million characters, and a comment or a log has its limits."""
    assert printable("x" * 1_000_000, 10) == "xxxxxxxxx…"
    assert len(printable("x" * 1_000_000)) == len(one_line("x" * 1_000_000)) == 20_000


def test_json_keeps_its_shape_and_line_feeds() -> None:
    """Programs split lines; what disguises text is gone, in keys too."""
    value = {"a\x1b": ["b\nc\ud800", 1, None, True, ("\u202e",)]}
    assert printable_json(value) == {"a�": ["b\nc�", 1, None, True, ["�"]]}
