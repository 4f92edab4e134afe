"""Texts about costs. Every saving is a range, and its assumptions are listed."""

from decimal import Decimal
from typing import Final

from archshift.common.architectures import AMD64
from archshift.cost.bill import HOURS_A_MONTH, BillComparison, Range, Tariff

CLAIMED: Final = Range(Decimal("0.2"), Decimal("0.4"))
"""The saving that people often claim for Graviton."""


def money(value: Range | Decimal | None) -> str:
    """Return whole numbers: ``310``, or ``310 to 420`` for a range; ``?`` if unknown."""
    if value is None:
        return "?"
    ends = (value, value) if isinstance(value, Decimal) else (value.least, value.most)
    return " to ".join(dict.fromkeys(f"{end:,.0f}" for end in ends))


def percents(share: Range) -> str:
    """Return shares as percentages."""
    return f"{' to '.join(dict.fromkeys(f'{end * 100:.0f}' for end in (share.least, share.most)))} %"


def saving(step: BillComparison) -> str:
    """Return what a change saves or costs: ``310 to 420 USD a month less (9 to 12 %)``."""
    if step.saving is None:
        return f"unknown: {'; '.join(step.unknown) or 'the stack has no node groups'}"
    least, most = step.saving.least, step.saving.most
    if least < 0 < most:
        return f"between {money(-least)} USD a month more and {money(most)} less"
    if most < 0:
        return f"{money(Range.of(-least, -most))} USD a month more"
    share = f" ({percents(step.share)})" if step.share else ""
    return f"{money(step.saving)} USD a month less{share}"


def against_claim(ratio: float, step: BillComparison) -> str:
    """Compare the saving that people claim with the saving of this fleet; empty if that is unknown.

    Args:
        step: The comparison of the step with ratio 0.
    """
    if step.share is None:
        return ""
    least, most = step.share.least, step.share.most
    if most < 0:
        result = f"pays {percents(Range.of(-least, -most))} more"
    elif least < 0:
        result = f"pays between {percents(Range.of(-least))} more and {percents(Range.of(most))} less"
    else:
        result = f"saves {percents(step.share)}"
    text = f"People often claim savings of {percents(CLAIMED)}; this fleet {result} at {ratio:g}."
    staying = sum(
        (
            line.monthly or Decimal(0)
            for line in step.after.slow.lines
            if line.node_count.architecture == AMD64
        ),
        start=Decimal(0),
    )
    return f"{text} The x86 nodes that stay cost {money(staying)} USD a month." if staying else text


def stranded(ratio: float, step: BillComparison) -> list[str]:
    """Return a sentence for each commitment that is partly unused after a step."""
    return [
        f"At {ratio:g}, {money(usd)} USD a month of a commitment are unused: {commitment}"
        + (
            f", which only covers {commitment.family}."
            if commitment.family
            else ", which covers more than the nodes use."
        )
        for commitment, usd in step.after.stranded.items()
        if usd.most >= 1
    ]


def assumptions(tariff: Tariff, headroom: float) -> list[str]:
    """Return the assumptions behind the numbers, a clause each."""
    rules = tariff.rules
    least, most = (f"{float(end):g}" for end in rules.speed)
    clauses = [
        f"nodes fit today's requests of pods and DaemonSets with {headroom * 100:g} % on top, and each group "
        "has at least its min_size; autoscalers, rollouts and packing may need more",
        f"a Graviton vCPU does {least} to {most} times the work of an x86 vCPU (archshift:cost.speed; the "
        "default is not a measurement); more than 1 saves money only after you lower the CPU requests",
        "at 0, workloads that archshift does not steer stay where they are, also on Graviton",
        f"only Linux nodes, {HOURS_A_MONTH} hours a month: no disks, traffic, load balancers, EKS fees or "
        "taxes",
    ]
    if rules.discounts:
        shares = ", ".join(
            f"{name} {float(share * 100):g} %" for name, share in sorted(rules.discounts.items())
        )
        clauses.append(f"discounts off the list price: {shares}")
    clauses += [f"paid in advance: {commitment}" for commitment in tariff.commitments]
    clauses += [
        f"not counted, because it has ended: {commitment}"
        for commitment in rules.commitments
        if not commitment.active(tariff.now)
    ]
    if not rules.commitments:
        clauses.append("no Savings Plans or Reserved Instances, because archshift:cost.commitments is empty")
    return clauses
