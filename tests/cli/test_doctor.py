"""`archshift doctor` on this machine; what it asks the lab for is in tests/lab."""

import argparse

import pytest

from archshift.cli.commands import doctor
from archshift.common.errors import ArchshiftError, SettingsError
from archshift.nodes.eks import EksCluster
from archshift.report.checks import CheckResult
from archshift.settings.stack import Settings


def test_what_eks_says_of_the_groups_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings alone nobody sees a wrong name of an import, or a right that is missing at EKS."""

    def read(_: argparse.Namespace, *, nodes: bool) -> Settings:
        if nodes:
            problem = "archshift:node_groups.x86.import: the cluster 'prod' has no node group 'genral'"
            raise SettingsError([ArchshiftError(problem, "correct the name")])
        return Settings(
            stack="prod",
            arm_ratio=0.2,
            cluster=EksCluster(name="prod"),
            group_names=("x86",),
            kube_context="none",
        )

    monkeypatch.setattr(doctor, "read_settings", read)
    monkeypatch.setattr(doctor, "pulumi", lambda *_: "v3.245.0")
    monkeypatch.setattr(doctor, "_of_cluster", lambda _settings: iter(()))
    results = [one for one in doctor.examine(argparse.Namespace()) if one.check == "node groups"]
    assert [(one.outcome, one.fix) for one in results] == [("problem", "correct the name")]
    assert "has no node group 'genral'" in results[0].message


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
