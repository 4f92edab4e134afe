"""Node groups of every origin as one type: architecture, size, and the capacity of one node.

The origins: the lab's nodes, EKS managed node groups (plain, and as children of
``eks:index:ManagedNodeGroup``), Karpenter's NodePools, and nodes that this stack did not create.
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
# Both labels name the architecture: Kubernetes' own label, and the label that people select by.
ARCH_LABELS: Final = (ARCH_LABEL, "architecture")
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
# Karpenter takes the former names for these labels.
_FORMER_LABELS: Final = {
    "beta.kubernetes.io/arch": ARCH_LABEL,
    "beta.kubernetes.io/instance-type": INSTANCE_TYPE_LABEL,
}

# Archshift's components for nodes: in the lab, on EKS, and where Karpenter or Auto Mode creates them.
NODE_GROUPS: Final = tuple(f"archshift:index:{noun}" for noun in ("NodeGroups", "EksNodeGroups", "NodePools"))

NODE: Final = "kubernetes:core/v1:Node"
NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
_NODE_POOL: Final = re.compile(r"kubernetes:karpenter\.sh/v1[a-z0-9]*:NodePool")

# The type that EKS uses when neither the group nor its launch template names one.
_DEFAULT_TYPE: Final = "t3.medium"

# Taints that Kubernetes or an agent sets on a node and removes again by itself. A copy of
# archshift/nodes/temporary_taints.py, because the pack can be published alone; a test compares them.
TEMPORARY_KEYS: Final = frozenset({
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "karpenter.sh/disrupting",
    "karpenter.sh/unregistered",
    "karpenter.sh/rebooting",
    "atlassian.com/escalator",
    "medik8s.io/drain",
    "medik8s.io/remediation",
    "kubevirt.io/drain",
        "NodeWithImpairedVolumes",
})  # fmt: skip
TEMPORARY_DOMAINS: Final = frozenset({
    "node.kubernetes.io",
    "node.cloudprovider.kubernetes.io",
    "startup-taint.cluster-autoscaler.kubernetes.io",
    "ignore-taint.cluster-autoscaler.kubernetes.io",
    "status-taint.cluster-autoscaler.kubernetes.io",
    "aws-node-termination-handler",
    "readiness.k8s.io",
    "nidhogg.uswitch.com",
})  # fmt: skip
TEMPORARY_NAMES: Final = re.compile(
    r"(^|[-_.])(not[-_]?ready|not[-_]?initialized|uninitialized|unregistered|initializing)($|[-_.])",
    re.IGNORECASE,
)

_SUFFIXES: Final = {
    "": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Amount:
    """The capacity of nodes, or the requests of pods; infinite where nothing limits it.

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
        """Return the amount multiplied by a count."""
        if count == 0:  # 0 times infinity would be NaN
            return Amount()
        return Amount(self.millicpu * count, self.memory * count, self.pods * count)

    def holds(self, other: "Amount") -> bool:
        """Say whether the other amount fits into this one."""
        return self.millicpu >= other.millicpu and self.memory >= other.memory and self.pods >= other.pods

    def smaller(self, other: "Amount") -> "Amount":
        """Return the smaller value of each resource."""
        return Amount(
            min(self.millicpu, other.millicpu), min(self.memory, other.memory), min(self.pods, other.pods)
        )

    def larger(self, other: "Amount") -> "Amount":
        """Return the larger value of each resource."""
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
    """What a workload requests: its number of pods, and the size of one pod."""

    key: str = ""
    pods: float = 0.0
    size: Amount = Amount()

    @property
    def total(self) -> Amount:
        """The requests of all its pods."""
        return self.size.times(self.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Nodes that are created and removed together.

    Attributes:
        name: The name that people use.
        urn: Its resource; empty for nodes that this stack did not create.
        kind: ``Node``, ``NodeGroup``, ``NodePool`` or ``elsewhere``.
        architectures: The architectures that its nodes can have.
        total: The maximum capacity of all its nodes together.
        node: The maximum capacity of one node.
        protected: The engine refuses to delete it.
        repels: Keys of its taints that keep pods off.
        note: Why it counts as less than its size; empty otherwise.
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
    """An EC2 instance type: its architecture, its number of vCPUs, and the capacity of one node for pods."""

    architecture: str
    vcpu: int
    room: Amount


@cache
def instance_types() -> Mapping[str, InstanceType]:
    """Return EC2's types by name, from the pack's own table."""
    table = json.loads((Path(__file__).parent.parent / "instance_types.json").read_text())
    return {
        name: InstanceType(
            entry["architecture"], entry["vcpu"], Amount(entry["millicpu"], entry["memory"], entry["pods"])
        )
        for name, entry in table.items()
    }


def quantity(value: Any) -> float | None:
    """Return a Kubernetes quantity (``3920m``, ``15Gi``, 4) as a number; None if invalid."""
    if not isinstance(value, str):
        return number(value)
    match = _QUANTITY.fullmatch(value)
    if not match:
        return None
    base, suffix = float(match[1]), match[2] or ""
    factor = _SUFFIXES.get(suffix)
    if factor is None:
        factor = 10.0 ** int(suffix[1:])
    return number(base * factor)


def node_groups(stack: Stack) -> Iterator[Group]:
    """Yield every group of nodes that the stack creates or counts, in the order of URNs.

    Raises:
        UnknownError: This preview does not know a group's architecture, or the size of an x86 group.
    """
    for resource in stack.resources.values():
        if resource.type == NODE:
            yield _node(resource)
        elif resource.type == NODE_GROUP:
            yield _node_group(resource, stack)
        elif is_node_pool(resource):
            yield _node_pool(resource)
        elif resource.type in NODE_GROUPS:
            yield from _elsewhere(resource)


def is_node_pool(resource: Resource) -> bool:
    """Say whether the resource is a Karpenter NodePool, of any API version."""
    return _NODE_POOL.fullmatch(resource.type) is not None


def hard_taints(taints: Iterable[Any]) -> tuple[str, ...]:
    """Return the keys of the taints that keep pods off; effects may have Kubernetes' or AWS's spelling."""
    keys = []
    for taint in taints:
        if not isinstance(taint, dict):
            continue
        effect = str(taint.get("effect")).replace("_", "").lower()
        key = str(taint.get("key"))
        if effect in ("noschedule", "noexecute") and not _is_temporary(key):
            keys.append(key)
    return tuple(keys)


def _is_temporary(key: str) -> bool:
    domain, _, name = key.rpartition("/")
    return key in TEMPORARY_KEYS or domain in TEMPORARY_DOMAINS or bool(TEMPORARY_NAMES.search(name))


def _node(resource: Resource) -> Group:
    architectures = _label_value(resource.read("metadata", "labels", ARCH_LABEL))
    kind = instance_types().get(str(resource.read("metadata", "labels", INSTANCE_TYPE_LABEL)))
    if kind and kind.architecture not in architectures:
        architectures = frozenset()  # the two labels contradict each other, so neither counts
    room = _room(resource.mapping("status", "allocatable"))
    if kind and not resource.mapping("status"):
        # In the preview that creates the node, the provider leaves out the status.
        room = kind.room
    taints = hard_taints(resource.items("spec", "taints"))
    if resource.read("spec", "unschedulable") is True:
        taints = (*taints, "node.kubernetes.io/unschedulable")
    return Group(
        name=resource.name,
        urn=resource.urn,
        kind="Node",
        architectures=architectures,
        total=room,
        node=room,
        protected=resource.protected,
        repels=taints,
    )


def _label_value(label: Any) -> frozenset[str]:
    return frozenset({label}) if isinstance(label, str) and label else frozenset()


def _room(resources: Mapping[str, Any], missing: float = 0.0) -> Amount:
    def of(name: str, factor: float = 1.0) -> float:
        if name not in resources:
            return missing
        return (quantity(resources[name]) or 0.0) * factor

    return Amount(of("cpu", 1000), of("memory"), of("pods"))


def launch_template(group: Resource, stack: Stack) -> Resource | None:
    """Return the launch template of an EKS node group, if the stack creates it."""
    for urn in group.sources.get("launchTemplate", ()):
        source = stack.resources.get(urn)
        if source is not None and source.type == LAUNCH_TEMPLATE:
            return source
    if not group.has("launchTemplate"):
        return None
    for key in ("id", "name"):
        value = group.read("launchTemplate", key)
        for template in stack.all(LAUNCH_TEMPLATE):
            if value and template.read(key) == value:
                return template
    return None


def types_of(group: Resource, stack: Stack) -> tuple[str, ...]:
    """Return an EKS node group's instance types; empty if a launch template of others has them."""
    template = launch_template(group, stack)
    # EKS takes the type from one of the two places only. If a new group leaves the type to the template,
    # the preview does not know the group's own list.
    if template is not None and template.read("instanceType"):
        return (str(template.read("instanceType")),)
    types = tuple(map(str, group.items("instanceTypes"))) or _registered_types(group, stack)
    if types:
        return types
    elsewhere = template is None and group.has("launchTemplate")
    return () if elsewhere else (_DEFAULT_TYPE,)


def _registered_types(group: Resource, stack: Stack) -> tuple[str, ...]:
    """Return the types that archshift's component knows for one of its groups.

    An imported group has no types in its inputs if a launch template of others names them.
    """
    component = stack.component("EksNodeGroups")
    if component is None or f"{component.type}$" not in group.urn:
        return ()
    return tuple(map(str, component.items("types", group.name)))


def _node_group(resource: Resource, stack: Stack) -> Group:
    names = types_of(resource, stack)
    known = [instance_types()[name] for name in names if name in instance_types()]
    architectures = frozenset(instance_type.architecture for instance_type in known)
    if not known:
        architectures = _label_value(ami_architecture(resource.read("amiType")))
    room, total, note = Amount(), Amount(), ""
    if architectures != {ARM64}:  # the rules never use the capacity of arm64 groups
        missing = [name for name in names if name not in instance_types()]
        if _runs_windows(resource):
            note = "its nodes run Windows"
        elif not names:
            note = "the instance types are in a launch template that this stack does not create"
        elif missing:
            note = f"{missing[0]} is not in the pack's instance_types.json"
        else:
            # EKS may choose the smallest of several types.
            room = reduce(Amount.smaller, (instance_type.room for instance_type in known))
        total = room.times(number(resource.read("scalingConfig", "maxSize")) or 0.0)
    return Group(
        name=resource.name,
        urn=resource.urn,
        kind="NodeGroup",
        architectures=architectures,
        total=total,
        node=room,
        protected=resource.protected,
        repels=hard_taints(resource.items("taints")),
        note=note,
    )


def _runs_windows(group: Resource) -> bool:
    try:
        return "WINDOWS" in str(group.read("amiType"))
    except UnknownError:
        return False  # EKS chooses Linux then; node-group-architecture reports the unknown value


def _node_pool(resource: Resource) -> Group:
    architectures, types = pool_choices(resource)
    room = UNLIMITED
    if types is not None:
        room = reduce(Amount.larger, (instance_types()[name].room for name in types), Amount())
    limits = resource.mapping("spec", "limits")
    total = _room(limits, missing=math.inf)
    if "nodes" in limits:
        total = total.smaller(room.times(quantity(limits["nodes"]) or 0.0))
    return Group(
        name=resource.name,
        urn=resource.urn,
        kind="NodePool",
        architectures=architectures,
        total=total,
        # Without a list of types, the pool's limits also limit one node.
        node=room.smaller(total),
        protected=resource.protected,
        repels=hard_taints(resource.items("spec", "template", "spec", "taints")),
    )


def pool_choices(pool: Resource) -> tuple[frozenset[str], tuple[str, ...] | None]:
    """Return the architectures that a NodePool may create, and the instance types that it may use.

    Without requirements on machines, Karpenter uses any type (then the types are None). Where no type of the
    architectures meets the requirements, the types are those of other architectures.
    """
    architectures = frozenset({AMD64, ARM64})
    names: list[str] | None = None
    requirements = pool.items("spec", "template", "spec", "requirements")
    # Karpenter takes the labels of the template for requirements too.
    for label in (ARCH_LABEL, INSTANCE_TYPE_LABEL, *_FORMER_LABELS):
        if value := pool.read("spec", "template", "metadata", "labels", label):
            requirements.append({"key": label, "operator": "In", "values": [value]})
    for requirement in requirements:
        if not isinstance(requirement, dict):
            continue
        values = requirement.get("values")
        values = tuple(map(str, values)) if isinstance(values, list) else ()
        key, operator = str(requirement.get("key")), str(requirement.get("operator"))
        key = _FORMER_LABELS.get(key, key)
        if key == ARCH_LABEL:
            stated = frozenset(values)
            architectures = architectures & stated if operator == "In" else architectures - stated
            continue
        fact = "type" if key == INSTANCE_TYPE_LABEL else _machine_fact(key)
        if fact:
            names = list(instance_types()) if names is None else names
            names = [name for name in names if _permits(operator, values, _facts(name).get(fact))]
    if names is None:
        return architectures, None
    fitting = [name for name in names if instance_types()[name].architecture in architectures]
    return architectures, tuple(sorted(fitting or names))


_MACHINE_LABEL: Final = re.compile(r"[a-z0-9.-]+/instance-(category|family|generation|size|cpu)")
_FAMILY: Final = re.compile(r"([a-z]+)(?:-[0-9]+tb)?([0-9]+)")


def _machine_fact(label: str) -> str:
    """Return which fact about an instance type a label of Karpenter or EKS Auto Mode has; empty for none."""
    match = _MACHINE_LABEL.fullmatch(label)
    return match[1] if match else ""


@cache
def _facts(name: str) -> Mapping[str, str]:
    family, _, size = name.partition(".")
    facts = {"type": name, "family": family, "size": size, "cpu": str(instance_types()[name].vcpu)}
    if match := _FAMILY.match(family):
        facts |= {"category": match[1], "generation": match[2]}
    return facts


def _permits(operator: str, values: tuple[str, ...], fact: str | None) -> bool:
    """Say whether an instance type with this fact meets a requirement; an unknown operator never does."""
    if operator in ("In", "NotIn"):
        return (fact in values) == (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (fact is not None) == (operator == "Exists")
    if fact is None or not fact.isdecimal() or not values or not values[0].isdecimal():
        return False
    value, bound = int(fact), int(values[0])
    return {"Gt": value > bound, "Gte": value >= bound, "Lt": value < bound, "Lte": value <= bound}.get(
        operator, False
    )


def _elsewhere(resource: Resource) -> Iterator[Group]:
    """Yield the existing nodes that this stack did not create; its updates never remove them."""
    for architecture, stated in resource.mapping("elsewhere").items():
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
    """Return the architecture of an EKS ``amiType``; empty for CUSTOM and for no type.

    The names: https://docs.aws.amazon.com/eks/latest/APIReference/API_Nodegroup.html.
    """
    text = str(ami_type or "")
    if "ARM_64" in text:
        return ARM64
    return AMD64 if "x86_64" in text else ""


def shortage(needs: Iterable[Need], groups: Iterable[Group]) -> str:
    """Explain why the groups are too small for these needs; empty if they are large enough.

    The check adds up capacity and does not pack pods onto nodes, but every pod must fit onto one node.
    Nodes with hard taints count as nothing, because the rules do not know which pods tolerate them.
    """
    groups = [group for group in groups if not group.repels]
    wanted, room = Amount(), Amount()
    for group in groups:
        room += group.total
    too_large = []
    for need in needs:
        wanted += need.total
        if not any(group.node.holds(need.size) for group in groups):
            too_large.append(
                f"{need.key} ({need.size.millicpu / 1000:g} vCPU, {need.size.memory / 2**30:g} GiB)"
            )
    if not room.holds(wanted):
        return f"they request {wanted}, but there is room for only {room}"
    return f"no node is large enough for a pod of {listed(too_large)}" if too_large else ""
