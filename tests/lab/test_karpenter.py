"""Karpenter itself brings up the nodes: the same promise from no node at all, and the same guard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.nodes.node_pools import API_VERSION, manifest
from archshift.settings.stack import load
from lab.control_plane import PROJECT, Lab, LabError
from lab.restarts import read_pods, restarted
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.exact import RAMP, expect_exact, fleet, own_rules, specs
from tests.lab.guard_matrix import (
    NO_CAPACITY,
    NO_CHECK,
    NO_PROTECT,
    Guarded,
    edited,
    guarded_cluster,
    legacy,
    stopped_by,
)
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, stateful_set, wait_for
from tests.lab.ordinary import planned_rows, went_well

pytestmark = pytest.mark.timeout(900)

NO_HOOK_OF_POOLS = ("            guard=hook,\n", "            guard=None,\n")
"""An edit of the program, for `edited`: pools have the hook also where nothing judges images."""

TYPES = ["c6i.xlarge", "m6i.xlarge", "m6i.2xlarge"]


@pytest.fixture(scope="module")
def karpenter_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running lab with Karpenter, in a temporary folder."""
    lab = Lab(tmp_path_factory.mktemp("karpenter"), karpenter=True)
    lab.start(print)
    yield lab
    lab.stop()


@pytest.fixture
def cluster(karpenter_lab: Lab) -> Iterator[Cluster]:
    """Its cluster, without nodes, pools and workloads; emptied again afterwards."""
    cluster = Cluster(karpenter_lab)
    yield cluster
    empty(cluster)


def empty(cluster: Cluster) -> None:
    """Remove what a test made, the pools and their nodes included."""
    cluster.clear()
    cluster.lab.kubectl("delete", "nodepools,nodeclaims", "--all", "--timeout=60s")
    cluster.lab.kubectl("wait", "--for=delete", "nodes", "--all", "--timeout=60s")


def pools(**options: Any) -> dict[str, Any]:
    """The value of `archshift:node_groups` for a pool of each kind."""
    limits = {"cpu": 100, "memory": "400Gi"}
    return {"x86": {"instance_types": TYPES, "limits": limits, **options}, "graviton": {"twin_of": "x86"}}


def configured(stack: Stack, namespace: str, **values: Any) -> Stack:
    """The stack with its pools, for workloads of one namespace."""
    workloads = {"namespaces": [namespace]}
    common = {"provisioner": "karpenter", "node_groups": pools(), "workloads": workloads}
    return stack.config({**common, **values})


def sides(cluster: Cluster) -> set[str]:
    """The architectures that there are nodes of."""
    return {node["metadata"]["labels"]["kubernetes.io/arch"] for node in cluster.all_of("nodes")}


# --- the pods --------------------------------------------------------------------------------


def test_a_ramp_from_no_node_at_all_is_exact_at_every_step_and_leaves_no_trace(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """With nothing but pending pods at the beginning: at 0.2, 0.5, 0.8, 1.0 and back at 0.5 every workload
    and the fleet are exact, those with soft rules of their own included; pods that wait for their nodes
    fail no update; no placeholder is left; a preview and a refresh find nothing; and destroy leaves every
    spec as it was.
    """
    configured(stack, namespace)
    cluster.apply(fleet(namespace))
    before, rules = specs(cluster, namespace), own_rules(cluster, namespace)
    assert cluster.all_of("nodes") == []
    for arm_ratio in RAMP:
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
        assert "arm64" in sides(cluster)
        assert own_rules(cluster, namespace) == rules
        assert cluster.all_of("pods", "default") == []
    preview = stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {}), preview.output
    refresh = stack.refresh()
    assert (refresh.exit_code, refresh.changes) == (0, {}), refresh.output
    gone = stack.destroy("--run-program")
    assert gone.succeeded, gone.output
    assert specs(cluster, namespace) == before
    assert cluster.all_of("nodepools") == []


def test_at_admission_a_step_restarts_what_moves_to_nodes_that_karpenter_makes(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """From no node at all; room is made before pods move, no template changes, and nothing is left."""
    configured(stack, namespace, placement="admission")
    cluster.apply([deployment("web", 8, namespace), deployment("cart", 6, namespace)])
    cluster.apply(stateful_set("db", 4, namespace))
    before = specs(cluster, namespace)
    went_well(stack.config({"arm_ratio": "0.0"}).up())
    # Nothing moves in this step, so it does not wait for pods that were pending before it.
    cluster.wait_until_settled(namespace)
    expect_exact(cluster, stack, namespace, 0.0)
    for arm_ratio in (0.5, 1.0):
        pods = read_pods(cluster.lab)
        went_well(stack.config({"arm_ratio": str(arm_ratio)}).up())
        expect_exact(cluster, stack, namespace, arm_ratio)
        again = sum(restarted(row, pods, read_pods(cluster.lab)) for row in planned_rows(stack).values())
        assert again == 9
        assert cluster.all_of("pods", "default") == []
    assert sides(cluster) >= {"arm64"}
    assert went_well(stack.up()).changes == {}
    assert specs(cluster, namespace) == before
    went_well(stack.destroy("--run-program"))
    assert specs(cluster, namespace) == before
    assert cluster.all_of("nodepools") == []


def test_a_step_that_the_limits_do_not_hold_is_told_before_anything_moves(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """In the preview, with what the limits leave; the pods stay where they are."""
    few = {**pools(), "graviton": {"twin_of": "x86", "limits": {"cpu": 4}}}
    configured(stack, namespace, arm_ratio="0.2", node_groups=few)
    web = deployment("web", 10, namespace)
    web["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1"
    cluster.apply(web)
    step = stack.up()
    assert step.succeeded, step.output
    expect_exact(cluster, stack, namespace, 0.2)
    refused = stack.config({"arm_ratio": "0.8"}).preview()
    assert refused.exit_code != 0
    assert (
        "arm_ratio 0.8 cannot be scheduled: Graviton lacks 4.1 vCPU: 8 pods ask for 8.0 vCPU and 0.5 GiB of "
        "the 3.9 vCPU"
    ) in " ".join(refused.output.split()), refused.output
    assert "raise the limits in archshift:node_groups or choose another ratio" in refused.output
    expect_exact(cluster, stack.config({"arm_ratio": "0.2"}), namespace, 0.2)


# --- pools that are there ---------------------------------------------------------------------


HELM = "helm"
"""Who made the pools that a stack takes over."""


def made_by_helm(name: str, *architectures: str, **spec: Any) -> Manifest:
    """A NodePool as people write it: by category, generation and vCPU, with labels of its own."""
    label = "karpenter.kwok.sh/instance-"
    requirements = [
        {"key": "kubernetes.io/arch", "operator": "In", "values": list(architectures)},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        {"key": f"{label}category", "operator": "In", "values": ["c", "m", "r"]},
        {"key": f"{label}generation", "operator": "Gt", "values": ["4"]},
        {"key": f"{label}cpu", "operator": "Lt", "values": ["9"]},
    ]
    template = {
        "metadata": {"labels": {"team": name}, "annotations": {"example.com/owner": "shop"}},
        "spec": {
            "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"},
            "requirements": requirements,
            "expireAfter": "Never",
        },
    }
    disruption = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "1h", "budgets": [{"nodes": "50%"}]}
    return {
        "apiVersion": API_VERSION,
        "kind": "NodePool",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "spec": {"template": template, "limits": {"cpu": "64"}, "disruption": disruption, **spec},
    }


def pinned(name: str, replicas: int, namespace: str, **selector: str) -> Manifest:
    """A workload whose pods may run only there; two of its pods fill a node of 8 vCPU."""
    made = deployment(name, replicas, namespace)
    pod = made["spec"]["template"]["spec"]
    pod["nodeSelector"] = selector
    pod["containers"][0]["resources"]["requests"]["cpu"] = "3"
    return made


def nodes_of(cluster: Cluster, pool: str) -> dict[str, tuple[str, str]]:
    """The nodes of a NodePool: name to uid and architecture."""
    return {
        node["metadata"]["name"]: (node["metadata"]["uid"], node["metadata"]["labels"]["kubernetes.io/arch"])
        for node in cluster.all_of("nodes")
        if node["metadata"]["labels"].get("karpenter.sh/nodepool") == pool
    }


def drifted(cluster: Cluster) -> set[str]:
    """The nodes that Karpenter is about to replace because their NodePool changed."""
    claims = json.loads(cluster.lab.kubectl("get", "nodeclaims", "--output=json"))["items"]
    return {
        claim["status"].get("nodeName", "")
        for claim in claims
        for condition in claim["status"].get("conditions", ())
        if (condition["type"], condition["status"]) == ("Drifted", "True")
    }


def is_ours(entry: dict[str, Any]) -> bool:
    return bool(entry["manager"].startswith("archshift/"))


def test_pools_are_taken_over_split_and_handed_back_without_replacing_a_node_that_fits(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Two pools of Helm's, one of x86 and one of both architectures, with nodes: the takeover of the first
    replaces no node, also with other limits. The second is split: its arm64 node moves to the twin, and each
    x86 node stays. A change that belongs to Helm is refused. Settings that go give back what was there.
    Handed back, the pools and nodes are there, and no field has an owner of ours.
    """
    cluster.apply([made_by_helm("general", "amd64", "arm64"), made_by_helm("batch", "amd64")], manager=HELM)
    cluster.apply(
        [
            pinned("web", 4, namespace, **{"team": "general", "kubernetes.io/arch": "amd64"}),
            pinned("job", 2, namespace, team="batch"),
            pinned("arm", 2, namespace, **{"kubernetes.io/arch": "arm64"}),
        ]
    )
    cluster.wait_until_settled(namespace)
    general, batch = nodes_of(cluster, "general"), nodes_of(cluster, "batch")
    (on_arm,) = [name for name, (_, architecture) in general.items() if architecture == "arm64"]
    on_x86 = {name: value for name, value in general.items() if name != on_arm}
    assert on_x86
    assert batch

    groups: dict[str, Any] = {
        "x86": {"import": "general"},
        "graviton": {"twin_of": "x86"},
        "batch": {"import": "batch"},
    }
    configured(stack, namespace, arm_ratio="0.2", node_groups=groups)
    refused = stack.preview()
    assert "the NodePool 'general' makes nodes of both architectures; add architecture: amd64" in " ".join(
        refused.output.split()
    )

    groups["x86"] = {"import": "general", "architecture": "amd64"}
    refused = stack.config({"node_groups": groups}).preview()
    assert "belong to others: helm owns requirements; change them where the NodePool is defined" in " ".join(
        refused.output.split()
    ), refused.output
    assert cluster.get("nodepool", "general")["spec"] == made_by_helm("general", "amd64", "arm64")["spec"]

    groups["x86"]["force"] = True
    groups["system"] = {"provisioner": "managed", "instance_type": "m6i.xlarge", "size": 1}
    preview = stack.config({"node_groups": groups}).preview()
    assert preview.succeeded, preview.output
    said = " ".join(preview.output.split())
    assert (
        f"x86: Karpenter replaces 1 of {len(general)} nodes of the NodePool general (50% at once), because "
        "they do not meet kubernetes.io/arch In amd64"
    ) in said
    assert "batch: archshift takes over the NodePool batch and replaces none of its" in said

    step = stack.up()
    assert step.succeeded, step.output
    wait_for(lambda: on_arm in drifted(cluster) or on_arm not in nodes_of(cluster, "general"))
    assert drifted(cluster) <= {on_arm}
    wait_for(lambda: on_arm not in nodes_of(cluster, "general"), 180)
    # A rollout's surge may have brought up a further node, and none has gone.
    assert nodes_of(cluster, "general").items() >= on_x86.items()
    assert {architecture for _, architecture in nodes_of(cluster, "general").values()} == {"amd64"}
    cluster.wait_until_settled(namespace)
    assert {architecture for _, architecture in nodes_of(cluster, "graviton").values()} == {"arm64"}
    graviton = cluster.get("nodepool", "graviton")["spec"]
    assert graviton["template"]["metadata"]["labels"].items() >= {"team": "general"}.items()
    assert graviton["template"]["spec"]["expireAfter"] == "Never"
    assert "system-0" in {node["metadata"]["name"] for node in cluster.all_of("nodes")}
    again = stack.preview()
    assert (again.exit_code, again.changes) == (0, {}), again.output

    groups["batch"] |= {"limits": {"cpu": 128}, "weight": 7, "force": True}
    step = stack.config({"node_groups": groups}).up()
    assert step.succeeded, step.output
    spec = cluster.get("nodepool", "batch")["spec"]
    assert (spec["limits"], spec["weight"]) == ({"cpu": "128"}, 7)
    assert drifted(cluster) == set()
    assert nodes_of(cluster, "batch").items() >= batch.items()
    meta = cluster.get("nodepool", "batch")["metadata"]
    (mine,) = (entry["fieldsV1"]["f:metadata"] for entry in meta["managedFields"] if is_ours(entry))
    assert meta["labels"] == {"app.kubernetes.io/managed-by": "Helm", "archshift/stack": stack.name}
    assert [*mine["f:labels"]] == ["f:archshift/stack"]

    groups["batch"] = {"import": "batch"}
    step = stack.config({"node_groups": groups}).up()
    assert step.succeeded, step.output
    assert cluster.get("nodepool", "batch")["spec"] == made_by_helm("batch", "amd64")["spec"]
    again = stack.preview()
    assert (again.exit_code, again.changes) == (0, {}), again.output

    for name in ("x86", "batch"):
        groups[name]["release"] = True
    released = stack.config({"node_groups": groups}).up()
    assert released.succeeded, released.output
    cluster.lab.kubectl("delete", "deployment", "arm", f"--namespace={namespace}")
    rest = stack.config({"node_groups": {}, "arm_ratio": "0.0"}).up()
    assert rest.succeeded, rest.output
    left = {pool["metadata"]["name"] for pool in cluster.all_of("nodepools")}
    assert left == {"general", "batch"}
    for name in left:
        meta = cluster.get("nodepool", name)["metadata"]
        assert [entry for entry in meta["managedFields"] if is_ours(entry)] == []
        assert HELM in {entry["manager"] for entry in meta["managedFields"]}
        assert meta["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
        assert [key for key in meta["annotations"] if key.startswith(("archshift/", "pulumi.com/"))] == []
    assert nodes_of(cluster, "general").items() >= on_x86.items()
    assert nodes_of(cluster, "batch").items() >= batch.items()


# --- the objects -----------------------------------------------------------------------------


def nodepool(**options: Any) -> Manifest:
    """The NodePool that settings make; None takes a key out."""
    provisioner = options.pop("provisioner", "karpenter")
    merged = {**pools()["x86"], **options}
    config = {
        "archshift:arm_ratio": "0.5",
        "archshift:provisioner": provisioner,
        "archshift:node_groups": json.dumps(
            {"x86": {key: value for key, value in merged.items() if value is not None}}
        ),
    }
    spec = manifest(load("test", config).node_pools["x86"])
    return {"apiVersion": API_VERSION, "kind": "NodePool", "metadata": {"name": "checked"}, "spec": spec}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"provisioner": "auto-mode"},
        {"instance_families": ["m6i", "m7i", "c6i", "c7i", "r6i", "r7i", "t3"]},
        {
            "limits": {"cpu": "1500m"},
            "zones": ["eu-west-1a"],
            "capacity_types": ["on-demand", "spot", "reserved"],
            "weight": 100,
            "labels": {"team": "shop", "example.com/pool": "main"},
            "taints": [{"key": "batch", "value": "yes"}, {"key": "gpu", "effect": "NoExecute"}],
            "consolidate_after": "1h30m",
            "budget": "100%",
            "side_taint": False,
        },
        {"consolidate_after": "Never", "budget": 0},
        {
            "instance_types": None,
            "instance_categories": ["c", "m", "r"],
            "min_generation": 5,
            "min_vcpu": 2,
            "max_vcpu": 32,
            "exclude_sizes": ["nano"],
            "limits": {"cpu": 64, "nodes": 3},
            "consolidation": "when-empty",
            "expire_after": "Never",
            "termination_grace_period": "48h",
            "startup_taints": [{"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"}],
            "annotations": {"example.com/owner": "shop"},
        },
        {"instance_types": None, "architecture": "amd64", "limits": "none"},
    ],
    ids=["plain", "auto mode", "families", "everything", "never", "categories", "any type"],
)
def test_the_api_server_takes_every_pool_that_settings_can_make(
    karpenter_lab: Lab, options: dict[str, Any]
) -> None:
    """Checked by the real one against the CRDs of the pinned release, which refuse a field that they do not
    know.
    """
    object_ = yaml.safe_dump(nodepool(**options))
    strict = ["apply", "--dry-run=server", "--validate=strict", "--filename=-"]
    assert "nodepool.karpenter.sh/checked created" in karpenter_lab.kubectl(*strict, stdin=object_)


def test_the_api_server_would_refuse_others(karpenter_lab: Lab) -> None:
    """So the test above can fail: a weight out of range, and a field that does not exist."""
    strict = ["apply", "--dry-run=server", "--validate=strict", "--filename=-"]
    for path, value, words in (
        (("weight",), 101, "spec.weight"),
        (("template", "spec", "nodes"), 3, 'unknown field "spec.template.spec.nodes"'),
    ):
        wrong = nodepool()
        at = wrong["spec"]
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        with pytest.raises(LabError) as error:
            karpenter_lab.kubectl(*strict, stdin=yaml.safe_dump(wrong))
        assert words in str(error.value)


# --- the guard -------------------------------------------------------------------------------


@dataclass
class GuardedPools(Guarded):
    """The guard's cluster, with an x86 NodePool that two amd64-only pods need, and a Graviton one."""

    @property
    def groups(self) -> dict[str, Any]:
        # Nothing is to be consolidated in the middle of a test that compares nodes.
        x86 = {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 16}, "consolidate_after": "Never"}
        return {"x86": {**x86, "labels": {"pool": "main"}}, "graviton": {"twin_of": "x86"}}

    def restore(self) -> None:
        """Bring configuration and stack back to where every attempt starts."""
        self.stack.config({"provisioner": "karpenter"})
        super().restore()

    def changed(self, change: dict[str, Any]) -> None:
        """Configure the x86 pool with a change; `name` renames it, None takes it out."""
        groups = self.groups
        groups["graviton"] = {**groups["x86"], "instance_types": ["m7g.xlarge"]}
        x86 = {**groups.pop("x86"), **change}
        if change.get("name", "x86"):
            groups[x86.pop("name", "x86")] = x86
        self.stack.config({"node_groups": groups})

    def pool(self) -> Any:
        """The x86 pool's spec in the cluster."""
        return self.cluster.get("nodepool", "x86")["spec"]


@pytest.fixture(scope="module")
def guarded(
    karpenter_lab: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedPools]:
    """The cluster and its stack, up: web on Graviton, legacy (amd64-only) on x86."""
    folder = tmp_path_factory.mktemp("guarded-pools")
    with guarded_cluster(karpenter_lab, registry, push, folder, GuardedPools) as guarded:
        assert isinstance(guarded, GuardedPools)
        guarded.cluster.apply(legacy(guarded))
        guarded.up()
        guarded.cluster.wait_until_settled(guarded.namespace)
        yield guarded
    empty(guarded.cluster)


@pytest.fixture
def kept(guarded: GuardedPools) -> Iterator[GuardedPools]:
    """Start an attempt from where all start, and assert that it changed nothing of x86."""
    guarded.restore()
    before = guarded.alive(), guarded.pool()
    assert len(before[0]["nodes"]) >= 2
    assert list(before[0]["pods"].values()) == ["Running", "Running"]
    yield guarded
    assert (guarded.alive(), guarded.pool()) == before


CHANGES: dict[str, dict[str, Any]] = {
    "remove the NodePool": {"name": None},
    "rename the NodePool": {"name": "intel"},
    "swap the NodePool's types to Graviton": {"instance_types": ["m7g.xlarge"]},
    "lower the NodePool's limits below the need": {"limits": {"cpu": 3}},
    "lower the NodePool's limits to 0": {"limits": {"cpu": 0}},
    "taint the NodePool": {"taints": [{"key": "retired"}]},
    "relabel the NodePool": {"labels": {"pool": "other"}},
}


@pytest.mark.parametrize("attempt", CHANGES)
def test_a_change_that_takes_x86_away_is_stopped(kept: GuardedPools, attempt: str) -> None:
    """In `up --yes --skip-preview`, with no pack given."""
    kept.changed(CHANGES[attempt])
    kept.record(attempt, kept.stack.up())


def test_what_takes_nothing_away_goes_through(kept: GuardedPools) -> None:
    """Weight and disruption, and limits that still hold the need: an update of the pool, no objection."""
    kept.changed({"weight": 50, "budget": "20%", "limits": {"cpu": 8}})
    fine = kept.stack.preview()
    assert fine.succeeded, fine.output
    assert [one.op for one in fine.operations_on("NodePool") if one.name == "x86"] == ["update"]


def test_a_destroy_asks_too(guarded: GuardedPools) -> None:
    """The engine does not delete without the program, and with it the hook answers."""
    guarded.restore()
    nodes, pool = guarded.alive()["nodes"], guarded.pool()
    guarded.record("destroy NodePools", guarded.stack.destroy(), guarded.stack.destroy("--run-program"))
    assert (guarded.alive()["nodes"], guarded.pool()) == (nodes, pool)
    # The patches go before the pools: what needs x86 has rolled out, and stayed there.
    guarded.up()
    guarded.cluster.wait_until_settled(guarded.namespace)


def test_the_hook_alone_keeps_the_pool(kept: GuardedPools) -> None:
    """Without the program's check, without protection and without a pack, it stops every preview."""
    program = edited(kept, NO_CHECK, NO_CAPACITY, NO_PROTECT)
    kept.unprotect()
    try:
        for attempt, change in CHANGES.items():
            kept.changed(change)
            run = kept.stack.preview(f"--cwd={program}")
            assert stopped_by(run.output) == "hook", run.output
            kept.record(f"{attempt} (hook alone)", run)
    finally:
        kept.restore()
        kept.up()


def test_the_policy_pack_and_protection_alone_keep_the_pool(kept: GuardedPools, tmp_path: Path) -> None:
    """With everything else edited away. The pack counts limits, and knows nothing of a workload's selectors;
    protection is about deletes.
    """
    blind = (NO_CHECK, NO_CAPACITY, NO_HOOK_OF_POOLS)
    unhooked, bare = edited(kept, *blind), edited(kept, *blind, NO_PROTECT)
    pack = f"--policy-pack={PROJECT / 'policies'}"
    config = tmp_path / "pack.json"
    config.write_text(json.dumps({"x86-node-group-protected": "disabled"}))
    try:
        assert kept.stack.up(f"--cwd={unhooked}").succeeded
        sound = kept.stack.preview(f"--cwd={unhooked}", pack)
        assert sound.succeeded, sound.output
        kept.changed({"name": None})
        kept.record("remove the NodePool (protection alone)", kept.stack.preview(f"--cwd={unhooked}"))
        kept.restore()
        assert kept.stack.up(f"--cwd={bare}").succeeded
        unprotected = kept.stack.preview(f"--cwd={bare}", pack)
        assert "The x86 node group x86 is not protected" in " ".join(unprotected.output.split())
        for attempt in [one for one in CHANGES if not one.startswith(("rename", "relabel"))]:
            kept.changed(CHANGES[attempt])
            run = kept.stack.preview(f"--cwd={bare}", pack, f"--policy-pack-config={config}")
            assert "x86-capacity-for-amd64-images" in run.output, run.output
            kept.record(f"{attempt} (policy pack alone)", run)
    finally:
        kept.restore()
        kept.up()
