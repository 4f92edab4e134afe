"""``archshift drain``: empties the x86 nodes."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from archshift.actions.drain import (
    NodeProgress,
    Outcome,
    check_only,
    drain,
    nodes_empty,
    nodes_to_drain,
    read_progress_of_all,
    undo,
)
from archshift.actions.drain_blockers import DrainBlocker, find_blockers, find_warnings
from archshift.cli.arguments.drain import EXIT_HELD
from archshift.cli.stack import busy, print_json, read_settings, say
from archshift.cli.table import console, plain_table
from archshift.cluster.budgets import BUDGETS, read_budget
from archshift.cluster.client import Cluster, connect
from archshift.cluster.entries import OTHERS
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.pods import Pod, list_pods
from archshift.common.text import counted
from archshift.settings.stack import Settings
from archshift.survey import survey


def run(options: argparse.Namespace) -> int:
    """Drain, rehearse a drain, or undo it; returns the exit code."""
    settings = read_settings(options, nodes=True)
    if options.undo:
        return _undo(options, settings)
    with connect(settings.kube_context) as cluster:
        with busy("reading the cluster and its images") as watch:
            # Read all evidence again, because the drain removes x86 capacity.
            cluster_survey = survey(
                settings,
                cluster=cluster,
                keep_evidence=False,
                guard_x86=settings.images.check,
                hold_untested=None,
                watch=watch,
            )
        nodes = cluster_survey.inventory.nodes
        check_only(options.only, nodes, settings.groups)
        select = partial(nodes_to_drain, groups=settings.groups, only=tuple(options.only))
        going = select(nodes)
        pods = _pods_on(cluster, {node.name for node in going})
        blockers = find_blockers(
            going=going,
            inventory=cluster_survey.inventory,
            plan=cluster_survey.plan,
            needs=cluster_survey.needs or (),
            pods=pods,
            budgets=map(read_budget, cluster.list(BUDGETS.collection())),
            groups=settings.groups,
            bare_pods=options.bare_pods,
        )
        warnings = find_warnings(pods, _deployments(cluster, pods))
        if blockers or options.dry_run:
            outcome = Outcome(nodes=tuple(read_progress_of_all(cluster, select)), evicted=0)
        else:
            outcome = drain(
                cluster,
                stack=settings.mark,
                select=select,
                budget=nodes_at_a_time(options.nodes, len(going)),
                bare_pods=options.bare_pods,
                timeout=options.timeout,
                say=partial(say, file=sys.stderr),
            )
            pods = _pods_on(cluster, {progress.node for progress in outcome.nodes})
    if options.json:
        print_json(as_json(settings, outcome, blockers, warnings, pods))
    else:
        waits = not options.only and any(OTHERS in data for data in cluster_survey.entries.values())
        print_table(outcome, blockers, warnings, pods, dry_run=options.dry_run, new_pods_wait=waits)
    return EXIT_HELD if blockers or outcome.waiting else 0


def _pods_on(cluster: Cluster, nodes: set[str]) -> list[Pod]:
    return [pod for pod in list_pods(cluster) if pod.node in nodes]


def _deployments(cluster: Cluster, pods: Iterable[Pod]) -> Iterator[dict[str, Any]]:
    """Yield the Deployments of the namespaces that have pods to move."""
    for namespace in sorted({pod.namespace for pod in pods if not pod.tied}):
        yield from cluster.list(CONTROLLERS["Deployment"].collection(namespace))


def nodes_at_a_time(text: str, nodes: int) -> int:
    """Return a number or a share of ``nodes`` as a number, at least 1."""
    return max(1, nodes * int(text[:-1]) // 100) if text.endswith("%") else int(text)


def as_json(
    settings: Settings,
    outcome: Outcome,
    blockers: Iterable[DrainBlocker],
    warnings: Iterable[DrainBlocker],
    pods: Sequence[Pod],
) -> dict[str, Any]:
    """Return the drain as JSON values; ``pods`` must move, ``tied`` pods go with the node."""
    return {
        "stack": settings.stack,
        "nodes": [
            {"node": mark.node, "group": mark.group, "state": mark.state, **_counts(mark, pods)}
            for mark in outcome.nodes
        ],
        "evicted": outcome.evicted,
        "blockers": [{"what": blocker.what, "reason": blocker.reason} for blocker in blockers],
        "warnings": [{"what": warning.what, "reason": warning.reason} for warning in warnings],
        "waiting": [
            {"what": held.what, "node": held.node, "reason": held.reason} for held in outcome.waiting
        ],
    }


def _counts(mark: NodeProgress, pods: Iterable[Pod]) -> dict[str, int]:
    here = [pod for pod in pods if pod.node == mark.node]
    tied = sum(pod.tied for pod in here)
    return {"pods": len(here) - tied, "tied": tied}


def print_table(
    outcome: Outcome,
    blockers: Sequence[DrainBlocker],
    warnings: Iterable[DrainBlocker],
    pods: Sequence[Pod],
    *,
    dry_run: bool,
    new_pods_wait: bool = False,
) -> None:
    """Print the drain for a person.

    Args:
        outcome: How it ended.
        blockers: What blocks it.
        warnings: What it does to services.
        pods: The pods that are left on the nodes.
        dry_run: Whether nothing was changed because of that.
        new_pods_wait: Whether the API server places pods of new workloads on x86.
    """
    out = console()
    table = plain_table()
    for name in ("NODE", "GROUP", "STATE"):
        table.add_column(name, overflow="fold")
    for name in ("PODS", "TIED"):
        table.add_column(name, justify="right")
    for mark in outcome.nodes:
        counts = _counts(mark, pods)
        table.add_row(mark.node, mark.group or "-", mark.state, str(counts["pods"]), str(counts["tied"]))
    out.print(table)
    out.print()
    for warning in warnings:
        out.print(f"warning: {warning}", style="yellow")
    for blocker in blockers:
        out.print(f"blocked: {blocker}", style="red")
    for held in outcome.waiting:
        out.print(f"held: {held}", style="red")
    out.print(_summary(outcome, blockers, pods, dry_run=dry_run), style="bold")
    if new_pods_wait and not (blockers or outcome.waiting or dry_run):
        out.print(
            "until then, pods of new workloads stay pending, because the API server places them on x86",
            style="yellow",
        )


def _summary(
    outcome: Outcome, blockers: Sequence[DrainBlocker], pods: Sequence[Pod], *, dry_run: bool
) -> str:
    total = len(outcome.nodes)
    left = sum(not pod.tied for pod in pods)
    empty = sum(not _counts(mark, pods)["pods"] for mark in outcome.nodes)
    if not total:
        return "there are no x86 nodes to drain"
    if blockers:
        return "nothing was changed; the lines above say what blocks the drain"
    if dry_run:
        return f"{counted(left, 'pod')} on {total - empty} of {total} x86 nodes would move"
    if outcome.waiting:
        then = "remove these causes and run archshift drain again, or run archshift drain --undo"
    else:
        then = "next: set the sizes of their node groups to 0 and run pulumi up"
    return f"{nodes_empty(empty, total, 'x86 nodes')}, pods moved: {outcome.evicted}; {then}"


def _undo(options: argparse.Namespace, settings: Settings) -> int:
    with connect(settings.kube_context) as cluster:
        done = undo(cluster, stack=settings.mark, only=options.only)
    if options.json:
        print_json({"stack": settings.stack, "uncordoned": done})
    else:
        names = ", ".join(done)
        say(f"uncordoned: {names}" if names else "no node is cordoned by a drain of this stack")
    return 0
