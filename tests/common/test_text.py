"""Words for lists and for the text of others."""

import pytest

from archshift.common.text import first_few, one_line


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
        ("\x1b[31mred\x1b[m", "[31mred [m"),
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
