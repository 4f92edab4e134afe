"""Fields that someone else owns: said before, taken only when told to, and restored."""

import copy
import json

from components.workload_patch import WorkloadPatch
from tests.lab.lab_helpers import Cluster, Manifest, Result, Stack, deployment, node_groups


def helm_owned(namespace: str) -> Manifest:
    """A Deployment whose placement fields a Helm-like client owns."""
    in_zone = {"key": "topology.kubernetes.io/zone", "operator": "Exists"}
    return deployment(
        "payments",
        6,
        namespace,
        nodeSelector={"kubernetes.io/os": "linux"},
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [in_zone]}]
                },
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 50,
                        "preference": {
                            "matchExpressions": [
                                {
                                    "key": "topology.kubernetes.io/zone",
                                    "operator": "In",
                                    "values": ["eu-west-1a"],
                                }
                            ]
                        },
                    }
                ],
            }
        },
    )


def owned_by(item: Manifest, manager: str) -> list[Manifest]:
    """What a manager owns of an object, its time left out."""
    return [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in item["metadata"]["managedFields"]
        if entry["manager"] == manager
    ]


def warnings(result: Result) -> str:
    """The warnings of a run, in one text."""
    return "\n".join(result.diagnostics)


def test_an_owned_field_is_said_in_the_preview_and_left_alone(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """The first preview names workload, field, owner and the way out; all other workloads move."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.5"})
    cluster.apply(helm_owned(namespace), manager="helm")
    cluster.apply([deployment("web", 4, namespace)])
    spec = cluster.get("deployment", "payments", namespace)["spec"]
    preview = stack.preview()
    assert preview.succeeded, preview.output
    assert (
        f"{namespace}/Deployment/payments: spec.template.spec.affinity.nodeAffinity."
        "preferredDuringSchedulingIgnoredDuringExecution is owned by helm; set the placement there, or set "
        "force: true with a reason in archshift:workloads.overrides"
    ) in warnings(preview)
    step = stack.up()
    assert step.succeeded, step.output
    assert cluster.get("deployment", "payments", namespace)["spec"] == spec
    assert cluster.graviton_counts(namespace)["Deployment/web"] == 2
    rows = json.loads(stack.archshift("status", "--json").stdout)["workloads"]
    assert {row["workload"].rsplit("/", 1)[1]: row["wanted"] for row in rows} == {"payments": None, "web": 2}


def test_force_takes_the_field_and_destroy_gives_it_back(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """With force and a reason the share is exact, the state keeps what was there and whose it was, and
    destroy restores spec and owner, at a mixed share as well as with everything on one side.
    """
    key = f"{namespace}/Deployment/payments"
    workloads = {
        "namespaces": [namespace],
        "overrides": {key: {"force": True, "reason": "the chart is frozen until spring"}},
    }
    stack.config({"node_groups": node_groups(), "workloads": workloads})
    cluster.apply(helm_owned(namespace), manager="helm")
    before = cluster.get("deployment", "payments", namespace)
    for arm_ratio, wanted in (("0.5", 3), ("1.0", 6)):
        step = stack.config({"arm_ratio": arm_ratio}).up()
        assert step.succeeded, step.output
        assert cluster.graviton_counts(namespace)["Deployment/payments"] == wanted
        preview = stack.preview()
        assert (preview.exit_code, preview.changes) == (0, {}), preview.output
    kept = next(r for r in stack.resources() if r["type"] == WorkloadPatch.TYPE)
    taken = json.loads(kept["inputs"]["metadata"]["annotations"]["archshift/taken"])
    own = before["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert taken["preferred"] == {
        "manager": "helm",
        "operation": "Apply",
        "value": own["preferredDuringSchedulingIgnoredDuringExecution"],
    }
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    after = cluster.get("deployment", "payments", namespace)
    assert after["spec"] == before["spec"]
    assert owned_by(after, "helm") == owned_by(before, "helm")
    assert not owned_by(after, f"archshift/{stack.name}/patches")
    # The owner goes on as if nothing had been: its next apply neither conflicts nor changes a thing.
    cluster.apply(helm_owned(namespace), manager="helm")


def test_withdrawing_force_gives_the_field_back(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Without force the next up restores the owner's field and leaves the workload alone again; an owner
    that updates (kubectl apply) gets it back as well as one that applies.
    """
    key = f"{namespace}/Deployment/payments"
    forced = {
        "namespaces": [namespace],
        "overrides": {key: {"force": True, "reason": "tried for a day"}},
    }
    stack.config({"node_groups": node_groups(), "arm_ratio": "0.5", "workloads": forced})
    cluster.apply(helm_owned(namespace))
    before = cluster.get("deployment", "payments", namespace)
    step = stack.up()
    assert step.succeeded, step.output
    assert cluster.graviton_counts(namespace)["Deployment/payments"] == 3
    withdrawn = stack.config({"workloads": {"namespaces": [namespace]}}).up()
    assert withdrawn.succeeded, withdrawn.output
    after = cluster.get("deployment", "payments", namespace)
    assert after["spec"] == before["spec"]
    preview = stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {}), preview.output


def test_a_replaced_workload_is_patched_again(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Where someone deletes and makes a workload anew, the next up places it, though no setting changed."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.5"})
    web = deployment("web", 4, namespace)
    cluster.apply(copy.deepcopy(web))
    assert stack.up().succeeded
    cluster.lab.kubectl("delete", "deployment", "web", f"--namespace={namespace}")
    cluster.apply(web)
    cluster.wait_until_settled(namespace)
    step = stack.up()
    assert step.succeeded, step.output
    assert cluster.graviton_counts(namespace)["Deployment/web"] == 2
