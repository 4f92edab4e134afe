"""``archshift cost``: what the nodes cost, and what moving to Graviton saves."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from rich.table import Table

from archshift.cli.stack import busy, print_json, read_settings
from archshift.cli.table import console, plain_table
from archshift.common.architectures import ARM64, display
from archshift.common.errors import ArchshiftError
from archshift.cost import wording as text
from archshift.cost.bill import (
    Bill,
    BillComparison,
    BillRange,
    Line,
    Range,
    Tariff,
    bill_of,
    make_bill,
    number_json,
    range_json,
    running,
)
from archshift.ramp.schedule import DEFAULT_STEPS
from archshift.report.step_cost import comparisons, stack_tariff
from archshift.settings.stack import Settings
from archshift.survey import Survey, survey


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """The costs to print.

    Attributes:
        now: The running nodes.
        today: The nodes that today's arm_ratio needs.
        steps: The comparison of each ratio with ratio 0.
        next_step: The next step against today's ratio; None at the end of the ramp.
        next_ratio: The ratio of the next step.
        without_commitments: The last step without commitments; None if there are none.
        headroom: Free share on top of the requests.
        note: Why the prices do not come from AWS; empty if they do or need not.
    """

    tariff: Tariff
    now: Bill
    today: BillRange
    steps: dict[float, BillComparison]
    next_step: BillComparison | None
    next_ratio: float
    without_commitments: BillComparison | None
    headroom: float
    note: str


def run(options: argparse.Namespace) -> int:
    """Print the costs; returns the exit code."""
    with busy("reading the stack and the cluster") as watch:
        settings = read_settings(options, nodes=True)
        if not settings.groups:
            raise ArchshiftError(
                "archshift:node_groups is not set",
                "set the node groups for the pods, and archshift prices their nodes",
            )
        cluster_survey = survey(settings, watch=watch)
    with busy("asking for prices"):
        tariff, note = stack_tariff(settings, cluster_survey.inventory.nodes, options.prices)
    cost = _cost(settings, cluster_survey, tariff, note, options)
    if options.json:
        print_json(as_json(cost))
    else:
        print_cost(cost)
    return 0


def _cost(
    settings: Settings, cluster_survey: Survey, tariff: Tariff, note: str, options: argparse.Namespace
) -> _Cost:
    against = comparisons(settings, cluster_survey, options.headroom)
    today = settings.arm_ratio
    following = next((ratio for ratio in DEFAULT_STEPS if ratio > today), 1.0)
    wanted = options.steps or dict.fromkeys((following, 1.0))
    freely = replace(tariff, rules=replace(tariff.rules, commitments=()))
    return _Cost(
        tariff=tariff,
        now=make_bill(running(cluster_survey.inventory.nodes, settings.groups), tariff),
        today=bill_of(
            cluster_survey.plan, cluster_survey.inventory, settings.groups, tariff, options.headroom
        ),
        steps={ratio: against(0.0, ratio, tariff) for ratio in wanted},
        next_step=against(today, following, tariff) if following > today else None,
        next_ratio=following,
        without_commitments=against(0.0, max(wanted), freely) if tariff.commitments else None,
        headroom=options.headroom,
        note=note,
    )


def as_json(cost: _Cost) -> dict[str, Any]:
    """Return the costs as JSON values; money is USD a month unless a key says otherwise."""
    first = next(iter(cost.steps.values()))
    return {
        "region": cost.tariff.region,
        "now": _bill_json(cost.now),
        "at_zero": _spread_json(first.before),
        "today": _spread_json(cost.today),
        "steps": [{"arm_ratio": ratio, **_comparison_json(step)} for ratio, step in cost.steps.items()],
        "next_step": {"arm_ratio": cost.next_ratio, **_comparison_json(cost.next_step)}
        if cost.next_step
        else None,
        "without_commitments": {"arm_ratio": max(cost.steps), **_comparison_json(cost.without_commitments)}
        if cost.without_commitments
        else None,
        "claimed": range_json(text.CLAIMED),
        "assumptions": text.assumptions(cost.tariff, cost.headroom),
        "note": cost.note,
    }


def _comparison_json(step: BillComparison) -> dict[str, Any]:
    return {
        **_spread_json(step.after),
        "saving": range_json(step.saving),
        "saving_share": range_json(step.share, 4),
        "overlap": number_json(step.overlap),
        "unknown": list(step.unknown),
    }


def _spread_json(spread: BillRange) -> dict[str, Any]:
    return {
        "usd_per_month": range_json(spread.monthly),
        "at_least": number_json(spread.at_least),
        "unknown": list(spread.unknown),
        "groups": [_pair_json(*pair) for pair in _pairs(spread)],
        "stranded": [
            {"commitment": str(commitment), "usd_per_month": range_json(usd)}
            for commitment, usd in spread.stranded.items()
        ],
    }


def _bill_json(bill: Bill) -> dict[str, Any]:
    return {
        "usd_per_month": number_json(bill.total),
        "at_least": number_json(bill.known),
        "unknown": list(bill.unknown),
        "groups": [_pair_json(line, line) for line in bill.lines],
        "stranded": [
            {"commitment": str(commitment), "usd_per_month": number_json(usd)}
            for commitment, usd in bill.stranded.items()
            if usd
        ],
    }


def _pair_json(slow: Line, fast: Line) -> dict[str, Any]:
    node_count, price, nodes = slow.node_count, slow.price or fast.price, _nodes(slow, fast)
    return {
        "group": node_count.group,
        "architecture": node_count.architecture,
        "instance_type": node_count.instance_type,
        "spot": node_count.spot,
        "nodes": {"least": int(nodes.least), "most": int(nodes.most)},
        "usd_per_hour": number_json(price.usd, 6) if price else None,
        "price_source": price.source if price else None,
        "usd_per_month": range_json(_monthly(slow, fast)),
    }


def _pairs(spread: BillRange) -> Iterable[tuple[Line, Line]]:
    """Yield each group's line at both ends of the range; a group without nodes has a line with 0 nodes."""
    slow, fast = (
        {(line.node_count.group, line.node_count.instance_type): line for line in bill.lines}
        for bill in (spread.slow, spread.fast)
    )
    for key in dict.fromkeys((*slow, *fast)):
        line = slow[key] if key in slow else fast[key]
        none = replace(line, node_count=replace(line.node_count, nodes=0))
        yield slow.get(key, none), fast.get(key, none)


def _nodes(slow: Line, fast: Line) -> Range:
    return Range.of(Decimal(slow.node_count.nodes), Decimal(fast.node_count.nodes))


def _monthly(slow: Line, fast: Line) -> Range | None:
    if slow.monthly is None or fast.monthly is None:
        return None
    return Range.of(slow.monthly, fast.monthly)


def print_cost(cost: _Cost) -> None:
    """Print the costs for a person."""
    out = console()
    table = plain_table()
    for name in ("STEP", "GROUP", "SIDE", "TYPE"):
        table.add_column(name)
    for name in ("NODES", "USD/H EACH", "USD/MONTH"):
        table.add_column(name, justify="right")
    first = next(iter(cost.steps.values()))
    _add_rows(table, "now", [(line, line) for line in cost.now.lines], cost.now.total, cost.now.known)
    _add_rows(table, "0", _pairs(first.before), first.before.monthly, first.before.at_least)
    for ratio, step in cost.steps.items():
        _add_rows(table, f"{ratio:g}", _pairs(step.after), step.after.monthly, step.after.at_least)
    out.print(table)
    if cost.tariff.commitments:
        out.print("The sums include commitments, and exclude the usage that commitments cover.", style="dim")
    out.print()
    for sentence in sentences(cost):
        out.print(sentence)
    for sentence in dict.fromkeys(cost.now.unknown):
        out.print(f"Not counted for the running nodes: {sentence}.", style="yellow")
    if cost.note:
        out.print(f"List prices come from the built-in table: {cost.note}.", style="yellow")
    for source, names in _sources(cost).items():
        out.print(f"Prices of {', '.join(names)}: {source}.")
    out.print("Assumptions:")
    for sentence in text.assumptions(cost.tariff, cost.headroom):
        out.print(f"- {sentence}")


def _sources(cost: _Cost) -> dict[str, list[str]]:
    """Return the instance types by the source of their price."""
    spreads = [spread for step in cost.steps.values() for spread in (step.before, step.after)]
    bills = [cost.now, *(bill for spread in spreads for bill in (spread.slow, spread.fast))]
    types_by_source: dict[str, list[str]] = {}
    for line in (line for bill in bills for line in bill.lines if line.price):
        names = types_by_source.setdefault(line.price.source if line.price else "", [])
        if line.node_count.instance_type not in names:
            names.append(line.node_count.instance_type)
    return types_by_source


def _add_rows(
    table: Table,
    step: str,
    pairs: Iterable[tuple[Line, Line]],
    total: Decimal | Range | None,
    known: Decimal,
) -> None:
    for slow, fast in pairs:
        node_count, price = slow.node_count, slow.price or fast.price
        table.add_row(
            step,
            node_count.group or "(none)",
            display(ARM64) if node_count.architecture == ARM64 else "x86",
            f"{node_count.instance_type or '?'}{' Spot' if node_count.spot else ''}",
            text.money(_nodes(slow, fast)),
            f"{price.usd:.4f}" if price else "?",
            text.money(_monthly(slow, fast)),
        )
    money = f"at least {known:,.0f}" if total is None else text.money(total)
    table.add_row(step, "all", "", "", "", "", money, style="bold")


def sentences(cost: _Cost) -> list[str]:
    """Return sentences that explain the numbers."""
    sentences = [f"arm_ratio {ratio:g} against 0: {text.saving(step)}." for ratio, step in cost.steps.items()]
    if cost.next_step:
        sentences.append(f"The next step, {cost.next_ratio:g}, against today: {text.saving(cost.next_step)}.")
        if cost.next_step.overlap:
            sentences.append(
                "Until you remove the x86 nodes that it empties, it costs up to "
                f"{text.money(cost.next_step.overlap)} USD a month more."
            )
    ratio, last = max(cost.steps.items())
    sentences += [claim] if (claim := text.against_claim(ratio, last)) else []
    sentences += text.stranded(ratio, last)
    if cost.without_commitments:
        sentences.append(
            f"Without commitments, {ratio:g} would cost {text.saving(cost.without_commitments)}."
        )
    needed = cost.today.monthly
    if cost.now.total is not None and needed and cost.now.total > needed.most:
        sentences.append(
            f"The running nodes cost {text.money(cost.now.total - needed.most)} USD a month more than the "
            "pods need. You can save this on x86 too, so it does not count as Graviton's saving."
        )
    return sentences
