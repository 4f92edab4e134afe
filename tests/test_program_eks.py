"""The whole program on EKS; mocks stand in for AWS, a fake cluster for the API server."""

import ast
import json
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
import yaml

from archshift import survey
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL, INSTANCE_TYPE_LABEL
from archshift.nodes import live_groups
from archshift.nodes.eks import EksCluster
from archshift.nodes.live_groups import LiveGroup
from components import cluster_identity, guard
from components.failed_canaries import FailedCanaries
from components.workload_patch import WorkloadPatch
from tests.build import Json, configuration, live_group, live_pool, node, pod, workload
from tests.components.eks import (
    DEPLOYER,
    GET_CALLER,
    GET_CLUSTER,
    GET_OFFERINGS,
    GET_SUBNET,
    NODE_GROUP,
    Aws,
    Refused,
)
from tests.components.recorder import Answer, Monitor, record
from tests.fakes import FakeCluster, proven

PROGRAM = Path(__file__).parent.parent / "__main__.py"
ARN = "arn:aws:eks:eu-west-1:123456789012:cluster/prod"
CLUSTER = {"name": "prod", "subnets": ["subnet-a", "subnet-b"], "node_role": "arn:aws:iam::1:role/nodes"}
X86 = {"instance_types": ["t3.xlarge"], "desired_size": 5}
TWINS = {"x86": X86, "graviton": {"twin_of": "x86", "desired_size": 3}}
FOUND = {"arn": ARN, "endpoint": "https://prod.eks", "certificateAuthorities": [{"data": "Q0E="}]}


def eks_node(name: str, group: str, kind: str = "t3.xlarge", arch: str = "amd64", **labels: str) -> Json:
    """A node of a managed group, as EKS and archshift label it."""
    made = node(name, arch)
    made["metadata"]["labels"] |= {GROUP_LABEL: group, INSTANCE_TYPE_LABEL: kind, **labels}
    return made


def shop(*nodes: Json, pins: str = "") -> FakeCluster:
    """Four carts on the first node, which pin an architecture if they are told to."""
    spec = {"nodeSelector": {"kubernetes.io/arch": pins}} if pins else {}
    first = nodes[0]["metadata"]["name"] if nodes else ""
    labels = {"pod-template-hash": "5d4f"}
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload(name="cart", replicas=4, pod_spec=spec)],
            "/api/v1/nodes": list(nodes),
            "/api/v1/pods": [
                pod(f"cart-{index}", first, owner=("ReplicaSet", "cart-5d4f"), labels=labels)
                for index in range(4)
            ],
        }
    )
    cluster.server, cluster.authority = "https://prod.eks", "Q0E="
    return cluster


def run(
    monkeypatch: pytest.MonkeyPatch,
    there: FakeCluster,
    *,
    found: Mapping[str, Any] | str = FOUND,
    live: Mapping[str, Mapping[str, Any]] | None = None,
    **config: Any,
) -> Monitor:
    """Run the program; ``found`` is what AWS answers for the cluster, or the text of its refusal; ``live`` is
    how the imported groups are, beyond their settings.
    """

    def answer(_arguments: dict[str, Any]) -> dict[str, Any]:
        if isinstance(found, str):
            raise Refused(found)
        return dict(found)

    config = {"arm_ratio": "0.5", "cluster": CLUSTER, **config}
    monkeypatch.setattr(survey, "connect", lambda _context=None: there)
    monkeypatch.setattr(cluster_identity, "connect", lambda _context=None: there)
    monkeypatch.setattr(survey, "read_evidence", proven)
    monkeypatch.setattr(live_groups, "read_groups", lambda *given: read_groups(*given))
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    values = configuration(**config)

    def program() -> None:
        pulumi.runtime.set_all_config(values)
        runpy.run_path(str(PROGRAM))

    def read_groups(
        _cluster: EksCluster, imports: Mapping[str, str], _own: Iterable[str], _stack: str
    ) -> dict[str, LiveGroup]:
        """The groups as EKS has them: with the types and sizes that the settings say."""
        there = {}
        for name, theirs in imports.items():
            one = config["node_groups"][name]
            types, size = one.get("instance_types", ()), one.get("desired_size", 3)
            more = (live or {}).get(name, {})
            there[name] = live_group(theirs, *types, size=size, **{"min_size": 0, **more})
        return there

    def answer_offerings(arguments: dict[str, Any]) -> dict[str, Any]:
        """The region has everything."""
        values = {one["name"]: one["values"] for one in arguments["filters"]}
        pairs = [(kind, zone) for kind in values["instance-type"] for zone in values["location"]]
        return {"instanceTypes": [kind for kind, _ in pairs], "locations": [zone for _, zone in pairs]}

    answers: dict[str, Answer] = {
        GET_CLUSTER: answer,
        GET_OFFERINGS: answer_offerings,
        GET_SUBNET: lambda arguments: {"availabilityZone": f"eu-west-1-of-{arguments['id']}"},
        GET_CALLER: lambda _arguments: {"arn": DEPLOYER},
    }
    return record(program, Aws(answers))


def test_one_number_and_two_groups_become_nodes_and_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an adopted cluster: both groups, one patch that waits for them, and the numbers exported."""
    done = run(monkeypatch, shop(eks_node("ip-1", "x86")), node_groups=TWINS)
    assert sorted((one.type, one.name) for one in done.registered) == [
        ("archshift:index:EksNodeGroups", "node-groups"),
        ("archshift:index:ImageAudit", "images"),
        ("archshift:index:MixedCluster", "prod"),
        ("archshift:index:WorkloadPatches", "workloads"),
        ("aws:ec2/launchTemplate:LaunchTemplate", "graviton"),
        ("aws:ec2/launchTemplate:LaunchTemplate", "x86"),
        (NODE_GROUP, "graviton"),
        (NODE_GROUP, "x86"),
        (FailedCanaries.TYPE, "failed-canaries"),
        (WorkloadPatch.TYPE, "shop/Deployment/cart"),
        ("pulumi:providers:kubernetes", "cluster"),
    ]
    assert done.exports == {
        "arm_ratio": 0.5,
        "fleet": {"pods": 4, "wanted": 2},
        "node_groups": {"x86": 5, "graviton": 3},
        "cluster_uid": "6a0c9f1e",
    }
    (component,) = done.of("archshift:index:WorkloadPatches")
    order = [one.type for one in done.registered]
    assert max(i for i, name in enumerate(order) if name == NODE_GROUP) < order.index(component.type)
    (provider,) = done.of("pulumi:providers:kubernetes")
    exec_plugin = json.loads(provider.inputs["kubeconfig"])["users"][0]["user"]["exec"]
    assert exec_plugin["args"][:4] == ["eks", "get-token", "--cluster-name", "prod"]


def test_a_context_goes_before_the_kubeconfig_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reaches a private endpoint through a tunnel has a context for it."""
    done = run(monkeypatch, shop(), kube_context="prod-tunnel")
    (provider,) = done.of("pulumi:providers:kubernetes")
    assert provider.inputs == {"context": "prod-tunnel"}


def test_before_the_cluster_is_there_only_infrastructure_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No workload is read or patched, and rules for workloads wait for the next update."""
    create = {"version": "1.34", "vpc": "vpc-1", "kms_key": "arn:aws:kms:eu-west-1:1:key/k"}

    class Untouched(FakeCluster):
        def __enter__(self) -> Any:
            raise AssertionError("the cluster was asked before it was made")

    done = run(
        monkeypatch,
        Untouched(),
        found="1 error occurred:\n\t* reading EKS Cluster (prod): couldn't find resource",
        cluster={**CLUSTER, "create": create},
        node_groups=TWINS,
        workloads={"overrides": {"shop/Deployment/cart": {"hold": True}}},
    )
    types = {one.type for one in done.registered}
    assert {"eks:index:Cluster", NODE_GROUP} <= types
    assert not {one for one in types if "Patch:" in one or one.endswith("Patch")}
    assert done.exports["fleet"] == {"pods": 0, "wanted": 0}


def test_another_cluster_behind_the_context_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is registered: pods of one cluster must not decide on nodes of another."""
    staging = shop()
    staging.server, staging.authority = "https://staging.eks", "U1RH"
    with pytest.raises(pulumi.RunError) as error:
        run(monkeypatch, staging, node_groups=TWINS)
    assert str(error.value) == (
        "archshift:kube_context reaches https://staging.eks, and archshift:cluster.name 'prod' is "
        "https://prod.eks; run `aws eks update-kubeconfig --region eu-west-1 --name prod` and set "
        "archshift:kube_context to that context"
    )


def test_expired_credentials_stop_the_run_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """RunError is what the engine prints without a traceback."""
    with pytest.raises(pulumi.RunError) as error:
        run(monkeypatch, shop(), found="api error ExpiredToken: The security token is expired")
    assert str(error.value) == (
        "archshift:cluster.name: 'prod' cannot be read: the AWS credentials have expired; log in again, for "
        "example with `aws sso login`"
    )


X86_NODES = tuple(eks_node(f"ip-{index}", "x86") for index in range(3))


def test_the_groups_that_carry_what_needs_x86_are_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only those; every group asks the guard before it goes or changes."""
    groups = {**TWINS, "x86": {**X86, "desired_size": 3}}
    done = run(monkeypatch, shop(*X86_NODES, pins="amd64"), node_groups=groups)
    made = {one.name: one.request for one in done.of(NODE_GROUP)}
    assert {name: request.protect for name, request in made.items()} == {"x86": True, "graviton": False}
    for request in made.values():
        assert list(request.hooks.before_delete) == list(request.hooks.before_update) == [guard.HOOK_NAME]


def test_nothing_is_protected_when_nothing_needs_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then x86 may go."""
    done = run(
        monkeypatch, shop(*X86_NODES), node_groups={"graviton": {**X86, "instance_types": ["t4g.xlarge"]}}
    )
    assert [one.request.protect for one in done.of(NODE_GROUP)] == [False]


NEEDED = (
    "x86 capacity stays: 1 workload needs x86: shop/Deployment/cart (it pins amd64 by its own nodeSelector): "
    "no x86 node is left where they can run; give these workloads images for arm64 and what else they need "
    "on Graviton nodes, or remove them (archshift report lists them)"
)


@pytest.mark.parametrize(
    "x86",
    [
        None,
        {**X86, "desired_size": 0},
        {**X86, "instance_types": ["t4g.xlarge"], "desired_size": 3},
        {**X86, "instance_types": ["m5.xlarge"], "desired_size": 3},
    ],
    ids=["the group is gone", "scaled to zero", "other architecture", "other types: another group"],
)
def test_a_preview_that_takes_needed_x86_stops(monkeypatch: pytest.MonkeyPatch, x86: Json | None) -> None:
    """However it is written; a group that is replaced takes its nodes with it."""
    groups = {"graviton": {"instance_types": ["t4g.xlarge"], "desired_size": 3}} | (
        {"x86": x86} if x86 else {}
    )
    with pytest.raises(pulumi.RunError) as error:
        run(monkeypatch, shop(*X86_NODES, pins="amd64"), node_groups=groups)
    assert str(error.value) == NEEDED


def test_an_existing_group_is_imported_and_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nodes are known by EKS's own label, before they have one of archshift's."""
    old = [eks_node(f"ip-{index}", "-", **{EKS_GROUP_LABEL: "old"}) for index in range(3)]
    for one in old:
        del one["metadata"]["labels"][GROUP_LABEL]
    groups = {"x86": {**X86, "desired_size": 3, "import": "old"}}
    done = run(monkeypatch, shop(*old, pins="amd64"), node_groups=groups)
    (made,) = done.of(NODE_GROUP)
    assert (made.request.importId, made.request.protect) == ("prod:old", True)


def stack_config(stack: str) -> dict[str, Any]:
    """The configuration of a stack file of the checkout, without archshift's prefix."""
    config = yaml.safe_load((PROGRAM.parent / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix("archshift:"): value for key, value in config.items() if "archshift:" in key}


@pytest.mark.parametrize(
    ("stack", "types"),
    [
        ("staging", {"x86": ["t3.xlarge"], "graviton": ["t4g.xlarge"]}),
        (
            "prod",
            {
                "x86": ["m5.2xlarge"],
                "x86-memory": ["r5.2xlarge"],
                "graviton": ["m7g.2xlarge"],
                "graviton-memory": ["r7g.2xlarge"],
            },
        ),
    ],
)
def test_the_stack_files_are_working_examples(
    monkeypatch: pytest.MonkeyPatch, stack: str, types: dict[str, list[str]]
) -> None:
    """Existing groups are imported, their twins made, sizes left to the autoscaler."""
    workloads = [workload(name=name, replicas=4) for name in ("payments", "search")]
    there = shop()
    # As an API server lists them to a guarded stack, which reads the whole cluster.
    there.objects["/apis/apps/v1/deployments"] = workloads
    config = stack_config(stack)
    # The autoscaler has made them 7.
    live = {name: {"instance_types": kinds, "desired_size": 7} for name, kinds in types.items()}
    done = run(monkeypatch, there, live=live, **config)
    made = {one.name: one for one in done.of(NODE_GROUP)}
    assert {name: one.inputs["instanceTypes"] for name, one in made.items()} == types
    imported = {name: one.request.importId for name, one in made.items() if one.request.importId}
    assert set(imported) == {name for name in types if name.startswith("x86")}
    sizes = {name: one.inputs["scalingConfig"]["desiredSize"] for name, one in made.items()}
    begins = {name: group.get("desired_size") for name, group in config["node_groups"].items()}
    assert sizes == {**begins, **dict.fromkeys(imported, 7)}


@pytest.mark.parametrize(("autoscaler", "desired"), [("cluster-autoscaler", 7), ("none", 4)])
def test_nodes_that_an_autoscaler_adds_during_a_run_stay(
    monkeypatch: pytest.MonkeyPatch, autoscaler: str, desired: int
) -> None:
    """The size is that of the moment before EKS gets it: tests and audits may take many minutes."""

    class Growing(Mapping[str, int]):
        """What EKS says of the group: more nodes each time."""

        sizes = iter((4, 7, 9))

        def __getitem__(self, _: str) -> int:
            return next(self.sizes)

        def __iter__(self) -> Iterator[str]:
            return iter(("desired_size",))

        def __len__(self) -> int:
            return 1

    groups = {"x86": {"import": "old", "instance_types": ["m5.large"]}}
    cluster = {**CLUSTER, "autoscaler": autoscaler}
    done = run(
        monkeypatch,
        shop(eks_node("ip-1", "x86")),
        live={"x86": Growing()},
        cluster=cluster,
        node_groups=groups,
    )
    (made,) = done.of(NODE_GROUP)
    assert made.inputs["scalingConfig"]["desiredSize"] == desired


def test_a_stack_without_a_cluster_does_not_load_the_sdks_of_aws() -> None:
    """They take one to three seconds and 80 MiB, which a preview in the lab need not pay."""
    imports = "".join(
        f"import {one.module if isinstance(one, ast.ImportFrom) else one.names[0].name}\n"
        for one in ast.parse(PROGRAM.read_text()).body
        if isinstance(one, ast.Import | ast.ImportFrom)
    )
    code = f"{imports}\nimport sys\nassert not {{'pulumi_aws', 'pulumi_eks', 'boto3'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parent, check=True)


def test_the_stack_files_read_side_by_side() -> None:
    """The same keys in the same order, so that a diff of the two shows what differs."""
    assert list(stack_config("staging")) == list(stack_config("prod"))


POOLS = {"x86": {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 64}}, "graviton": {"twin_of": "x86"}}


@pytest.mark.parametrize(
    ("provisioner", "group"), [("karpenter", "karpenter.k8s.aws"), ("auto-mode", "eks.amazonaws.com")]
)
def test_with_a_provisioner_the_groups_are_node_pools(
    monkeypatch: pytest.MonkeyPatch, provisioner: str, group: str
) -> None:
    """On the same adopted cluster: NodePools, which are guarded, and patches that wait for them and, before
    they are made, for room. AWS is asked for the cluster alone.
    """
    there = shop(eks_node("ip-1", "x86"))
    served = [{"name": name, "versions": [{"version": "v1"}]} for name in ("karpenter.sh", group)]
    get = there.get
    monkeypatch.setattr(there, "get", lambda path: {"groups": served} if path == "/apis" else get(path))
    done = run(monkeypatch, there, provisioner=provisioner, node_groups=POOLS)
    assert sorted((one.type, one.name) for one in done.registered) == [
        ("archshift:index:ImageAudit", "images"),
        ("archshift:index:MixedCluster", "prod"),
        ("archshift:index:NodePools", "node-pools"),
        ("archshift:index:WorkloadPatches", "workloads"),
        ("kubernetes:karpenter.sh/v1:NodePool", "graviton"),
        ("kubernetes:karpenter.sh/v1:NodePool", "x86"),
        (FailedCanaries.TYPE, "failed-canaries"),
        (WorkloadPatch.TYPE, "shop/Deployment/cart"),
        ("pulumi:providers:kubernetes", "cluster"),
    ]
    for one in done.of("kubernetes:karpenter.sh/v1:NodePool"):
        assert one.inputs["spec"]["template"]["spec"]["nodeClassRef"]["group"] == group
        assert "::cluster::" in one.request.provider
        assert list(one.request.hooks.before_delete) == ["archshift-guard-x86"]
    assert done.exports["node_groups"] == {"x86": {"cpu": "64"}, "graviton": {"cpu": "64"}}
    (component,) = done.of("archshift:index:WorkloadPatches")
    order = [one.type for one in done.registered]
    last_pool = max(i for i, name in enumerate(order) if name == "kubernetes:karpenter.sh/v1:NodePool")
    assert last_pool < order.index(component.type)
    (patch,) = done.of(WorkloadPatch.TYPE)
    for hooks in (patch.request.hooks.before_create, patch.request.hooks.before_update):
        assert list(hooks) == ["archshift-bring-up-nodes"]


def with_karpenter(monkeypatch: pytest.MonkeyPatch, there: FakeCluster, *pools: Json) -> FakeCluster:
    """The cluster with Karpenter's APIs and these NodePools."""
    served = [
        {"name": name, "versions": [{"version": "v1"}]} for name in ("karpenter.sh", "karpenter.k8s.aws")
    ]
    get, list_ = there.get, there.list
    monkeypatch.setattr(there, "get", lambda path: {"groups": served} if path == "/apis" else get(path))
    monkeypatch.setattr(
        there,
        "list",
        lambda path, **query: iter(pools) if path.endswith("/nodepools") else list_(path, **query),
    )
    return there


def of_helm(name: str) -> Json:
    """A NodePool as the API server has it."""
    live = live_pool(name)
    meta = {"name": name, "labels": dict(live.labels), "managedFields": [dict(live.managed_fields[0])]}
    return {"metadata": meta, "spec": live.spec}


def test_a_managed_group_and_node_pools_are_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small managed group beside a pool that is taken over and its twin: each is registered by its kind, no
    node of the one is a node of others for the other, and nodes of others are counted once.
    """
    nodes = (
        eks_node("ip-1", "system"),
        eks_node("ip-2", "", **{"karpenter.sh/nodepool": "default", INSTANCE_TYPE_LABEL: "m6i.xlarge"}),
        node("by-hand", "amd64"),
    )
    nodes[1]["metadata"]["labels"].pop(GROUP_LABEL)
    groups = {
        "x86": {"import": "default", "architecture": "amd64", "force": True},
        "graviton": {"twin_of": "x86"},
        "system": {"provisioner": "managed", "instance_types": ["t3.xlarge"], "desired_size": 1},
    }
    there = with_karpenter(monkeypatch, shop(*nodes), of_helm("default"))
    done = run(monkeypatch, there, provisioner="karpenter", node_groups=groups)
    pools = {one.name: one for one in done.of("kubernetes:karpenter.sh/v1:NodePool")}
    assert {*pools} == {"x86", "graviton"}
    assert pools["x86"].request.importId == "default"
    assert [one.name for one in done.of(NODE_GROUP)] == ["system"]
    assert done.exports["node_groups"] == {"x86": {"cpu": "1k"}, "graviton": {"cpu": "1k"}, "system": 1}
    of_pools, of_groups = (done.outputs[name]["elsewhere"] for name in ("node-pools", "node-groups"))
    assert of_pools["amd64"]["nodes"] == 1
    assert of_groups == {}


def test_a_pool_of_another_owner_stops_the_program_before_anything_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the owner, the fields and the way out."""
    groups = {"x86": {"import": "default", "architecture": "amd64", "weight": 3}}
    there = with_karpenter(monkeypatch, shop(eks_node("ip-1", "x86")), of_helm("default"))
    with pytest.raises(
        pulumi.RunError,
        match=r"^archshift:node_groups\.x86: it changes fields of the NodePool default that belong to "
        r"others: helm owns weight, requirements; change them where the NodePool is defined, or set force",
    ):
        run(monkeypatch, there, provisioner="karpenter", node_groups=groups)


def test_a_cluster_that_has_no_node_pools_is_told_in_the_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is registered."""
    there = shop(eks_node("ip-1", "x86"))
    get = there.get
    monkeypatch.setattr(there, "get", lambda path: {"groups": []} if path == "/apis" else get(path))
    with pytest.raises(pulumi.RunError, match=r"^archshift:provisioner: the cluster serves no NodePools"):
        run(monkeypatch, there, provisioner="karpenter", node_groups=POOLS)
