"""The whole program under mocks: settings to registrations, and errors to one sentence."""

import base64
import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest

from archshift import survey
from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from components import cluster_identity
from components.deletion_costs import DeletionCosts
from components.failed_canaries import FailedCanaries
from components.workload_patch import WorkloadPatch
from tests.build import configuration, node, pod, workload
from tests.components.recorder import Monitor, record
from tests.fakes import FakeCluster, proven

PROGRAM = Path(__file__).parent.parent / "__main__.py"
GROUPS = {
    "arm": {"instance_type": "m7g.xlarge", "size": 1},
    "x86": {"instance_type": "m7i.xlarge", "size": 1},
}


def run(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster | ArchshiftError, **config: Any) -> Monitor:
    """Run the program against a fake cluster."""

    def connect(_context: str | None = None) -> FakeCluster:
        if isinstance(cluster, ArchshiftError):
            raise cluster
        return cluster

    monkeypatch.setattr(survey, "connect", connect)
    monkeypatch.setattr(cluster_identity, "connect", connect)
    monkeypatch.setattr(survey, "read_evidence", proven)
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    values = configuration(**config)

    def program() -> None:
        pulumi.runtime.set_all_config(values)
        runpy.run_path(str(PROGRAM))

    return record(program)


def shop() -> FakeCluster:
    """Four carts on x86, a log agent, and a Deployment that pins amd64."""
    pins = {"nodeSelector": {"kubernetes.io/arch": "amd64"}}
    labels = {"pod-template-hash": "5d4f"}
    return FakeCluster(
        {
            "/apis/apps/v1/deployments": [
                workload(name="cart", replicas=4),
                workload(name="old", pod_spec=pins),
            ],
            "/apis/apps/v1/daemonsets": [workload("DaemonSet", "log")],
            "/api/v1/nodes": [node("live", "amd64")],
            "/api/v1/pods": [
                pod(f"cart-{index}", "live", owner=("ReplicaSet", "cart-5d4f"), labels=labels)
                for index in range(4)
            ],
        }
    )


def test_one_number_becomes_nodes_and_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the carts: nodes of both groups, one patch, and the numbers exported."""
    done = run(monkeypatch, shop(), arm_ratio="0.5", platform="lab", node_groups=GROUPS, kube_context="lab")
    assert sorted((one.type, one.name) for one in done.registered) == [
        ("archshift:index:ImageAudit", "images"),
        ("archshift:index:NodeGroups", "node-groups"),
        ("archshift:index:WorkloadPatches", "workloads"),
        ("kubernetes:core/v1:Node", "arm-0"),
        ("kubernetes:core/v1:Node", "x86-0"),
        (FailedCanaries.TYPE, "failed-canaries"),
        (WorkloadPatch.TYPE, "shop/Deployment/cart"),
        ("pulumi:providers:kubernetes", "cluster"),
    ]
    (patch,) = done.of(WorkloadPatch.TYPE)
    assert patch.inputs["fieldManager"] == "archshift/test/patches"
    spread, *_ = patch.inputs["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["maxSkew"] == 1
    (provider,) = done.of("pulumi:providers:kubernetes")
    assert provider.inputs == {"context": "lab"}
    assert done.exports == {
        "arm_ratio": 0.5,
        "fleet": {"pods": 4, "wanted": 2},
        "node_groups": {"arm": 1, "x86": 1},
        "cluster_uid": "6a0c9f1e",
    }


def test_pods_of_an_autoscaled_workload_get_deletion_costs_after_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And without such a workload nothing is registered, so that the engine gives all costs back."""
    done = run(
        monkeypatch,
        shop(),
        arm_ratio="0.5",
        platform="lab",
        node_groups=GROUPS,
        workloads={"autoscaled": {"shop/Deployment/cart": {}}},
    )
    (costs,) = done.of(DeletionCosts.TYPE)
    provider = base64.b64decode(costs.inputs.pop("__provider"))
    assert b"components.deletion_costs" in provider
    assert len(provider) < 100
    assert costs.inputs == {
        "shares": {"shop/Deployment/cart": [2, 4, 1, False]},
        "due": ["shop/Deployment/cart"],
        "fieldManager": "archshift/test/deletion-costs",
        "cluster": "6a0c9f1e",
        "ended": True,
    }
    at_rest = run(monkeypatch, shop(), arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    assert at_rest.of(DeletionCosts.TYPE) == []


def test_the_gates_evidence_is_registered_where_there_is_a_gate_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without either there is no component; a gate without a file says so; a file alone asks nothing."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, shop(), arm_ratio="0.5").of("archshift:index:Gate") == []
    found = run(monkeypatch, shop(), arm_ratio="0.5", gate={"evidence": "proof.json"}).outputs["gate"]
    assert (found["required"], found["problem"]) == (True, "there is no proof.json")
    (tmp_path / "gates").mkdir()
    evidence = {"stack": "test", "arm_ratio": 0.2, "verdict": "hold", "at": "2026-03-09T08:00:00Z"}
    (tmp_path / "gates" / "test.json").write_text(json.dumps(evidence))
    ramp = {"start": "2026-03-02", "since": "2026-03-09T08:10:00Z"}
    found = run(monkeypatch, shop(), arm_ratio="0.5", ramp=ramp).outputs["gate"]
    assert (found["required"], found["verdict"], found["ratio"]) == (False, "hold", 0.2)
    assert (found["at"], found["since"]) == ("2026-03-09T08:00:00+00:00", "2026-03-09T08:10:00+00:00")


def test_pods_move_only_after_the_nodes_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patches' component waits for the nodes, and each patch for its component. The state does not keep
    that, because a later run with --target could not write such a state.
    """
    done = run(monkeypatch, shop(), arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    (component,) = done.of("archshift:index:WorkloadPatches")
    assert [urn.rpartition("::")[2] for urn in component.request.dependencies] == ["cluster"]
    order = [one.type for one in done.registered]
    last_node = max(index for index, name in enumerate(order) if name == "kubernetes:core/v1:Node")
    assert last_node < order.index(component.type) < order.index(WorkloadPatch.TYPE)


def test_on_eks_nodes_are_found_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number alone, and a shortage that an autoscaler mends, pods move."""
    done = run(monkeypatch, shop(), arm_ratio="1.0")
    assert [one.name for one in done.of(WorkloadPatch.TYPE)] == ["shop/Deployment/cart"]
    assert done.of("kubernetes:core/v1:Node") == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"arm_ratio": "1.5"}, "archshift:arm_ratio: '1.5' is invalid; use a number from 0.0 to 1.0"),
        ({}, "archshift:arm_ratio is missing; pulumi config set arm_ratio 0.2"),
        (
            {"arm_ratio": "1.5", "platform": "gke"},
            "archshift:arm_ratio: '1.5' is invalid; use a number from 0.0 to 1.0\n"
            "archshift:platform: 'gke' is invalid; use eks or lab",
        ),
        (
            {"arm_ratio": "0.5", "workloads": {"overrides": {"shop/Deployment/crat": {"hold": True}}}},
            "archshift:workloads.overrides: 'shop/Deployment/crat' is not among the workloads found; did you "
            "mean shop/Deployment/cart or shop/Deployment/old?",
        ),
        (
            {"arm_ratio": "0.5", "workloads": {"autoscaled": {"shop/Deployment/crat": {}}}},
            "archshift:workloads.autoscaled: 'shop/Deployment/crat' is not among the workloads found; did "
            "you mean shop/Deployment/cart or shop/Deployment/old?",
        ),
        (
            {
                "arm_ratio": "1.0",
                "platform": "lab",
                "node_groups": {**GROUPS, "arm": {"instance_type": "m7g.large", "size": 0}},
            },
            "arm_ratio 1 cannot be scheduled: Graviton lacks 1.0 vCPU, 0.5 GiB, room for 4 pods: 4 pods ask "
            "for 1.0 vCPU and 0.5 GiB of the 0.0 vCPU and 0.0 GiB of 0 nodes; raise the size in "
            "archshift:node_groups or choose another ratio",
        ),
    ],
    ids=["ratio", "missing", "two errors", "override", "autoscaled", "capacity"],
)
def test_an_error_is_one_sentence_and_nothing_is_registered(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], sentence: str
) -> None:
    """RunError is what the engine prints without a traceback; its cause is cut off."""
    with pytest.raises(pulumi.RunError) as error:
        run(monkeypatch, shop(), **config)
    assert str(error.value) == sentence
    assert error.value.__suppress_context__


def test_a_cluster_that_cannot_be_read_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan is made from half a reading, and none from no reading."""
    with pytest.raises(pulumi.RunError, match=r"^the cluster cannot be reached$"):
        run(monkeypatch, ArchshiftError("the cluster cannot be reached"), arm_ratio="0.5")


def test_the_program_reads_the_cluster_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first resource, with this stack's name for ownership."""
    calls: list[str] = []

    def read(_cluster: object, _discovery: object, field_manager: str, **_how: bool) -> Inventory:
        calls.append(field_manager)
        cart = read_workload("Deployment", workload(name="cart", replicas=1), field_manager)
        return Inventory(workloads={cart.key: cart})

    monkeypatch.setattr(survey, "read_inventory", read)
    run(monkeypatch, shop(), arm_ratio="0.2")
    assert calls == ["archshift/test/patches"]


def grouped(*names: str, arch: str = "amd64", group: str = "x86") -> list[dict[str, Any]]:
    """Live nodes of one of the stack's groups."""
    made = [node(name, arch) for name in names]
    for one in made:
        one["metadata"]["labels"] |= {
            "archshift/node-group": group,
            "node.kubernetes.io/instance-type": "m7i.xlarge",
        }
    return made


def test_x86_is_protected_and_hooked_while_something_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Deployment pins amd64: the first x86 node that carries it is protected, and no other is."""
    groups = {**GROUPS, "x86": {"instance_type": "m7i.xlarge", "size": 2}}
    done = run(monkeypatch, shop(), arm_ratio="0.5", platform="lab", node_groups=groups)
    registered = {one.name: one.request for one in done.of("kubernetes:core/v1:Node")}
    assert {name for name, one in registered.items() if one.protect} == {"x86-0"}
    for one in registered.values():
        assert list(one.hooks.before_delete) == list(one.hooks.before_update) == ["archshift-guard-x86"]


def test_an_update_that_takes_x86_away_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is gone from the configuration, and a Deployment still pins amd64."""
    cluster = shop()
    cluster.objects["/api/v1/nodes"] = grouped("x86-0")
    with pytest.raises(pulumi.RunError) as error:
        run(monkeypatch, cluster, arm_ratio="0.5", platform="lab", node_groups={"arm": GROUPS["arm"]})
    assert str(error.value) == (
        "x86 capacity stays: 1 workload needs x86: shop/Deployment/old (it pins amd64 by its own "
        "nodeSelector): no x86 node is left where they can run; give these workloads images for arm64 and "
        "what else they need on Graviton nodes, or remove them (archshift report lists them)"
    )


def test_break_glass_is_in_the_state_and_lifts_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    """In force for an hour from now: no node is protected, and the state has who wanted it."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    glass = {"until": until.isoformat(), "reason": "region is lost", "ticket": "OPS-7"}
    done = run(monkeypatch, shop(), arm_ratio="0.5", platform="lab", node_groups=GROUPS, break_glass=glass)
    assert done.outputs["exceptions"] == {"policyExceptions": [], "breakGlass": glass}
    assert not any(one.request.protect for one in done.of("kubernetes:core/v1:Node"))
