"""The engine gets printable text alone: in its log, its errors and its state."""

from unittest.mock import patch

import pulumi

from archshift.common.errors import ArchshiftError, SettingsError
from components import engine_text

BAD = "a\x1b[2J\nforged: b\u202e\ud800"
GOOD = "a�[2J forged: b��"


def test_lines_of_the_log_are_one_line_each() -> None:
    """Names of workloads and words of registries are in them."""
    with patch("pulumi.info") as info, patch("pulumi.warn") as warn:
        engine_text.info(BAD)
        engine_text.info(BAD, ephemeral=True)
        engine_text.warn(BAD)
    assert [call.args for call in (*info.call_args_list, *warn.call_args_list)] == [(GOOD,)] * 3
    assert info.call_args.kwargs == {"ephemeral": True}


def test_an_error_has_a_line_for_each_problem() -> None:
    """And no line that a value forged."""
    error = SettingsError([ArchshiftError(BAD), ArchshiftError("second")])
    assert str(engine_text.run_error(error)) == f"{GOOD}\nsecond"
    assert str(engine_text.run_error(BAD)) == GOOD


def test_the_state_can_be_written() -> None:
    """Its protocol refuses lone surrogates, which JSON may have; what is no text stays."""
    output = pulumi.Output.from_input("x")
    found = engine_text.outputs({"a": {BAD: [BAD, 1, None]}, "b": output})
    text = GOOD.replace(" forged", "\nforged")
    assert found["a"] == {text: [text, 1, None]}
    assert found["b"] is output
