"""The gate's evidence: what counts as a pass, and everything that does not."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.ramp.gate_evidence import FRESH, GateEvidence, Move, parse_evidence, read_evidence_file
from tests.properties import examples

NOW = datetime(2026, 3, 9, 9, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=7)


def written(**change: Any) -> bytes:
    """What the gate writes; a pass for prod at 0.2 of ten minutes ago."""
    value = {
        "stack": "prod",
        "arm_ratio": 0.2,
        "verdict": "pass",
        "at": (NOW - timedelta(minutes=10)).isoformat(),
        "since": SINCE.isoformat(),
        "reasons": ["p95 latency is no worse"],
        "workloads": [{"workload": "shop/Deployment/cart", "verdict": "pass", "figures": {}}],
        **change,
    }
    return json.dumps(value).encode()


def why_refused(content: bytes, **change: Any) -> str:
    """Why it does not allow prod to leave 0.2."""
    asked: dict[str, Any] = {"stack": "prod", "ratio": 0.2, "now": NOW, "since": SINCE, **change}
    return parse_evidence(content).why_refused(**asked)


def test_a_pass_allows_to_leave_its_ratio() -> None:
    """Of this stack at this ratio, after it was set, of today."""
    assert why_refused(written()) == ""
    assert why_refused(written(stack="acme/archshift/prod")) == ""
    assert why_refused(written(), since=None) == ""
    assert why_refused(written(verdict="step-back"), verdict="step-back") == ""


@pytest.mark.parametrize(
    ("change", "asked", "why"),
    [
        ({"verdict": "hold", "reasons": ["too few requests"]}, {}, "it says hold: too few requests"),
        ({"verdict": "step-back", "reasons": []}, {}, "it says step-back"),
        ({"verdict": "unknown", "reasons": None}, {}, "it says unknown"),
        ({}, {"verdict": "step-back"}, "it says pass: p95 latency is no worse"),
        ({"stack": "staging"}, {}, "it is about the stack 'staging', not about prod"),
        ({"arm_ratio": 0.5}, {}, "it is about arm_ratio 0.5, but arm_ratio is 0.2 now"),
        ({}, {"ratio": 0.5}, "it is about arm_ratio 0.2, but arm_ratio is 0.5 now"),
        (
            {},
            {"since": NOW},
            "it is from 2026-03-09T08:50:00Z, before arm_ratio was set (2026-03-09T09:00:00Z)",
        ),
        ({}, {"now": NOW + FRESH}, "it is from 2026-03-09T08:50:00Z, more than 24 hours ago"),
        (
            {"at": "2026-03-09T09:06:00Z"},
            {},
            "it is from the future (2026-03-09T09:06:00Z); compare the clocks",
        ),
    ],
)
def test_what_is_no_pass_says_why(change: dict[str, Any], asked: dict[str, Any], why: str) -> None:
    """Another verdict, stack, ratio or time."""
    assert why_refused(written(**change), **asked) == why


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not the JSON that archshift gate writes"),
        (b"[]", "it is not the JSON that archshift gate writes"),
        (b"\xff", "it is not the JSON that archshift gate writes"),
        (b"[" * 100_000, "it is not the JSON that archshift gate writes"),
        (written(stack=None), "it names no stack"),
        (written(stack=""), "it names no stack"),
        (written(arm_ratio="0.2"), "its arm_ratio, '0.2', is not a number from 0.0 to 1.0"),
        (written(arm_ratio=True), "its arm_ratio, True, is not a number from 0.0 to 1.0"),
        (written(arm_ratio=float("nan")), "its arm_ratio, nan, is not a number from 0.0 to 1.0"),
        (written(arm_ratio=2), "its arm_ratio, 2, is not a number from 0.0 to 1.0"),
        (written(verdict="PASS"), "its verdict, 'PASS', is not pass, hold, step-back or unknown"),
        (written(verdict=["pass"]), "its verdict, ['pass'], is not pass, hold, step-back or unknown"),
        (written(verdict=None), "its verdict, None, is not pass, hold, step-back or unknown"),
        (written(at="2026-03-09T09:00:00"), "its at, '2026-03-09T09:00:00', is not a time with its zone"),
        (written(at=1772474400), "its at, 1772474400, is not a time with its zone"),
        (written(at="0001-01-01T00:00:00+14:00"), "is not a time with its zone"),
    ],
)
def test_what_does_not_hold_together_is_unknown(content: bytes, problem: str) -> None:
    """It never is a pass, and says what is wrong with it."""
    found = parse_evidence(content)
    assert (found.verdict, found.at, found.ratio) == ("unknown", None, None)
    assert problem in found.problem
    assert why_refused(content) == found.problem
    assert Move(ratio=0.5, wanted=50, graviton=20, previous=0.2, since=None).why_refused(
        found, stack="prod", now=NOW
    )


def test_reasons_are_lines_of_printable_text() -> None:
    """They end in commits and on terminals: no escape sequence, no second line, no megabyte."""
    (first, second, *_), more = (
        parse_evidence(
            written(reasons=["a\x1b[31m\nSigned-off-by: me", "x" * 5000, 7, " ", *["z"] * 99])
        ).reasons,
        parse_evidence(written(reasons="pass")).reasons,
    )
    assert first == "a [31m Signed-off-by: me"
    assert (len(second), second[-1]) == (300, "…")
    assert more == ()
    assert len(parse_evidence(written(reasons=["z"] * 99)).reasons) == 20


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    """No file is no evidence; a folder and a file without end are unknown."""
    path = tmp_path / "prod.json"
    assert read_evidence_file(path) is None
    path.write_bytes(written())
    assert read_evidence_file(path) == parse_evidence(written())
    odd = GateEvidence(problem="it is not a regular file")
    assert read_evidence_file(tmp_path) == odd
    assert read_evidence_file(Path("/dev/zero")) == odd
    large = tmp_path / "large.json"
    large.write_bytes(b" " * ((16 << 20) + 1))
    assert read_evidence_file(large) == GateEvidence(problem="it has more than 16777216 bytes")


def test_a_link_is_no_evidence(tmp_path: Path) -> None:
    """A pull request can commit one to any file, and a pipe never ends."""
    real = tmp_path / "real.json"
    real.write_bytes(written())
    link = tmp_path / "prod.json"
    link.symlink_to(real)
    assert read_evidence_file(link) == GateEvidence(problem="it is a symbolic link")
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    assert read_evidence_file(pipe) == GateEvidence(problem="it is not a regular file")


# --- in an update ---------------------------------------------------------------------------


def move(**change: Any) -> Move:
    """A fleet of 100 pods with 20 on Graviton that goes from 0.2 to 0.5."""
    values: dict[str, Any] = {"ratio": 0.5, "wanted": 50, "graviton": 20, "previous": 0.2, "since": None}
    return Move(**{**values, **change})


def update(content: bytes, **change: Any) -> str:
    """Why the evidence does not allow the move."""
    return move(**change).why_refused(parse_evidence(content), stack="prod", now=NOW)


@pytest.mark.parametrize(
    ("change", "up"),
    [
        ({}, True),
        ({"graviton": 34}, True),
        # Less than half of the step: an autoscaler moved the share, or an update is finished.
        ({"graviton": 36}, False),
        ({"graviton": 60}, False),
        ({"ratio": 0.2, "wanted": 20, "graviton": 0, "previous": 0.0}, False),
        # Half of the fleet is capped at 0.2.
        ({"wanted": 35, "graviton": 20}, True),
        ({"wanted": 35, "graviton": 30}, False),
        ({"ratio": 1.0, "wanted": 100, "graviton": 80, "previous": 0.8}, True),
        ({"wanted": 0, "graviton": 0}, False),
    ],
)
def test_a_step_goes_up_where_more_than_half_of_it_is_to_come(change: dict[str, Any], up: bool) -> None:
    """What drifted within its step is set right without a gate."""
    assert move(**change).goes_up == up
    assert (update(written(verdict="hold"), **change) != "") == up


@pytest.mark.parametrize(
    ("change", "fleet", "why"),
    [
        ({}, {}, ""),
        ({"arm_ratio": 0.3}, {}, ""),
        ({"arm_ratio": 0.1}, {}, "it is about arm_ratio 0.1, not about the step before, 0.2"),
        # Asked after the number was changed and before it was deployed: it judged another share.
        ({"arm_ratio": 0.5}, {}, "it is about arm_ratio 0.5, not about the step before, 0.2"),
        ({"arm_ratio": 1.0}, {}, "it is about arm_ratio 1, not about the step before, 0.2"),
        ({"verdict": "hold"}, {}, "it says hold: p95 latency is no worse"),
        ({"stack": "staging"}, {}, "it is about the stack 'staging', not about prod"),
        ({"at": "2026-03-01T08:59:00Z"}, {}, "it is from 2026-03-01T08:59:00Z, more than 8 days ago"),
        ({"at": "2026-03-01T08:59:00Z"}, {"since": datetime(2026, 3, 1, 9, tzinfo=UTC)}, ""),
        # Of before the last move that somebody wrote down: the number was moved by hand since.
        (
            {"at": "2026-03-01T08:59:00Z"},
            {"since": datetime(2026, 2, 20, tzinfo=UTC)},
            "it is from 2026-03-01T08:59:00Z, more than 8 days ago",
        ),
    ],
)
def test_an_update_asks_for_a_pass_of_the_step_before(
    change: dict[str, Any], fleet: dict[str, Any], why: str
) -> None:
    """Fresh when the step was taken, which may be a while before it is deployed."""
    assert update(written(**change), **fleet) == why


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@examples
@given(
    st.dictionaries(st.sampled_from(["stack", "arm_ratio", "verdict", "at", "reasons", "since"]), JSON),
    st.booleans(),
)
def test_no_nonsense_is_a_pass(change: dict[str, Any], whole: bool) -> None:
    """Whatever is in the file, reading it gives a verdict, and a pass only of prod at 0.2."""
    content = written(**change) if whole else json.dumps(change).encode()
    if why_refused(content) == "":
        value = json.loads(content)
        assert (value["stack"].rpartition("/")[2], value["arm_ratio"], value["verdict"]) == (
            "prod",
            0.2,
            "pass",
        )
