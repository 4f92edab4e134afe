"""Stacks as the engine hands them to a rule, in few words."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from archshift_rules.pack import RULES
from archshift_rules.rule import ResourceRule, StackRule
from archshift_rules.stack import Resource, Stack

NOW: Final = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UNKNOWN: Final = UNKNOWN_STRING_VALUE
"""What the engine puts in place of a value that a preview does not know."""

DIGEST: Final = f"sha256:{'a' * 64}"
GIB: Final = 2**30

ROOT: Final = "urn:pulumi:prod::archshift::pulumi:pulumi:Stack::archshift-prod"


def resource(type_: str, name: str, props: Mapping[str, Any], **more: Any) -> Resource:
    """A resource whose properties raise where they are unknown, as the SDK's do."""
    urn = f"urn:pulumi:prod::archshift::{type_}::{name}"
    return Resource(type=type_, urn=urn, props=unknown_checking_proxy(dict(props)), **more)


def stack(*resources: Resource) -> Stack:
    root = Resource(type="pulumi:pulumi:Stack", urn=ROOT, props={})
    return Stack.of([root, *resources])


def entry(verdict: str = "multi-arch", **more: Any) -> dict[str, Any]:
    """The evidence for one workload of 2 pods with 1 vCPU and 1 GiB each."""
    image = f"registry.example/{verdict}:1"
    blocking = (
        []
        if verdict in ("multi-arch", "arm64-only")
        else [{"container": "app", "image": image, "verdict": verdict, "reason": "no linux/arm64"}]
    )
    return {
        "verdict": verdict,
        "blocking": blocking,
        "images": [{"image": image, "digest": DIGEST, "verdict": verdict}],
        "checkedAt": (NOW - timedelta(days=1)).isoformat(),
        "pods": 2,
        "requests": {"millicpu": 1000, "memory": GIB},
        **more,
    }


def audit(workloads: Any) -> Resource:
    """The component that states the evidence."""
    return resource("archshift:index:ImageAudit", "images", {"workloads": workloads})


def needy() -> Resource:
    """Evidence of one workload that needs x86: 2 vCPU, 2 GiB and 2 pods."""
    return audit({"shop/Deployment/legacy": entry("amd64-only"), "shop/Deployment/web": entry()})


def node(name: str, architecture: str = "amd64", *, protected: bool = True, **spec: Any) -> Resource:
    """A lab node of 4 vCPU, 8 GiB and 10 pods."""
    return resource(
        "kubernetes:core/v1:Node",
        name,
        {
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/arch": architecture, "architecture": architecture},
            },
            "spec": spec,
            "status": {"allocatable": {"cpu": "4000m", "memory": str(8 * GIB), "pods": "10"}},
        },
        protected=protected,
    )


def node_group(
    name: str = "x86", instance_type: str = "m6i.xlarge", *, protected: bool = True, **more: Any
) -> Resource:
    """An EKS managed node group of up to 3 nodes."""
    arm = instance_type.partition(".")[0].endswith("g")
    architecture = "arm64" if arm else "amd64"
    return resource(
        "aws:eks/nodeGroup:NodeGroup",
        name,
        {
            "instanceTypes": [instance_type],
            "amiType": "AL2023_ARM_64_STANDARD" if arm else "AL2023_x86_64_STANDARD",
            "labels": {"architecture": architecture},
            "taints": [],
            "scalingConfig": {"minSize": 1.0, "desiredSize": 2.0, "maxSize": 3.0},
            **more,
        },
        protected=protected,
    )


def node_pool(name: str, *requirements: tuple[str, str, list[str]], **spec: Any) -> Resource:
    """A NodePool of Karpenter's; requirements are (key, operator, values)."""
    listed = [{"key": key, "operator": operator, "values": values} for key, operator, values in requirements]
    protected = bool(spec.pop("protected", True))
    template = {"metadata": {"labels": spec.pop("labels", {})}, "spec": {"requirements": listed}}
    return resource(
        "kubernetes:karpenter.sh/v1:NodePool",
        name,
        {"spec": {"template": template, **spec}},
        protected=protected,
    )


def patches(ratio: Any, pods: Any, wanted: Any, graviton: Any) -> Resource:
    """The component that states the fleet."""
    fleet = {"pods": pods, "wanted": wanted, "graviton": graviton}
    return resource("archshift:index:WorkloadPatches", "workloads", {"ratio": ratio, "fleet": fleet})


def gate(**change: Any) -> Resource:
    """The component that states the gate's evidence: a pass of prod at 0.2 of an hour ago."""
    stated = {
        "required": True,
        "stack": "prod",
        "ratio": 0.2,
        "verdict": "pass",
        "at": (NOW - timedelta(hours=1)).isoformat(),
        "problem": "",
        "file": "gates/prod.json",
        "since": None,
        **change,
    }
    return resource("archshift:index:Gate", "gate", stated)


def exceptions(*listed: Mapping[str, Any], break_glass: Mapping[str, Any] | None = None) -> Resource:
    """The component that states what is excused."""
    props = {"policyExceptions": [dict(one) for one in listed], "breakGlass": break_glass}
    return resource("archshift:index:Exceptions", "exceptions", props)


def break_glass(until: str = "2026-11-24T20:00:00Z", **more: Any) -> Resource:
    """A break-glass; in effect unless its parts say otherwise."""
    return exceptions(break_glass={"until": until, "reason": "the shop is down", "ticket": "INC-7", **more})


def rule(name: str) -> StackRule:
    """The rule of that name, about stacks."""
    found = next(one for one in RULES if one.name == name)
    assert isinstance(found, StackRule)
    return found


def messages(name: str, *resources: Resource, **config: Any) -> list[str]:
    """What a rule says of a stack with these resources."""
    return [found.message for found in rule(name).judge(stack(*resources), config, NOW)]


def patch_messages(one: Resource, provider: Mapping[str, Any] | None = None) -> list[str]:
    """What workload-patch-safety says of a patch."""
    found = next(one for one in RULES if isinstance(one, ResourceRule))
    return [violation.message for violation in found.judge(one, provider or {})]
