"""The monthly cost of a step for its preview: before and after, if the prices are known."""

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
    """Return a function that compares the plans of two ratios under a tariff; it makes each plan once.

    Args:
        settings: The stack's settings.
        survey: The cluster.
        headroom: Free share on top of the requests.
    """
    at = plans(settings, survey)
    return lambda before, after, tariff: compare(
        at(before), at(after), survey.inventory, settings.groups, tariff, headroom
    )


def stack_tariff(
    settings: "Settings", nodes: Iterable[Node], source: Literal["auto", "aws", "table"] = "auto"
) -> tuple[Tariff, str]:
    """Return the prices of a stack and why they come from the built-in table, as ``tariff_for`` does.

    Raises:
        ArchshiftError: The region is unknown; or ``source`` is ``aws``, and AWS gives no prices.
    """
    return tariff_for(
        settings.cost,
        settings.groups,
        nodes,
        source,
        in_aws=settings.platform == "eks",
        identity=settings.aws,
    )


def step_cost(survey: Survey, settings: "Settings") -> dict[str, Any]:
    """Return the cost of the observed share and of the planned share, as JSON values.

    ``archshift cost`` sizes both in the same way. A missing price does not fail a preview: ``unknown`` then
    has the reason.
    """
    plan = survey.plan
    if not settings.groups:
        return _unknown("archshift:node_groups is not set, so there are no nodes to price")
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
        step: The step against the cluster as it is.
        tariff: The prices.
        note: Why the prices do not come from AWS; empty if they do or need not.
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
