"""The costs in words: every saving is a range, and comes with what it rests on."""

from decimal import Decimal
from typing import Final

from archshift.common.architectures import AMD64
from archshift.cost.bill import HOURS_A_MONTH, BillComparison, Range, Tariff

CLAIMED: Final = Range(Decimal("0.2"), Decimal("0.4"))
"""What people say that Graviton saves."""


def money(value: Range | Decimal | None) -> str:
    """Return whole numbers: one, or from the least to the most; ``?`` for what is not known."""
    if value is None:
        return "?"
    ends = (value, value) if isinstance(value, Decimal) else (value.least, value.most)
    return " to ".join(dict.fromkeys(f"{end:,.0f}" for end in ends))


def percents(share: Range) -> str:
    """Return shares as percentages."""
    return f"{' to '.join(dict.fromkeys(f'{end * 100:.0f}' for end in (share.least, share.most)))} %"


def saving(step: BillComparison) -> str:
    """Return what a change saves or costs: ``310 to 420 USD a month less (9 to 12 %)``.

    Where both ends of the range are the same whole number, that is said.
    """
    if step.saving is None:
        return f"not known: {'; '.join(step.unknown) or 'there are no node groups to size'}"
    least, most = step.saving.least, step.saving.most
    if least < 0 < most:
        return f"between {money(-least)} USD a month more and {money(most)} less"
    if most < 0:
        return f"{_both(Range.of(-least, -most))} more"
    share = f" ({percents(step.share)})" if step.share else ""
    return f"{_both(step.saving)} less{share}"


def _both(value: Range) -> str:
    said = money(value)
    return f"{said} USD a month" if " to " in said else f"at both ends {said} USD a month"


def against_claim(ratio: float, step: BillComparison) -> str:
    """Return how what people claim compares with what this fleet gets; empty where that is not known.

    Args:
        ratio: The ratio of the step.
        step: Its comparison with ratio 0.
    """
    if step.share is None:
        return ""
    least, most = step.share.least, step.share.most
    if most < 0:
        gets = f"pays {percents(Range.of(-least, -most))} more"
    elif least < 0:
        gets = f"gets between {percents(Range.of(-least))} more to pay and {percents(Range.of(most))} less"
    else:
        gets = f"gets {percents(step.share)}"
    said = f"{percents(CLAIMED)} less are often claimed; this fleet {gets} at {ratio:g}"
    staying = sum(
        (
            line.monthly or Decimal(0)
            for line in step.after.slow.lines
            if line.node_count.architecture == AMD64
        ),
        start=Decimal(0),
    )
    return f"{said}, with {money(staying)} USD a month of x86 nodes that stay." if staying else f"{said}."


def stranded(ratio: float, step: BillComparison) -> list[str]:
    """Return which commitments pay for nothing after a step, a sentence each."""
    return [
        f"At {ratio:g}, {money(usd)} USD a month are paid for nothing: {one}"
        + (f", is bound to {one.family}." if one.family else ", is more than is used.")
        for one, usd in step.after.stranded.items()
        if usd.most >= 1
    ]


def assumptions(tariff: Tariff, headroom: float) -> list[str]:
    """Return what the numbers rest on, a clause each."""
    rules = tariff.rules
    least, most = (f"{float(end):g}" for end in rules.speed)
    said = [
        f"nodes for today's requests of pods and DaemonSets and {headroom * 100:g} % on top, each group at "
        "least its min_size; autoscalers, rollouts and packing may take more",
        f"a Graviton vCPU does {least} to {most} times the work of one of x86, and more than 1 saves only "
        "once requests of CPU are lowered (archshift:cost.speed; a default is no measurement)",
        "at 0, what archshift does not steer stays where it is, on Graviton too",
        f"nodes alone, {HOURS_A_MONTH} hours a month, Linux: no disks, traffic, load balancers, EKS fees or "
        "taxes",
    ]
    if rules.discounts:
        given = ", ".join(
            f"{name} {float(share * 100):g} %" for name, share in sorted(rules.discounts.items())
        )
        said.append(f"off the list price: {given}")
    said += [f"paid in advance: {one}" for one in tariff.commitments]
    said += [f"over and not counted: {one}" for one in rules.commitments if not one.active(tariff.now)]
    if not rules.commitments:
        said.append("no Savings Plans, no Reserved Instances: archshift:cost.commitments names none")
    return said
