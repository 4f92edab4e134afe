"""The plan as JSON values: ``archshift plan --json`` prints them, and the program passes them on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from archshift.plan.reasons import policies_away

if TYPE_CHECKING:
    # Only for annotations.
    from archshift.common.architectures import Architecture
    from archshift.plan.capacity import Balance
    from archshift.plan.model import Plan


PLAN_FILE: Final = "ARCHSHIFT_PLAN_FILE"
"""The variable with the path of the file to which the program writes the plan for ``archshift preview``."""


def plan_json(plan: "Plan") -> dict[str, Any]:
    """Return the plan as JSON values."""
    return {
        "arm_ratio": plan.arm_ratio,
        "direction": plan.direction,
        "placement": plan.placed_by,
        "fleet": fleet_json(plan),
        "workloads": [
            {
                "workload": row.key,
                "kind": row.kind,
                "owner": row.owner,
                "replicas": row.replicas,
                "wanted": row.wanted,
                "graviton": row.graviton,
                "moves": row.moves,
                "action": row.action,
                "restarts": row.restarts,
                "restarted_pods": row.restarted_pods,
                "entry": row.entry,
                "reachable": row.reachable,
                "reason": row.reason,
                "cause": row.cause,
            }
            for row in plan.workloads
        ],
        "conflicts": [
            {
                "workload": conflict.workload,
                "field": conflict.field,
                "owner": conflict.owner,
                "forced": conflict.forced,
            }
            for conflict in plan.conflicts
        ],
        "capacity_before": _capacity(plan.before),
        "capacity": _capacity(plan.balances),
        "blockers": [str(blocker) for blocker in plan.blockers],
        "notes": [*plan.node_notes, *policies_away(plan.without_policy)],
        "troubles": troubles_json(plan),
        "unsteered": dict(plan.unsteered_reasons),
        "untried": plan.untried,
        "moves": plan.moves,
        "restarted_pods": plan.restarted_pods,
        "advice": plan.advice,
        "drift": list(plan.drift),
    }


def troubles_json(plan: "Plan") -> list[dict[str, Any]]:
    """Return the workloads with pods that do not run, or with a rollout that makes no progress."""
    return [{"workload": key, **asdict(trouble)} for key, trouble in sorted(plan.troubles.items())]


def fleet_json(plan: "Plan") -> dict[str, int]:
    """Return numbers of pods: ``pods`` of the fleet, which can move, and ``all_pods`` of all workloads."""
    return {
        "pods": plan.pods,
        "wanted": plan.wanted,
        "graviton": plan.graviton,
        "all_pods": plan.all_pods,
    }


def _capacity(sides: "Mapping[Architecture, Balance]") -> list[dict[str, Any]]:
    return [
        {
            "architecture": side.architecture,
            "nodes": side.nodes,
            "pods": side.demand.total.pods,
            "vcpu": side.capacity.vcpu,
            "vcpu_needed": side.demand.total.vcpu,
            "gib": round(side.capacity.gib, 2),
            "gib_needed": round(side.demand.total.gib, 2),
            "shortage": side.shortage,
        }
        for side in sides.values()
    ]


def bends_json(plan: "Plan") -> list[dict[str, Any]]:
    """Return the shares of autoscaled workloads as JSON values."""
    return [
        {
            "workload": bend.workload,
            "wanted": bend.wanted,
            "share": bend.share,
            "since": bend.since or None,
            "causes": list(bend.causes),
        }
        for bend in plan.bends
    ]
