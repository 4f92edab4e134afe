"""A workload that archshift cannot place now keeps exactly what archshift set before."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Inventory
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan.model import PlannedWorkload, Rules
from archshift.plan.planner import make_plan
from tests.build import ARCH, BOTH_SIDES, MANAGER, REQUIRED, big_node, required_affinity, workload
from tests.fakes import Live

Json = dict[str, Any]

TAINTED = (BOTH_SIDES[0], big_node("arm", "arm64", taints=(Taint(key="team", value="ml"),)))


def row_of(
    live: Live,
    ratio: float,
    *,
    graviton: int = 0,
    nodes: tuple[Node, ...] = BOTH_SIDES,
    rules: Rules | None = None,
    verdict: WorkloadVerdict | None = None,
) -> PlannedWorkload:
    one = read_workload(live.kind, live.json(), MANAGER)
    pods = {(one.key, "arm64"): graviton, (one.key, "amd64"): one.replicas - graviton}
    (row,) = make_plan(
        arm_ratio=ratio,
        inventory=Inventory(workloads={one.key: one}, nodes=nodes, pods=pods),
        rules={one.key: rules} if rules else {},
        verdicts={one.key: verdict} if verdict else None,
    ).workloads
    return row


def steered(
    kind: str, ratio: float, *, rules: Rules | None = None, verdict: WorkloadVerdict | None = None
) -> Live:
    """A workload of four pods after an update at a ratio."""
    live = Live(kind, workload(kind, replicas=4))
    row = row_of(live, ratio, rules=rules, verdict=verdict)
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    return live


def template_of(spec: Json) -> Json:
    return {"spec": {"template": {"spec": spec}}}


PREFERS_ZONE = [{"weight": 1, "preference": required_affinity("zone", "a")["nodeSelectorTerms"][0]}]

OBSTACLES: Mapping[str, tuple[str, Json, tuple[Node, ...], str]] = {
    "paused": ("Deployment", {"spec": {"paused": True}}, BOTH_SIDES, "its rollouts are paused"),
    "partition": (
        "StatefulSet",
        {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}},
        BOTH_SIDES,
        "its rollouts stop at a partition",
    ),
    "on-delete": (
        "StatefulSet",
        {"spec": {"updateStrategy": {"type": "OnDelete"}}},
        BOTH_SIDES,
        "its pods change only when deleted",
    ),
    "taint": ("Deployment", {}, TAINTED, "does not tolerate the taint team"),
    "selector": (
        "Deployment",
        template_of({"nodeSelector": {"zone": "b"}}),
        BOTH_SIDES,
        "matches no x86 node",
    ),
    "own pin": ("Deployment", template_of({"nodeSelector": {ARCH: "arm64"}}), BOTH_SIDES, "pins arm64"),
    "cron job": (
        "CronJob",
        {"spec": {"jobTemplate": {"spec": {"template": {"spec": {"nodeSelector": {"zone": "b"}}}}}}},
        BOTH_SIDES,
        "matches no x86 node",
    ),
}


@pytest.mark.parametrize("later", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", OBSTACLES)
def test_what_cannot_be_placed_now_stays_as_it_is(name: str, later: float) -> None:
    """Whatever the ratio is by then: no field changes, no owner changes, no pod restarts."""
    kind, change, nodes, reason = OBSTACLES[name]
    live = steered(kind, 0.5)
    live.update(change, "kubectl")
    before = (live.fields, {owner: set(paths) for owner, paths in live.owners.items()}, live.generation)
    row = row_of(live, later, graviton=2, nodes=nodes)
    assert (row.action, row.wanted, row.movable) == ("keep", None, False)
    assert (row.restarts, row.exact) == (False, True)
    assert reason in row.reason
    assert row.reason.endswith("; its present placement stays")
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    assert (live.fields, live.owners, live.generation) == before


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_workload_in_which_archshift_owns_nothing_is_left_alone(name: str) -> None:
    kind, change, nodes, reason = OBSTACLES[name]
    live = Live(kind, workload(kind, replicas=4))
    live.update(change, "kubectl")
    row = row_of(live, 0.5, nodes=nodes)
    assert (row.action, row.patch) == ("leave", None)
    assert reason in row.reason
    assert "stays" not in row.reason


def test_a_paused_workload_with_images_for_x86_alone_keeps_its_pin() -> None:
    """Without the pin, its next pods could start on Graviton."""
    broken = WorkloadVerdict("shop/Deployment/cart", AMD64_ONLY, (), ())
    live = steered("Deployment", 0.5, verdict=broken)
    live.update({"spec": {"paused": True}}, "kubectl")
    row = row_of(live, 1.0, verdict=broken)
    assert row.action == "keep"
    assert row.patch is not None
    affinity = row.patch["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert affinity == {REQUIRED: required_affinity(ARCH, "amd64")}


def test_a_field_that_somebody_took_over_is_no_longer_in_the_kept_patch() -> None:
    """``kubectl edit`` changes one field while the workload is paused: its new owner keeps it."""
    live = steered("Deployment", 0.75)
    live.update(
        {
            "spec": {
                "paused": True,
                "template": {
                    "spec": {
                        "affinity": {
                            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": PREFERS_ZONE}
                        }
                    }
                },
            }
        },
        "kubectl-edit",
    )
    row = row_of(live, 0.75, graviton=3)
    assert row.action == "keep"
    assert row.patch is not None
    assert set(row.patch["spec"]["template"]["spec"]) == {"topologySpreadConstraints"}
    generation = live.generation
    live.apply(row.patch, MANAGER)
    assert live.generation == generation


def test_a_forced_workload_that_is_paused_keeps_what_it_took() -> None:
    """The annotation from which the owner gets its field back stays, too."""
    live = Live("Deployment", workload(replicas=4))
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": PREFERS_ZONE}
    live.apply(template_of({"affinity": {"nodeAffinity": preferred}}), "helm")
    rules = Rules(force=True, reason="agreed")
    first = row_of(live, 0.5, rules=rules)
    assert first.patch is not None
    live.apply(first.patch, MANAGER, force=True)
    live.update({"spec": {"paused": True}}, "kubectl")
    row = row_of(live, 1.0, rules=rules)
    assert (row.action, row.forced) == ("keep", True)
    assert row.patch is not None
    assert row.patch == first.patch


@pytest.mark.parametrize(
    "own",
    [
        {"nodeSelector": {ARCH: "amd64"}},
        {"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}},
    ],
)
def test_a_pin_of_the_application_that_contradicts_ours_gets_its_way(own: Json) -> None:
    """Both pins together match no node, so its pods would stay pending: ours goes."""
    live = steered("Deployment", 1.0)
    live.update(template_of(own), "kubectl")
    row = row_of(live, 1.0, graviton=4)
    assert (row.action, row.patch) == ("leave", None)
    assert "pins amd64" in row.reason


def test_a_daemon_set_that_is_proven_now_loses_its_pin() -> None:
    """Its pin only lasted until its images run on arm64."""
    live = Live("DaemonSet", workload("DaemonSet"))
    live.apply(
        template_of({"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "amd64")}}}), MANAGER
    )
    row = row_of(live, 1.0)
    assert (row.action, row.patch) == ("leave", None)
