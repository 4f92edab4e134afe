"""`archshift doctor` on this machine; what it asks the lab for is in tests/lab."""

import argparse

import pytest

from archshift.cli.commands import doctor
from archshift.common.errors import ArchshiftError, SettingsError
from archshift.report.checks import CheckResult


def test_each_error_of_the_settings_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own way out, and the general one where an error has none."""
    errors = SettingsError([ArchshiftError("k: 1 is invalid", "use 2"), ArchshiftError("no stack")])

    def refuse(_: argparse.Namespace, *, nodes: bool) -> None:
        assert not nodes
        raise errors

    monkeypatch.setattr(doctor, "read_settings", refuse)
    monkeypatch.setattr(doctor, "pulumi", lambda *_: "v3.245.0")
    results = [result for result in doctor.examine(argparse.Namespace()) if result.check == "stack"]
    assert results == [
        CheckResult("stack", "problem", "k: 1 is invalid", "use 2"),
        CheckResult(
            "stack", "problem", "no stack", "run pulumi stack select, or name the stack with --stack"
        ),
    ]
