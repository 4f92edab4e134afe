"""What the migration saves, for the report; each saving is a range."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from archshift.cost import wording
from archshift.cost.bill import BillComparison, Range, Tariff

_END = 1.0
"""The last ratio of a ramp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """The saving of one change of arm_ratio.

    Attributes:
        title: ``so far``, ``to come`` or ``in all``.
        text: The saving in words, including unknown prices.
        least: Lower end in USD a month; negative if the change costs more; None if unknown.
        most: Upper end.
        share_least: Lower end as a share of the cost before.
        share_most: Upper end.
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
    """The savings of the migration.

    Attributes:
        region: The AWS region of the prices; empty without a comparison.
        claimed_least: Lower end of the share that Graviton is often said to save.
        claimed_most: Upper end.
        remarks: How savings and claim compare, and how commitments reduce savings; one sentence each.
        assumptions: The assumptions behind the figures.
        problem: Why there is no comparison, in one sentence; empty if there is one.
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
    """Return the savings so far, those to come, and both together.

    Args:
        arm_ratio: The ratio now.
        against: Compares the plans of two ratios under a tariff.
        tariff: The prices.
        headroom: Free share on top of the requests.
        note: Why the prices come from the built-in table; empty if they do not.
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
        remarks.append(f"Without commitments, {_END:g} would cost {free}.")
    if note:
        remarks.append(f"List prices come from the built-in table: {note}.")
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
