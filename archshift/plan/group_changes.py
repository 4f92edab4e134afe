"""What an update changes on node groups that exist, and must not change while pods run there. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.scheduling import Unmet
from archshift.common.architectures import ARCHITECTURES, display
from archshift.common.kubernetes import ARCHITECTURE_LABEL, OURS
from archshift.common.text import counted, first_few
from archshift.nodes.groups import RETIRED, EksNodeGroup, Node, Taint
from archshift.nodes.live_groups import EFFECTS, LiveGroup
from archshift.plan import reasons

STRANDED_WAY_OUT: Final = (
    "leave a group of this side without the taint or with the label, or first move the pods (arm_ratio, "
    "archshift drain)"
)


def as_sent(group: EksNodeGroup, state: Mapping[str, Any] | None) -> EksNodeGroup:
    """Return a group as EKS will have it: the engine sends only what differs from the stack's state.

    Somebody may have changed the group at EKS since the last update. Then the settings differ from EKS, but
    an update does not change it back.

    Args:
        group: The group as configured.
        state: The outputs of its resource in the state; None if the stack does not have it yet. Then the
            engine compares with EKS.
    """
    live = group.live
    if live is None or state is None or group.released:
        return group
    sizes, update = state.get("scalingConfig") or {}, state.get("updateConfig") or {}
    if (sizes.get("minSize"), sizes.get("desiredSize"), sizes.get("maxSize")) == (
        group.min_size,
        group.desired_size,
        group.max_size,
    ):
        group = replace(group, min_size=live.min_size, desired_size=live.desired_size, max_size=live.max_size)
    share = update.get("maxUnavailablePercentage")
    if (f"{share:g}%" if share else update.get("maxUnavailable")) == group.max_unavailable:
        group = replace(group, max_unavailable=live.max_unavailable or group.max_unavailable)
    if group.version == state.get("version"):
        group = replace(group, version=live.version or "")
    if group.release_version == state.get("releaseVersion"):
        group = replace(group, release_version=live.release_version or "")
    known, wanted = state.get("labels") or {}, group.node_labels
    stay = {key: value for key, value in live.labels.items() if known.get(key) == wanted.get(key)}
    lost = frozenset(key for key in wanted if key not in live.labels and known.get(key) == wanted[key])
    there = {(taint["key"], taint.get("value") or "", taint["effect"]) for taint in state.get("taints") or ()}

    def is_sent(taint: Taint) -> bool:
        return ((taint.key, taint.value, EFFECTS[taint.effect]) in there) != (taint in group.node_taints)

    kept = [taint for taint in live.taints if taint not in group.taints and not is_sent(taint)]
    own = [taint for taint in group.taints if taint in live.taints or is_sent(taint)]
    return replace(
        group,
        labels={**group.labels, **{key: value for key, value in stay.items() if not key.startswith(OURS)}},
        lost_labels=lost,
        taints=(*own, *kept),
        retired=group.retired if is_sent(RETIRED) else RETIRED in live.taints,
    )


def differs(group: EksNodeGroup) -> bool:
    """Return whether a group that exists differs at EKS from its settings, so that the state matters."""
    live = group.live
    lacks = live and (group.node_labels.items() - live.labels.items() or {*group.taints} - {*live.taints})
    return bool(lacks or change_of(group))


def not_sent(group: EksNodeGroup, sent: EksNodeGroup) -> str:
    """Say what somebody changed at EKS, and an update does not change back; empty if there is nothing.

    Args:
        group: The group as configured.
        sent: The group as EKS will have it.
    """
    labels = [key for key, value in sorted(group.node_labels.items()) if sent.node_labels.get(key) != value]
    changed = [f"the label {key}" for key in labels]
    changed += [f"the taint {_taint(taint)}" for taint in group.taints if taint not in sent.taints]
    changed += [
        name
        for name in ("min_size", "desired_size", "max_size", "max_unavailable", "version", "release_version")
        if getattr(group, name) != getattr(sent, name)
    ]
    if not changed or not group.live:
        return ""
    return (
        f"node group {group.name}: somebody changed {group.live.name!r} at EKS ({', '.join(changed)}); this "
        "update does not change it back, but pulumi up --refresh does"
    )


def change_of(group: EksNodeGroup) -> str:
    """Return what an update changes on a group that exists, in numbers; empty if it changes nothing.

    What archshift itself sets and removes does not count: its own labels and taints.
    """
    live = group.live
    if live is None:
        return ""
    if group.released:
        return (
            f"node group {group.name}: this update hands {live.name!r} back, and takes off what archshift "
            "set. Then remove the group from archshift:node_groups, and nobody deletes it"
        )
    changes = [
        f"{name} {before} to {after}"
        for name, before, after in (
            ("min_size", live.min_size, group.min_size),
            ("desired_size", live.desired_size, group.desired_size),
            ("max_size", live.max_size, group.max_size),
            ("max_unavailable", live.max_unavailable or 1, group.max_unavailable),
            ("version", live.version, group.version or live.version),
            ("release_version", live.release_version, group.release_version or live.release_version),
            *_labels(group, live),
        )
        if before != after
    ]
    gone = [
        taint
        for taint in live.taints
        if not taint.key.startswith(OURS) and taint not in group.taints  # a soft taint of ours is no news
    ]
    changes += [f"no taint {_taint(taint)} any more" for taint in gone]
    if group.retired != (RETIRED in live.taints):
        changes.append("it takes no new pods" if group.retired else "it takes new pods again")
    if not changes:
        return ""
    return f"node group {group.name}: this update changes {live.name!r}: {', '.join(changes)}"


def _labels(group: EksNodeGroup, live: LiveGroup) -> Iterator[tuple[str, str, str]]:
    """Yield the labels that a group loses or whose value changes: key, value now, value then."""
    wanted = group.node_labels
    for key, value in sorted(live.labels.items()):
        if not key.startswith(OURS) and not (key == ARCHITECTURE_LABEL and key not in live.own_labels):
            yield f"label {key}", value, wanted.get(key, "none")


def _taint(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}" if taint.value else f"{taint.key}:{taint.effect}"


def going(group: EksNodeGroup) -> int:
    """Return how many nodes an update takes away from a group that exists."""
    return max(0, group.live.desired_size - group.desired_size) if group.live else 0


def shrinks_too_far(group: EksNodeGroup, nodes: int, busy: Collection[str], pods: Sequence[str]) -> str:
    """Say that pods run on nodes that an update takes away; empty if as many nodes stay as have pods.

    AWS chooses the nodes that go, and drains them.

    Args:
        group: The group.
        nodes: The number of its live nodes.
        busy: Those on which pods run, without those of DaemonSets.
        pods: The names of these pods.
    """
    gone = going(group)
    if not group.live or not gone or len(busy) <= group.desired_size:
        return ""
    return (
        f"archshift:node_groups.{group.name}: desired_size {group.live.desired_size} to {group.desired_size} "
        f"takes {counted(gone, 'node')} away, and pods run on {len(busy)} of its {nodes} ({first_few(pods)})"
    )


def _unmet(
    workload: Workload,
    later: Collection[Node],
    changed: Iterable[tuple[Node, Node]],
    known: dict[str, Unmet | None],
) -> Unmet | None:
    """Return why a change of nodes leaves a workload none; workloads with equal rules share one answer."""
    rules = workload.rules
    if rules not in known:
        unmet = workload.why_nowhere(later, each_pod=False)
        by_change = unmet and any(
            workload.may_run_on(now) and not workload.may_run_on(then) for now, then in changed
        )
        known[rules] = unmet if by_change else None
    return known[rules]


def _admission_of(node: Node) -> tuple[object, ...]:
    """Return what decides which pods a node takes, whatever their requests of CPU and memory."""
    return node.labels, node.lasting_taints, node.devices, node.variants, node.choices, node.unknown


def stranded(inventory: Inventory, after: Iterable[Node]) -> str:
    """Return which pods no node of their side would take any more after an update; empty if there are none.

    They run on. But when such a pod is replaced, it must leave its side, or it stays pending.

    Args:
        inventory: The cluster.
        after: The nodes that pods may land on after the update.
    """
    nodes = list(after)
    workloads = {**inventory.unsteered_workloads, **inventory.workloads}
    for side in ARCHITECTURES:
        later = {node.name: node for node in nodes if node.architecture == side}
        # Nodes that go altogether are the guard's matter.
        changed = [
            (now, then)
            for now in inventory.nodes
            if (then := later.get(now.name)) and _admission_of(now) != _admission_of(then)
        ]
        if not changed:
            continue  # as in most updates
        known: dict[str, Unmet | None] = {}
        found = {
            key: unmet
            for key, workload in sorted(workloads.items())
            if inventory.on(key, side)
            and not on_every_node(workload.kind)
            and (unmet := _unmet(workload, later.values(), changed, known))
        }
        if found:
            pods = sum(inventory.on(key, side) for key in found)
            why = reasons.nowhere(next(iter(found.values())), f"{display(side)} node")
            return (
                f"this update would leave {counted(pods, 'pod')} without any {display(side)} node that takes "
                f"them ({first_few(list(found))}): {why}"
            )
    return ""
