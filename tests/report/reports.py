"""Reports of previews, as the tests of their rendering make them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from archshift.common.redact import Redactor
from archshift.report.preview import PreviewReport, Run, make_report

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def row(workload: str = "shop/Deployment/web", **values: Any) -> dict[str, Any]:
    """One workload of a plan: four pods, of which two are to move."""
    return {
        "workload": workload,
        "kind": workload.split("/")[1] if "/" in workload else "Deployment",
        "owner": "web",
        "replicas": 4,
        "wanted": 2,
        "graviton": 0,
        "moves": 2,
        "action": "move",
        "restarts": True,
        "reachable": None,
        "reason": "",
        "cause": "",
        **values,
    }


def held(workload: str, reason: str, **values: Any) -> dict[str, Any]:
    """A workload that stays where it is."""
    fields = {"wanted": 0, "moves": 0, "action": "hold", "reason": reason, "cause": reason}
    return row(workload, **{**fields, **values})


def side(architecture: str, **values: Any) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "nodes": 3,
        "pods": 10,
        "vcpu": 12.0,
        "vcpu_needed": 4.0,
        "gib": 45.0,
        "gib_needed": 8.0,
        "shortage": "",
        **values,
    }


def plan(*rows: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """A plan as the program hands it over."""
    return {
        "arm_ratio": 0.5,
        "direction": "up",
        "placement": "patches",
        "restarted_pods": sum(each["replicas"] for each in rows if each["restarts"]),
        "advice": "",
        "fleet": {"pods": 4, "wanted": 2, "graviton": 0, "all_pods": 9},
        "workloads": list(rows or [row()]),
        "conflicts": [],
        "capacity_before": [side("amd64"), side("arm64", pods=0)],
        "capacity": [side("amd64", pods=8), side("arm64", pods=2)],
        "blockers": [],
        "unsteered": {},
        **values,
    }


def report(
    run: Run | None = None,
    left: Mapping[str, Any] | None = None,
    *,
    stack: str = "prod",
    packs: tuple[str, ...] = ("policies",),
    secrets: tuple[str, ...] = (),
    exceptions: tuple[str, ...] = (),
    refusals: tuple[str, ...] = (),
) -> PreviewReport:
    """The report of a run; a fine one that was asked about, unless told otherwise."""
    run = run or Run(succeeded=True, packs={"archshift|local|policies": "0.1.0"})
    plan_file = {
        "plan": plan() if left is None else left,
        "exceptions": list(exceptions),
        "refusals": list(refusals),
    }
    return make_report(stack, AT, run, plan_file, packs, Redactor(secrets))
