"""What the components register: types, names, inputs, parents and options."""

import base64
import logging
from collections.abc import Callable

import pytest

from archshift.common.architectures import ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.nodes.groups import Node, NodeGroup, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.plan.capacity import Demand, balance
from archshift.plan.model import Conflict, Plan, PlannedWorkload
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.preflight import report
from components.workload_patch import WorkloadPatch
from components.workload_patches import WorkloadPatches, WorkloadPatchesArgs
from tests.build import patched
from tests.components.recorder import Monitor, record

SHA = "0123456789abcdef0123456789abcdef01234567"


def patches(*rows: PlannedWorkload) -> Monitor:
    """Register the patches of a plan."""

    def program() -> None:
        WorkloadPatches(
            "workloads",
            WorkloadPatchesArgs(
                plan=Plan(arm_ratio=0.5, workloads=rows),
                field_manager="archshift/dev/patches",
                cluster="6a0c9f1e",
                commit=SHA,
            ),
        )

    return record(program)


@pytest.mark.parametrize(
    ("kind", "api_version"),
    [("Deployment", "apps/v1"), ("StatefulSet", "apps/v1"), ("CronJob", "batch/v1")],
)
def test_a_workload_gets_one_patch_under_our_name(kind: str, api_version: str) -> None:
    """Exactly the plan's body, the field manager and the cluster: no image, no force, nothing else."""
    (patch,) = patches(patched(kind, "cart")).of(WorkloadPatch.TYPE)
    assert (patch.name, patch.parent) == (f"shop/{kind}/cart", "workloads")
    provider = base64.b64decode(patch.inputs.pop("__provider"))
    # By reference: `pulumi destroy` without the program finds the class, and a new release changes no state.
    assert b"components.workload_patch" in provider
    assert len(provider) < 100
    assert patch.inputs == {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}},
        "fieldManager": "archshift/dev/patches",
        "force": False,
        "cluster": "6a0c9f1e",
    }


def test_only_a_patch_that_takes_or_reclaims_fields_forces() -> None:
    """Force is said on that patch alone."""
    done = patches(
        patched("Deployment", "pay", forced=True),
        patched("Deployment", "undone", reclaimed=True),
        patched("Deployment", "cart"),
    )
    forced = {one.name: one.inputs["force"] for one in done.of(WorkloadPatch.TYPE)}
    assert forced == {
        "shop/Deployment/pay": True,
        "shop/Deployment/undone": True,
        "shop/Deployment/cart": False,
    }


def test_workloads_left_alone_get_no_patch() -> None:
    """What is not patched cannot change; the fleet's numbers are exported all the same."""
    done = patches(patched("DaemonSet", "log", patch=None, wanted=None), patched("Deployment", "cart"))
    assert sorted(one.type for one in done.registered) == [
        "archshift:index:WorkloadPatches",
        WorkloadPatch.TYPE,
    ]
    assert done.outputs["workloads"] == {
        "fleet": {"pods": 2, "wanted": 1, "graviton": 0},
        "ratio": 0.5,
        "commit": SHA,
    }


def test_a_group_is_its_simulated_nodes() -> None:
    """Nodes as a kubelet would report them; another size of node is another node, made after."""

    def program() -> None:
        group = NodeGroup(
            name="arm",
            instance_type=INSTANCE_TYPES["m7g.large"],
            size=2,
            zones=("a", "b"),
            labels={"team": "shop"},
            taints=(Taint(key="arch", value="arm64"),),
        )
        NodeGroups("node-groups", NodeGroupsArgs(groups={"arm": group}))

    done = record(program)
    nodes = sorted(done.of("kubernetes:core/v1:Node"), key=lambda node: node.name)
    assert [node.name for node in nodes] == ["arm-0", "arm-1"]
    allocatable = {"cpu": "1930m", "memory": "7883194368", "pods": "29"}
    allocatable["ephemeral-storage"] = "18242267924"
    assert nodes[1].inputs == {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "arm-1",
            "annotations": {"pulumi.com/patchForce": "true"},
            "labels": {
                "team": "shop",
                "kubernetes.io/arch": "arm64",
                "beta.kubernetes.io/arch": "arm64",
                "kubernetes.io/os": "linux",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/hostname": "arm-1",
                "node.kubernetes.io/instance-type": "m7g.large",
                "beta.kubernetes.io/instance-type": "m7g.large",
                "topology.kubernetes.io/zone": "b",
                "failure-domain.beta.kubernetes.io/zone": "b",
                "topology.ebs.csi.aws.com/zone": "b",
                "architecture": "arm64",
                "archshift/node-group": "arm",
            },
        },
        "spec": {
            "taints": [
                {"key": "arch", "value": "arm64", "effect": "NoSchedule"},
                {"key": "archshift/arm64", "value": "", "effect": "PreferNoSchedule"},
            ]
        },
        "status": {"capacity": allocatable, "allocatable": allocatable},
    }
    assert {node.parent for node in nodes} == {"node-groups"}
    for node in nodes:
        assert list(node.request.replaceOnChanges) == [
            "status",
            'metadata.labels["node.kubernetes.io/instance-type"]',
        ]
        assert node.request.deleteBeforeReplace
    assert [one.type for one in done.of("archshift:index:NodeGroups")] == [NodeGroups.TYPE]
    assert done.outputs["node-groups"] == {"sizes": {"arm": 2}, "elsewhere": {}}


def test_policies_read_the_room_on_nodes_of_others() -> None:
    """Those that take pods, by architecture; a cordoned one holds nothing more."""
    labels = {"kubernetes.io/arch": "amd64"}
    others = [
        Node(name="a", labels=labels, millicpu=3920, memory=2**34, pods=58),
        Node(name="b", labels=labels, millicpu=1930, memory=2**33, pods=29),
        Node(name="c", labels=labels, millicpu=3920, memory=2**34, pods=58, schedulable=False),
    ]
    done = record(lambda: NodeGroups("node-groups", NodeGroupsArgs(groups={}, others=others)))
    assert done.outputs["node-groups"]["elsewhere"] == {
        "amd64": {"nodes": 2, "millicpu": 5850, "memory": 2**34 + 2**33, "pods": 87}
    }


def test_no_groups_is_no_nodes() -> None:
    """On EKS archshift manages none and registers none."""
    done = record(lambda: NodeGroups("node-groups", NodeGroupsArgs(groups={})))
    assert done.of("kubernetes:core/v1:Node") == []
    assert done.outputs["node-groups"] == {"sizes": {}, "elsewhere": {}}


CONFLICT = Conflict("shop/Deployment/cart", "spec.x", "helm", forced=False)
SHORT = balance([], {ARM64: Demand().plus(Resources(1000, 0), 2)})

Logged = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Report a plan as the program does; what the engine was told, in order."""

    def run(plan: Plan, *, fixed_capacity: bool) -> list[tuple[str, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            record(lambda: report(plan, None, fixed_capacity=fixed_capacity))
        return [
            (entry.levelname, entry.getMessage())
            for entry in caplog.records
            # What an event loop of another test says when it is collected is not the engine's.
            if entry.name != "asyncio"
            if "arm_ratio" in entry.getMessage() or entry.levelno > logging.INFO
        ]

    return run


def test_a_preview_says_the_step_and_its_conflicts(logged: Logged) -> None:
    """One line for the fleet and a warning a conflict."""
    plan = Plan(
        arm_ratio=0.5, workloads=(patched("Deployment", "cart", restarts=True),), conflicts=(CONFLICT,)
    )
    assert logged(plan, fixed_capacity=True) == [
        ("WARNING", str(CONFLICT)),
        (
            "INFO",
            "arm_ratio 0.5: 1 of 1 movable pods belong on Graviton (1 pod in all), 0 are there; "
            "1 workload rolls out",
        ),
    ]


def test_a_step_that_cannot_be_scheduled_stops_before_anything_is_registered(logged: Logged) -> None:
    """Where no autoscaler adds nodes; the sentence has the missing vCPU and the way out."""
    with pytest.raises(ArchshiftError) as error:
        logged(Plan(arm_ratio=0.8, balances=SHORT), fixed_capacity=True)
    message = str(error.value)
    assert message.startswith("arm_ratio 0.8 cannot be scheduled: Graviton lacks 2.0 vCPU, room for 2 pods: ")
    assert message.endswith("; raise the size in archshift:node_groups or choose another ratio")


def test_with_an_autoscaler_a_shortage_is_a_warning(logged: Logged) -> None:
    """Karpenter adds the nodes when the pods are there."""
    (level, message), _ = logged(Plan(arm_ratio=0.8, balances=SHORT), fixed_capacity=False)
    assert level == "WARNING"
    assert message.endswith("; an autoscaler must add nodes, or pods will stay pending")
