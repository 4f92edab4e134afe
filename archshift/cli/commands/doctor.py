"""``archshift doctor``: checks everything that a step needs."""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Final

from archshift.cli.arguments.doctor import EXIT_FOUND
from archshift.cli.stack import busy, print_json, pulumi, read_settings
from archshift.cli.table import console, plain_table
from archshift.cluster.client import Cluster, connect
from archshift.cluster.inventory import read_inventory
from archshift.common.aws import NOBODY_SPECIAL
from archshift.common.errors import ArchshiftError
from archshift.ramp.prometheus import Prometheus, read_token
from archshift.report import doctor
from archshift.report.checks import FINE, CheckResult, from_error, run_check
from archshift.report.rights import check_rights
from archshift.settings.stack import Settings

_CLI_SECONDS: Final = 20.0

_STYLES: Final = {"warning": "yellow", "problem": "red", "unknown": "magenta"}


def run(options: argparse.Namespace) -> int:
    """Print the results; returns the exit code."""
    with busy("checking the engine, the cluster, registries and Prometheus"):
        findings = list(examine(options))
    fine = all(result.outcome in FINE for result in findings)
    if options.json:
        print_json({"fine": fine, "findings": [asdict(result) for result in findings]})
    else:
        print_findings(findings)
    return 0 if fine else EXIT_FOUND


def examine(options: argparse.Namespace) -> Iterator[CheckResult]:
    """Yield the result of each check."""
    yield from run_check(
        "engine", lambda: [doctor.check_engine(pulumi(options, "version"), version("pulumi"))]
    )
    settings: Settings | None = None
    try:
        settings = read_settings(options, nodes=False)
    except ArchshiftError as error:
        for each in error.errors:
            yield from_error("stack", each, fix="run pulumi stack select, or name the stack with --stack")
    else:
        yield CheckResult("stack", "ok", f"the settings of {settings.stack} are valid")
    yield from run_check("plugins", lambda: _plugins(options, settings))
    if settings and (settings.cluster or settings.aws != NOBODY_SPECIAL):
        yield doctor.check_aws_identity(settings.aws)
    # With a context of the user's own, nobody knows what the kubeconfig calls.
    if settings and settings.cluster and (settings.cluster.create or not settings.kube_context):
        yield doctor.check_aws_cli(_aws_cli_version())
    if settings is None:
        yield CheckResult(
            "cluster",
            "unknown",
            "the settings name the cluster, and they could not be read",
            "fix the engine or the stack first",
        )
        return
    if settings.cluster and settings.group_names:
        yield from run_check("node groups", lambda: _node_groups(options))
    yield from _of_cluster(settings)
    if settings.gate.prometheus:
        yield from run_check("Prometheus", lambda: _prometheus(settings))


def _plugins(options: argparse.Namespace, settings: Settings | None) -> Iterable[CheckResult]:
    names = ["kubernetes"]
    if settings and settings.cluster:
        names.append("aws")
        if settings.cluster.create:
            names.append("eks")
    try:
        listed = json.loads(pulumi(options, "plugin", "ls", "--json"))
        wanted = [doctor.Plugin(name, version(f"pulumi-{name}")) for name in names]
        if "eks" in names:
            wanted += doctor.plugins_inside("pulumi-eks", requires("pulumi-eks") or ())
    except ValueError:
        listed, wanted = None, []
    except PackageNotFoundError as error:
        raise ArchshiftError(
            f"the package {error.name} is not installed", "install archshift again"
        ) from None
    return doctor.check_plugins(listed, wanted, lambda name: shutil.which(name) is not None)


def _node_groups(options: argparse.Namespace) -> Iterable[CheckResult]:
    # EKS has the types and sizes that the settings leave out; so this also checks the rest of them.
    settings = read_settings(options, nodes=True)
    return doctor.check_node_groups(settings.eks_node_groups.values())


def _aws_cli_version() -> str | None:
    """Return what ``aws --version`` prints; None without the program."""
    try:
        done = subprocess.run(
            ["aws", "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CLI_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # Old versions print it as an error.
    return done.stdout + done.stderr


def _of_cluster(settings: Settings) -> Iterator[CheckResult]:
    try:
        connection = connect(settings.kube_context)
    except ArchshiftError as error:
        yield from_error("cluster", error)
        return
    with connection as cluster:
        answers = run_check("cluster", lambda: doctor.check_cluster(cluster))
        yield from answers
        if settings.cluster:
            yield doctor.check_identity(cluster, settings.cluster)
        if any(answer.outcome != "ok" for answer in answers):
            return
        if settings.cluster and settings.cluster.autoscaler == "cluster-autoscaler":
            yield from run_check("autoscaler", lambda: doctor.check_autoscaler(cluster), "unknown")
        yield from run_check("placement", lambda: [doctor.check_placement(cluster, settings.placement)])
        yield from check_rights(cluster, settings)
        yield from run_check("pods", _running(cluster, settings), "unknown", "fix the rights first")


def _running(cluster: Cluster, settings: Settings) -> Callable[[], Iterable[CheckResult]]:
    """Return the check of what runs in the cluster: its pods, and the registries of their images."""

    def check() -> Iterable[CheckResult]:
        inventory = read_inventory(cluster, settings.discovery, settings.field_manager)
        yield doctor.check_pods(inventory)
        if settings.images.check:
            yield from run_check(
                "registries", lambda: doctor.check_registries(cluster, inventory, settings.images), "unknown"
            )

    return check


def _prometheus(settings: Settings) -> Iterator[CheckResult]:
    with Prometheus(settings.gate.prometheus, read_token()) as prometheus:
        yield from doctor.check_prometheus(prometheus, settings, datetime.now(UTC))


def print_findings(findings: Iterable[CheckResult]) -> None:
    """Print the results for a person: a line for each check, and below it the fix."""
    listed = list(findings)
    table = plain_table()
    table.add_column("CHECK", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("RESULT, AND HOW TO FIX IT", overflow="fold")
    for result in listed:
        style = _STYLES.get(result.outcome)
        table.add_row(result.check, result.outcome, result.message, style=style)
        if result.fix:
            table.add_row("", "", f"-> {result.fix}")
    out = console()
    out.print(table)
    counts: dict[str, int] = {}
    for result in listed:
        counts[result.outcome] = counts.get(result.outcome, 0) + 1
    words: dict[str, Any] = {"problem": "problems", "warning": "warnings"}
    totals = [
        f"{number} {outcome if number == 1 else words.get(outcome, outcome)}"
        for outcome, number in counts.items()
        if outcome != "ok"
    ]
    out.print(f"{len(listed)} checks: {', '.join(totals) or 'all ok'}", style="bold")
