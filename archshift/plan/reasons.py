"""Why archshift does not simply move a workload: all texts of the plan and the guard. Pure.

Tables and reports print these texts unchanged, so a new wording is a change here only.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Final

from archshift.cluster.model import MOST_MISSING, FailedCanary, Trouble
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import TITLES
from archshift.cluster.scheduling import Source, Unmet
from archshift.cluster.volumes import Sharing
from archshift.common.architectures import AMD64, ARM64, Architecture, display
from archshift.common.kubernetes import HOSTNAME_LABEL, ZONE_LABEL
from archshift.common.text import counted, first_few, is_or_are, joined
from archshift.images.workload import WorkloadVerdict, why_not
from archshift.plan.model import Plan, PlannedWorkload, PolicyAway

EVERYWHERE: Final = "a DaemonSet: runs on every node that it selects"
NO_KEY: Final = "left alone: its kind and name cannot be the key of an entry"
PATCH_GOES: Final = "its patch goes, so it rolls out once"
ROLLS_WITH_SURGE: Final = "it rolls out, because its limits let no pod be away"
RUN_PULUMI_UP: Final = "its placement is not what the plan wants; run pulumi up"
ROLLS_OUT: Final = "a rollout of it is in progress"
NONE_MAY_BE_AWAY: Final = "its rollout limits allow no unavailable pod; --restart restarts all its pods"
CAME_BACK: Final = "the scheduler sent its evicted pods back; archshift tries again when pods or nodes change"
MAX_PODS: Final = "--max-pods permits no more evictions"
SPREADS_ITSELF: Final = "left alone: spreads its pods over kubernetes.io/arch itself (DoNotSchedule)"
FORCE_WITHDRAWN: Final = "force was withdrawn: its taken fields are restored"


def held(reason: str) -> str:
    """Say that the configuration holds a workload on x86.

    Args:
        reason: The configuration's reason; empty for none.
    """
    return f"held on x86: {reason}" if reason else "held on x86 (hold: true)"


def unproven(verdict: WorkloadVerdict) -> str:
    """Say that its images hold a workload on x86."""
    return f"held on x86: {why_not(verdict)}"


def failed_on_graviton(canary: FailedCanary) -> str:
    """Say that a workload's first pod on Graviton did not run, and when. The text never changes by itself."""
    digest = canary.digest or canary.running
    image = canary.image if "@" in canary.image or not digest else f"{canary.image}@{digest}"
    return (
        f"failed on Graviton: container {canary.container}: {canary.words} "
        f"(image {image}, {canary.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC); a new image lifts this"
    )


def arm64_only(hold: bool) -> str:
    """Say that a workload runs on arm64 only.

    Args:
        hold: The configuration holds it on x86.
    """
    return "runs on arm64 only" + (", so hold has no effect" if hold else "")


def keeps(reason: str, graviton: int) -> str:
    """Say that a held workload keeps its present Graviton pods."""
    return f"{reason}; it keeps its {counted(graviton, 'pod')} on Graviton and gets no more there"


def kept(reason: str) -> str:
    """Say that a workload that archshift cannot place now keeps its present placement."""
    return f"{reason}; its present placement stays"


def near(reason: str, pods: int, side: Architecture, *, evictable: bool) -> str:
    """Say that an autoscaled workload is near its share, so that no rollout corrects it.

    Args:
        reason: What else there is to say; may be empty.
        pods: The number of pods on the wrong side.
        side: The side that lacks pods.
        evictable: Whether its limits let a pod be away.
    """
    command = "rebalance evicts only these" if evictable else "rebalance --restart does that"
    text = (
        f"{pods} of its pods may still move to {display(side)}; a rollout would restart all its pods, and "
        f"archshift {command}"
    )
    return joined(reason, text)


def tried(reason: str, pods: int, side: Architecture) -> str:
    """Say that the last rollout left pods on the wrong side.

    Args:
        reason: What else there is to say; may be empty.
        pods: The number of pods on the wrong side.
        side: The side that lacks pods.
    """
    text = (
        f"the last rollout could not place {pods} of its pods on {display(side)}; "
        f"archshift tries again when there are more {display(side)} nodes"
    )
    return joined(reason, text)


def capped(max_ratio: float) -> str:
    """Say that a workload has a limit; empty if it has none."""
    return f"capped at {max_ratio:g} of its pods" if max_ratio < 1 else ""


def no_pods(side: Architecture) -> str:
    """Say where the next pods of a workload without pods will start."""
    return f"no standing pods; its next ones start on {display(side)}"


def autoscaled(bounds: tuple[int, int], low: float, high: float) -> str:
    """Say how far an autoscaler may change a share before the next update; empty if it cannot.

    Args:
        bounds: Fewest and most replicas.
        low: Lowest share on Graviton.
        high: Highest share on Graviton.
    """
    shares = f"{low:.0%}", f"{high:.0%}"
    if shares[0] == shares[1]:
        return ""
    return (
        f"until the next update, its autoscaler ({bounds[0]} to {bounds[1]} pods) may bring its share on "
        f"Graviton to between {shares[0]} and {shares[1]}"
    )


def own_costs(owner: str) -> str:
    """Say that somebody else decides which pods of a workload end first."""
    return (
        f"{owner} sets deletion costs on its pods, so archshift sets none, and its share may change while "
        "it is scaled down"
    )


def limited(rule: str, label: str, most: int, pods: int, side: Architecture, there: int, domains: int) -> str:
    """Say how many pods of a workload its own hard rule lets run on a side, and why.

    Args:
        rule: The kind of rule: ``spread``, ``anti-affinity`` or ``host port``.
        label: The node label of the rule.
        most: The most pods that may run on the side.
        pods: All its pods.
        side: The side.
        there: The number of the label's values among the nodes of the side.
        domains: The number of the label's values among all nodes.
    """
    name = display(side)
    if rule == "host port":
        nodes = f"it may use {counted(there, f'{name} node')}"
    elif label == HOSTNAME_LABEL:
        rule, nodes = f"{rule} over nodes", f"it may use {counted(there, f'{name} node')}"
    elif label == ZONE_LABEL:
        rule, nodes = f"{rule} over zones", f"{name} nodes are in {there} of {domains} zones"
    else:
        rule, nodes = f"{rule} over {label}", f"{name} nodes have {there} of its {domains} values"
    return f"its own {rule} lets at most {most} of its {pods} pods run on {name}, because {nodes}"


def limited_by_devices(device: str, most: int, pods: int, side: Architecture) -> str:
    """Say that the nodes of a side have devices for some pods of a workload only."""
    return f"{display(side)} nodes have {device} for {most} of its {pods} pods"


def must_run_beside(companions: Sequence[str], side: Architecture) -> str:
    """Say that a required pod affinity keeps a workload on a side.

    Args:
        companions: The keys of the workloads that it must run beside; empty if archshift does not know them.
        side: The side.
    """
    if not companions:
        return f"it must run beside pods that archshift does not steer, and runs on {display(side)}"
    named = first_few(companions, separator=" or ")
    return f"it must run beside {named}, which {_stays(len(companions), side)}"


def needed_beside(key: str, side: Architecture) -> str:
    """Say that another workload must run beside a workload, so it stays on that one's side."""
    return f"{key} must run beside it and {_stays(1, side)}"


def _stays(number: int, side: Architecture) -> str:
    verb = "stay" if side == AMD64 else "run"
    return f"{verb if number > 1 else verb + 's'} on {display(side)}"


def companions_cannot_move(others: Sequence[str]) -> str:
    """Say that a limit of a workload keeps it and its companions on x86."""
    return f"not all its pods may move, and it must run beside {first_few(others)}"


def moves_only_at_once(others: Sequence[str]) -> str:
    """Say that no rolling update can move workloads that require each other, or a workload its own pods."""
    beside = first_few(others) if others else "its other pods"
    return f"each new pod must start beside {beside}, so no rolling update can move it"


def together(others: Sequence[str]) -> str:
    """Say that all pods of some workloads change sides together."""
    beside = first_few(others) if others else "each other"
    return f"all its pods move together, because they must run beside {beside}"


def must_stay_apart(others: Sequence[str], side: Architecture) -> str:
    """Say that a required pod anti-affinity keeps a workload off a side.

    Args:
        others: The keys of the workloads whose pods its pods must not meet.
        side: The side.
    """
    return (
        f"its pods must stay apart from those of {first_few(others)} (required pod anti-affinity or the same "
        f"host port), and {display(side)} has too few nodes for all"
    )


def waits_for_nodes(side: Architecture) -> str:
    """Say that a workload's pods cannot start on a side now, so that it waits."""
    return f"waits: no {display(side)} node takes pods now"


def waits_for_revision(obstacle: str) -> str:
    """Say that a StatefulSet waits for the end of its owner's rollout.

    With OnDelete, an evicted pod would come back with the new revision, which its owner holds back. At a
    partition it would not. But the scheduler counts each revision by itself, so no share could be exact.

    Args:
        obstacle: Why its rollout does not end by itself.
    """
    return f"waits: {obstacle}, and not all of them have the newest revision"


def waits_to_roll(why: str) -> str:
    """Say that a workload must roll out to move, because its limits let no pod be away, but cannot.

    Args:
        why: Why it cannot.
    """
    return f"waits: its limits let no pod be away, so it must roll out, but {why}"


def closed_nodes(side: Architecture, closed: int, nodes: int) -> str:
    """Say how many nodes of a side take no pods now."""
    of_side = counted(nodes, f"{display(side)} node", "take")
    return f"{closed} of {of_side} no pods now: cordoned, not ready or with a temporary taint"


def short_until_open(shortage: str) -> str:
    """Say what a side lacks until all of its nodes take pods again."""
    return f"until they do, {shortage}"


def special_nodes(kind: str) -> str:
    """Say that a workload's pods run on nodes that archshift does not use, such as ``fargate``."""
    return f"left alone: its pods run on {'Windows' if kind == 'windows' else kind.title()} nodes"


def daemonset_way_out(pin: bool) -> str:
    """Say what to do about DaemonSets that would break on Graviton nodes.

    Args:
        pin: Whether ``archshift:images.daemonsets: pin`` can keep one of them off.
    """
    out_of_scope = (
        "give them images for arm64, or the node selector kubernetes.io/arch: amd64 in their manifests"
    )
    return f"{out_of_scope}, or set archshift:images.daemonsets: pin" if pin else out_of_scope


def owned_by_others(blocked: Mapping[str, FieldOwner]) -> str:
    """Say whose fields keep archshift from placing a workload."""
    owned = " and ".join(f"its {TITLES[name]} ({owner})" for name, owner in blocked.items())
    return f"left alone: others own {owned}"


def controlled(by: str) -> str:
    """Say that another object's controller writes a workload.

    Args:
        by: The object, such as ``MetricStore main``.
    """
    return f"left alone: the controller of {by} writes it; set the placement there, or set steer_owned: true"


def template_of(user: str) -> str:
    """Say that another object's controller uses a workload's pod template.

    Args:
        user: The object, such as ``Rollout checkout``.
    """
    return f"left alone: its template belongs to {user}, and a change would start a release there"


def refused(words: str) -> str:
    """Say that the API server refuses a workload's patch.

    Args:
        words: The API server's words.
    """
    return (
        f"left alone: the API server refuses its patch ({words}); ask whoever set that rule, or name the "
        "workload in archshift:workloads.exclude"
    )


def oversized(wanted: int, existing: int) -> str:
    """Say that a workload wants many more pods than it has."""
    return (
        f"left alone: it wants {counted(wanted, 'pod')} and has {existing}; archshift places it when at most "
        f"{MOST_MISSING} of them are missing"
    )


def obstacle(why: str) -> str:
    """Say that a change of the template would not move a workload's pods."""
    return f"left alone: {why}"


def pinned(architectures: str, field: str) -> str:
    """Say that a workload pins architectures itself."""
    return f"left alone: pins {architectures} by its own {field}"


_NEEDED: Final[Mapping[Source, str]] = {
    "own rules": "matches its own node selector or affinity",
    "taint": "is without the taint {name}, which it does not tolerate",
    "runtime class": "matches the node selector of its RuntimeClass {name}",
    "admission": "matches the rules that admission adds to its pods ({name})",
    "node name": "is {name}, the only node that its template permits (spec.nodeName)",
    "system": "runs {name}, which its pods need",
    "device": "has {detail} for one pod",
    "volume": "can use the volume of its claim {name} (it is in {detail})",
}
"""What the words "no Graviton node" need to become the reason."""


def nowhere(unmet: Unmet, nodes: str) -> str:
    """Say why no node of several can run a workload's pods.

    Args:
        unmet: What they do not meet.
        nodes: The nodes, such as ``Graviton node`` or ``node that stays``.
    """
    return f"no {nodes} {_NEEDED[unmet.source].format(name=unmet.name, detail=unmet.detail)}"


def fits_no_node(unmet: Unmet, side: Architecture) -> str:
    """Say that no node of a side can run a workload's pods."""
    if unmet.source == "taint":
        return f"left alone: does not tolerate the taint {unmet.name} of the {display(side)} nodes"
    if unmet.source == "own rules":
        return f"left alone: its own node selector or affinity matches no {display(side)} node"
    return f"left alone: {nowhere(unmet, f'{display(side)} node')}"


def other_scheduler(name: str) -> str:
    """Say that another scheduler places a workload's pods."""
    return f"left alone: the scheduler {name} places its pods (spec.schedulerName)"


def device_claims(names: Sequence[str]) -> str:
    """Say that a workload asks for devices in a way that only the scheduler can judge."""
    return f"left alone: {needs_x86_because_of_device_claims(names)}"


def unshared_volume(claim: str, sharing: Sharing) -> str:
    """Say that no rollout of a workload can end, because old and new pods need one volume.

    Args:
        claim: The volume's claim.
        sharing: Who can use the volume at the same time.
    """
    return (
        f"left alone: no rollout of it can end, because only one {sharing} at a time can use its volume "
        f"(claim {claim}); set its strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1"
    )


def daemonset_pins(architectures: str) -> str:
    """Say that a DaemonSet pins architectures itself."""
    return f"a DaemonSet that pins {architectures} itself"


def daemonset_stays(verdict: WorkloadVerdict) -> str:
    """Say that the images of a DaemonSet that runs on Graviton nodes are unreadable now."""
    return f"stays as it is: {why_not(verdict)}"


def daemonset_kept_off(verdict: WorkloadVerdict) -> str:
    """Say that a DaemonSet is pinned to x86 nodes."""
    return f"kept off Graviton nodes: {why_not(verdict)}"


def daemonset_would_break(verdict: WorkloadVerdict) -> str:
    """Say that a DaemonSet would start on Graviton nodes and break."""
    return f"would start on Graviton nodes and {why_not(verdict)}"


def what_happens(row: PlannedWorkload) -> str:
    """Say what the update does with a workload's pods, and why it does no more."""
    if row.entry:
        # A rollout has a reason there, which says so.
        return joined(f"moves {counted(row.moves, 'pod')}" if row.moves else "", row.reason) or "unchanged"
    return joined("rolls out" if row.restarts else "", row.reason) or "unchanged"


def what_restarts(plan: Plan) -> str:
    """Say what the step replaces: whole workloads with patches, and single pods at admission."""
    rolls = f"{counted(sum(row.restarts for row in plan.workloads), 'workload', 'roll')} out"
    if plan.placed_by == "patches":
        return rolls
    moves = f"{counted(plan.moves, 'pod', 'change')} sides"
    return f"{moves}, {counted(plan.restarted_pods, 'pod', 'restart')}, {rolls}"


def fewer_restarts(plan: Plan, at_admission: Plan) -> str:
    """Say how many restarts placement at admission would save; empty if it saves none.

    Args:
        plan: The plan of the step, with patches.
        at_admission: The plan of the same step at admission, for a fleet without patches.
    """
    moves = at_admission.moves
    # For each pod that moves: at admission, more workloads may be part of the fleet.
    if at_admission.restarted_pods * plan.moves >= plan.restarted_pods * moves:
        return ""
    to_move = f" to move {moves}" if moves != plan.moves else ""
    return (
        f"this step restarts {counted(plan.restarted_pods, 'pod')} to move {plan.moves}; with placement: "
        f"admission it would restart {at_admission.restarted_pods}{to_move}"
    )


def not_placed(unplaced: Mapping[str, int]) -> str:
    """Say which pods the policy did not place although they are newer; empty if there are none.

    Args:
        unplaced: Workload key to the number of such pods.
    """
    if not unplaced:
        return ""
    pods = sum(unplaced.values())
    return (
        f"archshift's policy did not place {counted(pods, 'new pod')} of {first_few(sorted(unplaced))}: the "
        "policy was away, or the workload had no entry yet"
    )


def policies_away(away: Mapping[str, PolicyAway], *, new: bool = False) -> list[str]:
    """Say where archshift's policy does not place pods by its entries, a sentence for each reason.

    Args:
        away: Namespace to the reason.
        new: Whether to name the namespaces that have no policy at all: each one before its first update.
    """
    namespaces: dict[PolicyAway, list[str]] = {}
    for namespace, reason in away.items():
        if reason.there or new:
            namespaces.setdefault(reason, []).append(namespace)
    return [
        f"archshift's policy is not in effect as made in {first_few(names)}: {reason.why}; {reason.way_out}"
        for reason, names in namespaces.items()
    ]


def older_than_policy(pods: int) -> str:
    """Say how many pods are older than the policy; empty for none."""
    if not pods:
        return ""
    verb = "was" if pods == 1 else "were"
    return f"{counted(pods, 'pod')} {verb} made before archshift's policy; it places their successors"


def needs_x86_because_held(reason: str) -> str:
    """Say that a workload needs x86 because the configuration holds it there.

    Args:
        reason: The configuration's reason; empty for none.
    """
    return f"it is {held(reason)}"


def needs_x86_because_pinned(architectures: str, field: str) -> str:
    """Say that a workload needs x86 because it pins architectures itself."""
    return f"it pins {architectures} by its own {field}"


def needs_x86_because_nothing_else_fits(unmet: Unmet) -> str:
    """Say that a workload needs x86 because no Graviton node can run its pods."""
    return nowhere(unmet, f"{display(ARM64)} node")


def needs_x86_because_of_device_claims(names: Sequence[str]) -> str:
    """Say that a workload needs x86 because nobody knows which nodes have its devices."""
    return f"it asks for devices through its ResourceClaim {' and '.join(names)}"


def needs_x86_beside(companion: str) -> str:
    """Say that a workload needs x86 because it must run beside another one, or the other beside it."""
    return f"it and {companion} must run beside each other, and {companion} needs x86"


def troubles(found: Mapping[str, Trouble]) -> list[str]:
    """Say which pods do not run and which rollouts are stuck, a sentence for each cause.

    Args:
        found: The key of a workload to its trouble.
    """
    causes: dict[tuple[str, str], Counter[str]] = {}
    for key, trouble in sorted(found.items()):
        what = "pending" if trouble.pending else "not running" if trouble.failing else "stuck"
        causes.setdefault((what, trouble.words), Counter())[key] = trouble.pending + trouble.failing
    return [_trouble(what, words, workloads) for (what, words), workloads in causes.items()]


def _trouble(what: str, words: str, workloads: Counter[str]) -> str:
    named = first_few([key for key, _ in workloads.most_common()], 3)
    pods = workloads.total()
    if not pods:
        return f"stuck rollout: {named}: {words}"
    return f"{counted(pods, 'pod')} {is_or_are(pods)} {what}: {named}: {words}"
