"""Node groups, whatever makes them, as one kind of value: architecture, size, one node's room.

Four forms: the lab's nodes, EKS managed node groups (plain, and as children of
``eks:index:ManagedNodeGroup``), and Karpenter's NodePools.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any, Final

from archshift_rules.stack import Resource, Stack, UnknownError
from archshift_rules.wording import counted, listed, number

AMD64: Final = "amd64"
ARM64: Final = "arm64"
ARCH_LABEL: Final = "kubernetes.io/arch"
# Both say the architecture: Kubernetes' own, and the one that people select by.
ARCH_LABELS: Final = (ARCH_LABEL, "architecture")
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"

# Archshift's components of the nodes: in the lab, on EKS, and where Karpenter or Auto Mode makes them.
NODE_GROUPS: Final = tuple(f"archshift:index:{noun}" for noun in ("NodeGroups", "EksNodeGroups", "NodePools"))

NODE: Final = "kubernetes:core/v1:Node"
NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
_NODE_POOL: Final = re.compile(r"kubernetes:karpenter\.sh/v1[a-z0-9]*:NodePool")

# What EKS takes when neither the group nor its launch template names a type.
_DEFAULT_TYPE: Final = "t3.medium"

# Taints that Kubernetes itself puts on a node and takes away again; a new node starts with the
# first (https://kubernetes.io/docs/reference/labels-annotations-taints/).
_PASSING_TAINTS: Final = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready", "unreachable", "network-unavailable", "memory-pressure", "disk-pressure", "pid-pressure",
    )
) | {"node.cloudprovider.kubernetes.io/uninitialized"}  # fmt: skip

_SUFFIXES: Final = {
    "": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of room on nodes, or of pods' requests; infinite where nothing limits it.

    Attributes:
        millicpu: Thousandths of a vCPU.
        memory: Bytes.
        pods: Number of pods.
    """

    millicpu: float = 0.0
    memory: float = 0.0
    pods: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.millicpu + other.millicpu, self.memory + other.memory, self.pods + other.pods)

    def times(self, count: float) -> "Amount":
        """Return so many of it."""
        if count == 0:  # also of something infinite
            return Amount()
        return Amount(self.millicpu * count, self.memory * count, self.pods * count)

    def holds(self, other: "Amount") -> bool:
        """Say whether the other fits."""
        return self.millicpu >= other.millicpu and self.memory >= other.memory and self.pods >= other.pods

    def smaller(self, other: "Amount") -> "Amount":
        """Return the smaller of each."""
        return Amount(
            min(self.millicpu, other.millicpu), min(self.memory, other.memory), min(self.pods, other.pods)
        )

    def larger(self, other: "Amount") -> "Amount":
        """Return the larger of each."""
        return Amount(
            max(self.millicpu, other.millicpu), max(self.memory, other.memory), max(self.pods, other.pods)
        )

    def __str__(self) -> str:
        parts = []
        for value, text in (
            (self.millicpu, f"{self.millicpu / 1000:.1f} vCPU"),
            (self.memory, f"{self.memory / 2**30:.1f} GiB"),
            (self.pods, counted(self.pods, "pod")),
        ):
            parts.append(text.replace("inf", "unlimited") if math.isinf(value) else text)
        return f"{parts[0]}, {parts[1]} and {parts[2]}"


UNLIMITED: Final = Amount(math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Need:
    """What a workload asks for: so many pods of that size."""

    key: str = ""
    pods: float = 0.0
    size: Amount = Amount()

    @property
    def total(self) -> Amount:
        """All of its pods."""
        return self.size.times(self.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Nodes that come and go together.

    Attributes:
        name: The name people know it by.
        urn: Its resource; empty for nodes that are not this stack's.
        kind: ``Node``, ``NodeGroup``, ``NodePool`` or ``elsewhere``.
        architectures: What its nodes can be.
        total: The most that all of its nodes together hold.
        node: The most that one node holds.
        protected: The engine refuses to delete it.
        repels: Keys of its taints that turn pods away.
        note: Why it holds less than one might think; empty otherwise.
    """

    name: str
    urn: str
    kind: str
    architectures: frozenset[str]
    total: Amount
    node: Amount
    protected: bool = False
    repels: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An EC2 instance type: its architecture and what a node of it holds."""

    architecture: str
    room: Amount


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """Return EC2's types by name, from the pack's own data."""
    table = json.loads((Path(__file__).parent.parent / "instance_types.json").read_text())
    return {
        name: InstanceType(one["architecture"], Amount(one["millicpu"], one["memory"], one["pods"]))
        for name, one in table.items()
    }


def quantity(value: Any) -> float | None:
    """Return a Kubernetes quantity (``3920m``, ``15Gi``, 4) as a number; None for what is not one."""
    if not isinstance(value, str):
        return number(value)
    found = _QUANTITY.fullmatch(value)
    if not found:
        return None
    base, suffix = float(found[1]), found[2] or ""
    factor = _SUFFIXES.get(suffix)
    if factor is None:
        factor = 10.0 ** int(suffix[1:])
    return number(base * factor)


def node_groups(stack: Stack) -> Iterator[Group]:
    """Yield every group of nodes that the stack makes or knows of, by URN.

    Raises:
        UnknownError: What tells a group's architecture, or an x86 group's size, is not known in this
            preview.
    """
    for one in stack.resources.values():
        if one.type == NODE:
            yield _node(one)
        elif one.type == NODE_GROUP:
            yield _node_group(one, stack)
        elif is_node_pool(one):
            yield _node_pool(one)
        elif one.type in NODE_GROUPS:
            yield from _elsewhere(one)


def is_node_pool(one: Resource) -> bool:
    """Say whether it is a NodePool of Karpenter's, of any version."""
    return _NODE_POOL.fullmatch(one.type) is not None


def hard_taints(taints: Iterable[Any]) -> tuple[str, ...]:
    """Return the keys of the taints that turn pods away, in Kubernetes' spelling or AWS's."""
    found = []
    for taint in taints:
        if not isinstance(taint, dict):
            continue
        effect = str(taint.get("effect")).replace("_", "").lower()
        if effect in ("noschedule", "noexecute") and taint.get("key") not in _PASSING_TAINTS:
            found.append(str(taint.get("key")))
    return tuple(found)


def _node(one: Resource) -> Group:
    architectures = _one(one.read("metadata", "labels", ARCH_LABEL))
    kind = instance_types().get(str(one.read("metadata", "labels", INSTANCE_TYPE_LABEL)))
    if kind and kind.architecture not in architectures:
        architectures = frozenset()  # one of the two labels lies, and so it is neither
    room = _room(one.mapping("status", "allocatable"))
    if kind and not one.mapping("status"):
        # In the preview that makes the node: the provider leaves out what a kubelet reports.
        room = kind.room
    taints = hard_taints(one.items("spec", "taints"))
    if one.read("spec", "unschedulable") is True:
        taints = (*taints, "node.kubernetes.io/unschedulable")
    return Group(
        name=one.name,
        urn=one.urn,
        kind="Node",
        architectures=architectures,
        total=room,
        node=room,
        protected=one.protected,
        repels=taints,
    )


def _one(label: Any) -> frozenset[str]:
    return frozenset({label}) if isinstance(label, str) and label else frozenset()


def _room(resources: Mapping[str, Any], missing: float = 0.0) -> Amount:
    def of(name: str, factor: float = 1.0) -> float:
        if name not in resources:
            return missing
        return (quantity(resources[name]) or 0.0) * factor

    return Amount(of("cpu", 1000), of("memory"), of("pods"))


def launch_template(one: Resource, stack: Stack) -> Resource | None:
    """Return the launch template of an EKS node group, if the stack makes it."""
    for urn in one.sources.get("launchTemplate", ()):
        found = stack.resources.get(urn)
        if found is not None and found.type == LAUNCH_TEMPLATE:
            return found
    if "launchTemplate" not in one.props or one.props["launchTemplate"] is None:
        return None
    for key in ("id", "name"):
        value = one.read("launchTemplate", key)
        for template in stack.all(LAUNCH_TEMPLATE):
            if value and template.read(key) == value:
                return template
    return None


def types_of(one: Resource, stack: Stack) -> tuple[str, ...]:
    """Return the instance types of an EKS node group; of its launch template where that names one."""
    template = launch_template(one, stack)
    # EKS takes the type from one of the two places only. The provider calls the group's own list
    # unknown in the preview of a new group that leaves it to the template.
    if template is not None and template.read("instanceType"):
        return (str(template.read("instanceType")),)
    return tuple(map(str, one.items("instanceTypes"))) or (_DEFAULT_TYPE,)


def _node_group(one: Resource, stack: Stack) -> Group:
    names = types_of(one, stack)
    known = [instance_types()[name] for name in names if name in instance_types()]
    architectures = frozenset(found.architecture for found in known)
    if not known:
        architectures = _one(ami_architecture(one.read("amiType")))
    room, total, note = Amount(), Amount(), ""
    if architectures != {ARM64}:  # nobody asks how much the others hold
        missing = [name for name in names if name not in instance_types()]
        if _runs_windows(one):
            note = "its nodes run Windows"
        elif missing:
            note = f"{missing[0]} is not in the pack's instance_types.json"
        else:
            # Of several types it may be the smallest that one gets.
            room = reduce(Amount.smaller, (found.room for found in known))
        total = room.times(number(one.read("scalingConfig", "maxSize")) or 0.0)
    return Group(
        name=one.name,
        urn=one.urn,
        kind="NodeGroup",
        architectures=architectures,
        total=total,
        node=room,
        protected=one.protected,
        repels=hard_taints(one.items("taints")),
        note=note,
    )


def _runs_windows(one: Resource) -> bool:
    try:
        return "WINDOWS" in str(one.read("amiType"))
    except UnknownError:
        return False  # left to EKS, which takes Linux; node-group-architecture asks for it


def _node_pool(one: Resource) -> Group:
    architectures, types = pool_choices(one)
    room = reduce(Amount.larger, (instance_types()[name].room for name in types)) if types else UNLIMITED
    limits = one.mapping("spec", "limits")
    total = _room(limits, missing=math.inf)
    if "nodes" in limits:
        total = total.smaller(room.times(quantity(limits["nodes"]) or 0.0))
    return Group(
        name=one.name,
        urn=one.urn,
        kind="NodePool",
        architectures=architectures,
        total=total,
        # Even without a list of types no node is larger than the whole pool may be.
        node=room.smaller(total),
        protected=one.protected,
        repels=hard_taints(one.items("spec", "template", "spec", "taints")),
    )


def pool_choices(one: Resource) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the architectures that a NodePool may make, and the instance types it is held to.

    Without a requirement of the kind Karpenter takes any architecture, and any type.
    """
    architectures = frozenset({AMD64, ARM64})
    types: tuple[str, ...] = ()
    for requirement in one.items("spec", "template", "spec", "requirements"):
        if not isinstance(requirement, dict):
            continue
        values = frozenset(map(str, requirement.get("values") or ()))
        key, operator = requirement.get("key"), requirement.get("operator")
        if key == ARCH_LABEL:
            architectures = architectures & values if operator == "In" else architectures - values
        elif key == INSTANCE_TYPE_LABEL and operator == "In":
            types += tuple(sorted(values & instance_types().keys()))
        elif key == "karpenter.k8s.aws/instance-family" and operator == "In":
            types += tuple(name for name in instance_types() if name.partition(".")[0] in values)
    label = one.read("spec", "template", "metadata", "labels", ARCH_LABEL)
    return (architectures & _one(label) if label else architectures), types


def _elsewhere(one: Resource) -> Iterator[Group]:
    """Nodes that are there and that no group of this stack made, which no update of it takes away."""
    for architecture, stated in one.mapping("elsewhere").items():
        if not isinstance(stated, dict):
            continue
        nodes, millicpu, memory, pods = (
            number(stated.get(key)) or 0.0 for key in ("nodes", "millicpu", "memory", "pods")
        )
        total = Amount(millicpu, memory, pods)
        yield Group(
            name=f"nodes of others ({nodes:g})",
            urn="",
            kind="elsewhere",
            architectures=frozenset({architecture}),
            total=total,
            node=total.times(1 / nodes) if nodes else Amount(),
            protected=True,
        )


def ami_architecture(ami_type: Any) -> str:
    """Return the architecture of an EKS ``amiType``; empty for CUSTOM and where there is none.

    The names: https://docs.aws.amazon.com/eks/latest/APIReference/API_Nodegroup.html.
    """
    text = str(ami_type or "")
    if "ARM_64" in text:
        return ARM64
    return AMD64 if "x86_64" in text else ""


def shortage(needs: Iterable[Need], groups: Iterable[Group]) -> str:
    """Return what the groups lack for these needs, in words; empty if they hold them.

    Adds up and does not pack, except that every pod must fit a node. Nodes that turn pods away
    hold nothing: the rules do not know who tolerates their taints.
    """
    groups = [group for group in groups if not group.repels]
    wanted, room = Amount(), Amount()
    for group in groups:
        room += group.total
    homeless = []
    for need in needs:
        wanted += need.total
        if not any(group.node.holds(need.size) for group in groups):
            homeless.append(
                f"{need.key} ({need.size.millicpu / 1000:g} vCPU, {need.size.memory / 2**30:g} GiB)"
            )
    if not room.holds(wanted):
        return f"they ask for {wanted}, and there is room for {room}"
    return f"no node is large enough for a pod of {listed(homeless)}" if homeless else ""
