"""The last check before an x86 node is deleted or changed: does anything still need it?

The engine calls these hooks at that moment, and they read the live cluster and the registries. They stop
what no preview and no policy sees: ``--skip-preview``, ``pulumi destroy``, a resource that somebody
unprotected by hand, an image that appeared after the preview.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pulumi

from archshift.cluster.client import connect
from archshift.cluster.pods import Pod, busy_pods
from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, EKS_GROUP_LABEL, INSTANCE_TYPE_LABEL, POOL_LABEL
from archshift.common.text import counted, first_few
from archshift.nodes import well_known_labels
from archshift.nodes.after_update import nodes_after, nodes_of_others
from archshift.nodes.groups import Node, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.node_pools import from_manifest, requirement
from archshift.plan import guard
from archshift.survey import Survey, survey
from components import engine_text
from components.plan_file import add_refusal

if TYPE_CHECKING:
    from archshift.settings.stack import Settings

HOOK_NAME: Final = "archshift-guard-x86"

_FRESH_SECONDS: Final = 10.0
"""An update asks for each of its nodes; nodes of the same moment share one answer."""


def guard_hook(settings: "Settings") -> pulumi.ResourceHook:
    """Return the hook that runs before an x86 node is deleted or updated, in previews too.

    Every run must register it: the engine refuses a delete if it cannot find the hook.
    """
    live_check = _LiveCheck(settings)

    def before(args: pulumi.ResourceHookArgs) -> None:
        old, new = args.old_inputs or {}, args.new_inputs
        if new is None and _is_pool(old):
            _check_renamed(args.name, str(old["metadata"]["name"]), settings)
        if not settings.guarded:
            return
        architecture = _architecture(old)
        if architecture == ARM64:
            return
        now = datetime.now(UTC)
        if settings.break_glass and settings.break_glass_active(now):
            engine_text.warn(f"{args.name}: {settings.break_glass.describe(now)}")
            return
        group = (args.old_outputs or old).get("nodeGroupName", "")
        if not architecture and group and live_check.only_graviton(group):
            return
        what = f"x86 {_kind(old)} {args.name}"
        if _is_pool(old):
            reason = live_check.refuse_pool(str(old["metadata"]["name"]), old["spec"], new and new["spec"])
        else:
            reason = live_check.refuse_nodes(args.name, old, deleted=new is None, eks_group=group)
        if reason:
            raise refuse(what, reason)
        # The provisioner drains the nodes of a pool before it ends them.
        if not _is_pool(old) and (new is None or _is_emptied(old, new)):
            left = live_check.pods_left_on(args.name, old, eks_group=group)
            if left:
                raise busy_error(what, left)

    return pulumi.ResourceHook(HOOK_NAME, before, pulumi.ResourceHookOptions(on_dry_run=True))


def _check_renamed(name: str, pool: str, settings: "Settings") -> None:
    """Check that a group which now has another NodePool does not delete the one that it took over before.

    Raises:
        ArchshiftError: It would.
    """
    group = settings.node_pools.get(name)
    if group and group.pool_name != pool:
        raise ArchshiftError(
            f"archshift:node_groups.{name}.import: the group took over the NodePool {pool} before, and the "
            "change would delete it",
            f"first release it: set import: {pool} and release: true, run pulumi up, remove the group, and "
            "run pulumi up again",
        )


def refuse(what: str, reason: str) -> ArchshiftError:
    """Return the error that keeps x86 capacity, after telling ``archshift preview`` about it.

    Args:
        what: What was to be removed.
        reason: From ``archshift.plan.guard.shortfall``.
    """
    error = ArchshiftError(f"{what} stays: {reason}", guard.WAY_OUT)
    add_refusal(str(error))
    return error


def busy_error(what: str, pods: Sequence[Pod]) -> ArchshiftError:
    """Return the error that keeps nodes on which pods run; ``pods`` are at least one."""
    named = first_few(pods, name=lambda pod: pod.key)
    return ArchshiftError(
        f"{what} stays: {counted(len(pods), 'pod', 'run')} on it ({named})",
        "empty it first with archshift drain, because deleting the nodes ignores PodDisruptionBudgets",
    )


class _LiveCheck:
    """Answers the hook's questions during one update."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._survey: Survey | None = None
        self._at = 0.0

    def only_graviton(self, eks_group: str) -> bool:
        """Return whether a managed group has nodes, and all of them are Graviton nodes."""
        nodes = self._nodes_of(eks_group)
        return bool(nodes) and all(node.architecture == ARM64 for node in nodes)

    def _nodes_of(self, eks_group: str) -> list[Node]:
        # EKS's own label: archshift's label may not be on the nodes yet.
        live = self._fresh_survey().inventory.nodes
        return [node for node in live if node.labels.get(EKS_GROUP_LABEL) == eks_group]

    def _types_of(self, name: str, old: Mapping[str, Any], eks_group: str) -> Sequence[str]:
        """Return the instance types of a managed group; empty if they are unknown.

        If its launch template has them, the settings name them, and its nodes have labels.
        """
        if old.get("instanceTypes"):
            return list(old["instanceTypes"])
        group = self._settings.eks_node_groups.get(name)
        if group and group.import_name:
            return [kind.name for kind in group.instance_types]
        return sorted({node.labels.get(INSTANCE_TYPE_LABEL, "") for node in self._nodes_of(eks_group)})

    def refuse_nodes(self, name: str, old: Mapping[str, Any], *, deleted: bool, eks_group: str) -> str:
        cluster_survey = self._fresh_survey()
        live = cluster_survey.inventory.nodes
        if deleted and self._is_configured(name, old):
            # The configuration keeps this node and the engine deletes it, so this is a destroy:
            # it deletes every node of the stack.
            after = nodes_of_others(live, self._settings.groups, self._settings.stack_label)
        else:
            after = nodes_after(live, self._settings.groups, self._settings.stack_label)
        going = [node for node in live if node.name == name] if _is_node(old) else list(live)
        possible: list[Node] | None = []
        if deleted and eks_group:
            # EKS's own label: archshift's label may not be on the nodes yet.
            after = [node for node in after if node.labels.get(EKS_GROUP_LABEL) != eks_group]
            # An autoscaler can fill an empty group, so deleting it loses x86 too.
            possible = _next_nodes(eks_group, old, self._types_of(name, old, eks_group))
            going += possible or [Node(name=f"{eks_group}-next", labels={ARCH_LABEL: AMD64})]
        return guard.refuse_removal(cluster_survey.needs or (), going, live, after, possible=possible)

    def pods_left_on(self, name: str, old: Mapping[str, Any], *, eks_group: str) -> list[Pod]:
        """Return the pods that a node or a group would take with it, without those of DaemonSets."""
        with connect(self._settings.kube_context) as cluster:
            nodes = [name]
            if not _is_node(old):
                # Five minutes after the deletion of a group begins, EKS ends its last pods and ignores
                # PodDisruptionBudgets.
                named = cluster.list("/api/v1/nodes", labelSelector=f"{EKS_GROUP_LABEL}={eks_group}")
                nodes = [node["metadata"]["name"] for node in named]
            return busy_pods(cluster, nodes)

    def refuse_pool(self, name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> str:
        cluster_survey = self._fresh_survey()
        live, needed = cluster_survey.inventory.nodes, cluster_survey.needs or ()
        # Karpenter's own label: archshift's label may not be on the nodes yet.
        others = nodes_of_others(live, self._settings.groups, self._settings.stack_label)
        after = [node for node in others if node.labels.get(POOL_LABEL) != name]
        # As above: if the configuration keeps the pool, this is a destroy, and no pool stays.
        destroy = new is None and name in {pool.pool_name for pool in self._settings.node_pools.values()}
        for pool in () if destroy else self._settings.node_pools.values():
            # Count the limits, not today's nodes: every node ends, and only the limits allow new ones.
            after += pool.possible_nodes()
        before = from_manifest(name, old, AMD64)
        later = from_manifest(name, new, AMD64) if new else None
        # If the pool is not as the stack made it, assume that somebody needs all of it.
        always_loses = before is None or later is None or guard.shrinks(needed, before, later)
        # An update keeps the pool, so its remaining limits count even before its first node.
        return guard.refuse_removal(
            needed,
            live,
            live,
            after,
            always_loses=always_loses,
            proven_pools=() if new is None else (name,),
            possible=before.possible_nodes() if before else None,
        )

    def _is_configured(self, name: str, old: Mapping[str, Any]) -> bool:
        """Whether the configuration has this resource, with the same instance types."""
        if _is_node(old):
            nodes = {n.name: n for group in self._settings.node_groups.values() for n in group.nodes()}
            return name in nodes and guard.same_machine(nodes[name].labels, old["metadata"]["labels"])
        group = self._settings.eks_node_groups.get(name)
        if group is None:
            return False
        types = sorted(kind.name for kind in group.instance_types)
        return bool(group.import_name) or types == sorted(old.get("instanceTypes") or ())

    def _fresh_survey(self) -> Survey:
        with self._lock:
            if self._survey is None or time.monotonic() - self._at > _FRESH_SECONDS:
                self._survey = survey(self._settings, keep_evidence=False, guard_x86=True)
                self._at = time.monotonic()
            return self._survey


def _is_node(inputs: Mapping[str, Any]) -> bool:
    """Whether these are a simulated node's inputs."""
    return "metadata" in inputs and not _is_pool(inputs)


def _is_pool(inputs: Mapping[str, Any]) -> bool:
    """Whether these are a NodePool's inputs; if neither, they are a managed node group's."""
    return inputs.get("kind") == "NodePool"


def _next_nodes(eks_group: str, inputs: Mapping[str, Any], names: Sequence[str]) -> list[Node] | None:
    """Return a node of each type that a managed group may create; None if its types are unknown."""
    if not names or any(name not in INSTANCE_TYPES for name in names):
        return None
    taints = tuple(
        Taint(
            key=taint["key"],
            value=taint.get("value") or "",
            effect=taint["effect"].title().replace("_", ""),  # EKS writes NO_SCHEDULE
        )
        for taint in inputs.get("taints") or ()
    )
    by_eks = well_known_labels.of_managed_group(spot=inputs.get("capacityType") == "SPOT", name=eks_group)
    zone = well_known_labels.of_zone("")
    return [
        Node(
            name=f"{eks_group}-next-{kind.name}",
            labels={
                **(inputs.get("labels") or {}),
                **by_eks.labels,
                **well_known_labels.of_any_node(kind).labels,
            },
            taints=taints,
            millicpu=kind.allocatable_millicpu,
            memory=kind.allocatable_memory,
            pods=kind.managed_pods,
            unknown=by_eks.unknown | zone.unknown,
        )
        for kind in map(INSTANCE_TYPES.__getitem__, names)
    ]


def _kind(inputs: Mapping[str, Any]) -> str:
    """The kind of resource, in one word."""
    return "node" if _is_node(inputs) else "NodePool" if _is_pool(inputs) else "node group"


def _is_emptied(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether an update removes the last nodes of a managed group."""
    before, after = (inputs.get("scalingConfig") or {} for inputs in (old, new))
    return bool(before.get("desiredSize")) and after.get("desiredSize") == 0


def _architecture(inputs: Mapping[str, Any]) -> str:
    """Return the architecture of all nodes of a resource; empty if its inputs do not say it.

    Only ``arm64`` may go without further questions.
    """
    if _is_node(inputs):
        return str(inputs["metadata"]["labels"].get(ARCH_LABEL, ""))
    if _is_pool(inputs):
        return ARM64 if requirement(inputs["spec"], ARCH_LABEL) == (ARM64,) else AMD64
    types = inputs.get("instanceTypes") or ()
    known = {INSTANCE_TYPES[name].architecture if name in INSTANCE_TYPES else "" for name in types}
    if known:
        # Types that this version does not know may still have a known image.
        return ARM64 if known == {ARM64} else AMD64 if AMD64 in known else _of_image(inputs)
    return _of_image(inputs)


def _of_image(inputs: Mapping[str, Any]) -> str:
    ami_type = inputs.get("amiType") or ""
    return ARM64 if "ARM_64" in ami_type else AMD64 if "x86_64" in ami_type else ""


def protected(found: Survey, settings: "Settings", now: datetime) -> frozenset[str]:
    """Return the names of the x86 nodes and managed groups that the stack must protect."""
    if not settings.guarded or settings.break_glass_active(now):
        return frozenset()
    # A node that is there counts as what it is, not as what it is to become: one that is to be
    # replaced by a Graviton node is protected too, and one that is not ready protects no other.
    managed = {
        node.name: (node, resource)
        for group in settings.groups
        for resource, nodes in group.nodes_with_new(found.inventory.nodes).items()
        for node in nodes
    }
    stay = guard.nodes_that_must_stay(found.needs or (), [node for node, _ in managed.values()])
    # The engine would refuse to forget a protected group.
    released = {name for name, group in settings.eks_node_groups.items() if group.released}
    return frozenset(managed[name][1] for name in stay) - released
