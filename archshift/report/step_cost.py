"""What a step costs a month, for its preview: before and after, where the prices are known."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from archshift.common.defaults import DEFAULT_HEADROOM
from archshift.common.errors import ArchshiftError
from archshift.cost import wording
from archshift.cost.aws_prices import tariff_for
from archshift.cost.bill import BillComparison, Tariff, compare, number_json, range_json
from archshift.nodes.groups import Node
from archshift.survey import Survey, plans

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings


def comparisons(
    settings: "Settings", survey: Survey, headroom: float
) -> Callable[[float, float, Tariff], BillComparison]:
    """Return what compares the plans of two ratios under a tariff; each plan is made once.

    Args:
        settings: The stack's settings.
        found: The cluster.
        headroom: Room that is kept free, a share.
    """
    at = plans(settings, survey)
    return lambda before, after, tariff: compare(
        at(before), at(after), survey.inventory, settings.groups, tariff, headroom
    )


def stack_tariff(
    settings: "Settings", nodes: Iterable[Node], source: Literal["auto", "aws", "table"] = "auto"
) -> tuple[Tariff, str]:
    """Return the prices that apply to a stack, as ``tariff_for``.

    Args:
        settings: The stack's settings.
        nodes: The cluster's nodes.
        source: Who is asked for prices.

    Raises:
        ArchshiftError: The region is not known; or AWS alone was to be asked and gives nothing.
    """
    return tariff_for(
        settings.cost,
        settings.groups,
        nodes,
        source,
        in_aws=settings.platform == "eks",
        profile=settings.cluster.profile if settings.cluster else "",
    )


def step_cost(survey: Survey, settings: "Settings") -> dict[str, Any]:
    """Return the cost of what is there and of the step, as JSON values.

    Compared is the share that is observed with the one that is planned, as ``archshift cost`` sizes
    both. A preview does not fail for want of a price: then ``unknown`` says why.

    Args:
        found: The cluster.
        settings: The stack's settings.
    """
    plan = survey.plan
    if not settings.groups:
        return _unknown("archshift:node_groups is not set, so archshift sizes no nodes")
    try:
        tariff, note = stack_tariff(settings, survey.inventory.nodes)
        share = plan.graviton / plan.pods if plan.pods else 0.0
        step = comparisons(settings, survey, DEFAULT_HEADROOM)(share, plan.arm_ratio, tariff)
    except ArchshiftError as error:
        return _unknown(str(error))
    return as_json(step, tariff, note)


def as_json(step: BillComparison, tariff: Tariff, note: str) -> dict[str, Any]:
    """Return a step's cost as JSON values; money is USD a month.

    Args:
        step: What is there against the step.
        tariff: The prices.
        note: Why AWS was not asked for them; empty if it was, or need not be.
    """
    return {
        "region": tariff.region,
        "before": range_json(step.before.monthly),
        "after": range_json(step.after.monthly),
        "overlap": number_json(step.overlap),
        "saving": "" if step.saving is None else wording.saving(step),
        "unknown": list(step.unknown),
        "assumptions": wording.assumptions(tariff, DEFAULT_HEADROOM) + ([note] if note else []),
    }


def _unknown(reason: str) -> dict[str, Any]:
    empty = {"region": "", "before": None, "after": None, "overlap": None, "saving": ""}
    return {**empty, "unknown": [reason], "assumptions": []}
