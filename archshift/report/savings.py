"""What moving saves, for the report: each a range, in the words of the costs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from archshift.cost import wording
from archshift.cost.bill import BillComparison, Range, Tariff

_END = 1.0
"""The last ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What a change of arm_ratio saves.

    Attributes:
        title: ``so far``, ``to come`` or ``in all``.
        before: The ratio compared with.
        after: The ratio.
        text: In words; says what is not known.
        least: USD a month less, at least; negative if it costs more; None if not known.
        most: At most.
        share_least: The same as a share of what the first costs.
        share_most: At most.
    """

    title: str
    before: float
    after: float
    text: str
    least: float | None = None
    most: float | None = None
    share_least: float | None = None
    share_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What moving saves.

    Attributes:
        region: The AWS region of the prices; empty where nothing was compared.
        changes: The savings.
        claimed_least: The share that people say Graviton saves, at least, and
        claimed_most: at most.
        remarks: How the two compare, and what commitments eat, a sentence each.
        assumptions: What the figures rest on, a clause each.
        problem: Why nothing could be compared, in a sentence; empty if it could.
    """

    region: str = ""
    changes: tuple[Saving, ...] = ()
    claimed_least: float = float(wording.CLAIMED.least)
    claimed_most: float = float(wording.CLAIMED.most)
    remarks: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    problem: str = ""


def make_savings(
    arm_ratio: float,
    against: Callable[[float, float, Tariff], BillComparison],
    tariff: Tariff,
    headroom: float,
    note: str = "",
) -> Savings:
    """Return what was saved so far, what is to come, and both.

    Args:
        arm_ratio: The ratio now.
        against: Compares the plans of two ratios under a tariff.
        tariff: The prices.
        headroom: Share of the requests kept free in these comparisons.
        note: Why prices are the built-in table's; empty if they are not.
    """
    changes = {"in all": (0.0, _END)}
    if 0 < arm_ratio < _END:
        changes = {"so far": (0.0, arm_ratio), "to come": (arm_ratio, _END), **changes}
    compared = {title: against(*ends, tariff) for title, ends in changes.items()}
    whole = compared["in all"]
    remarks = [wording.against_claim(_END, whole), *wording.stranded(_END, whole)]
    if tariff.commitments:
        freely = replace(tariff, rules=replace(tariff.rules, commitments=()))
        free = wording.saving(against(0.0, _END, freely))
        remarks.append(f"If nothing were paid in advance, {_END:g} would cost {free}.")
    if note:
        remarks.append(f"List prices are the built-in table's: {note}.")
    return Savings(
        region=tariff.region,
        changes=tuple(_saving(title, *changes[title], comparison) for title, comparison in compared.items()),
        remarks=tuple(filter(None, remarks)),
        assumptions=tuple(wording.assumptions(tariff, headroom)),
    )


def _saving(title: str, before: float, after: float, comparison: BillComparison) -> Saving:
    least, most = _ends(comparison.saving, 2)
    share_least, share_most = _ends(comparison.share, 4)
    return Saving(
        title=title,
        before=before,
        after=after,
        text=wording.saving(comparison),
        least=least,
        most=most,
        share_least=share_least,
        share_most=share_most,
    )


def _ends(value: Range | None, digits: int) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    return float(round(value.least, digits)), float(round(value.most, digits))
