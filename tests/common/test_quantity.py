"""Quantities mean what lightkube's function says of them, and the API server's own, which lightkube lacks."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from lightkube.utils.quantity import parse_quantity as theirs

from archshift.common.quantity import parse_quantity

SUFFIXES = ["", "m", *"kMGTPEZY", *(f"{letter}i" for letter in "KMGTPEZY")]
ONLY_THE_SERVER_READS = re.compile(r"([+-]?[\d.]+)(e[+-]?\d+)?([nu]|E[+-]?\d+.*)", re.DOTALL)
NUMBERS = st.from_regex(r"[+-]?[0-9]{0,24}([.][0-9]{0,12})?(e[+-]?[0-9]{1,3})?", fullmatch=True)


def outcome_of_theirs(text: str) -> Decimal | str | None:
    """The number, or what the error says."""
    try:
        return theirs(text)
    except ValueError as error:
        return str(error)


def outcome(text: str) -> Decimal | str:
    """The same of ours."""
    try:
        return parse_quantity(text)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.100"),
        ("1.5Gi", "1610612736.000"),
        ("1e3", "1000.000"),
        ("2E", "2000000000000000000.000"),
        ("0.1", "0.100"),
        (".5", "0.500"),
        ("-1", "-1.000"),
        ("0.0001", "0.001"),
        ("966367641600m", "966367641.600"),
        ("500u", "0.001"),
        ("1500000n", "0.002"),
        ("2500000u", "2.500"),
        ("1E3", "1000.000"),
        ("1E-3", "0.001"),
    ],
)
def test_a_quantity_is_a_plain_number(text: str, number: str) -> None:
    """As in pods' requests and nodes' room; what is smaller than a thousandth is one."""
    assert str(parse_quantity(text)) == number


@pytest.mark.parametrize(
    "text", ["", "m", "1 Gi", "1GiB", "1U", "one", "1K", "1e999999999999999999", "9" * 40]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """With lightkube's words, which are in messages of ours."""
    with pytest.raises(ValueError, match=r"Invalid (quantity string|unit suffix|numerical value)"):
        parse_quantity(text)
    assert outcome(text) == outcome_of_theirs(text)


@settings(max_examples=1000)
@given(
    st.one_of(
        st.builds(str.__add__, NUMBERS, st.sampled_from(SUFFIXES)),
        st.builds(str.__add__, NUMBERS, st.text(max_size=3)),
        st.text(max_size=12),
    )
)
@example("1\n")
@example("٣Gi")
@example("1e-400")
def test_every_text_means_the_same_to_lightkube(text: str) -> None:
    """The same number with the same digits, or the same error."""
    assume(not ONLY_THE_SERVER_READS.fullmatch(text))
    ours, wanted = outcome(text), outcome_of_theirs(text)
    assert type(ours) is type(wanted)
    assert str(ours) == str(wanted)
