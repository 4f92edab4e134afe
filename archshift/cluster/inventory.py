"""What runs in the cluster, read once: controllers, their pods, nodes and autoscalers. Reads only.

Each page of objects is reduced to the few fields that the plan needs. So the used memory grows with the
number of workloads and not with the size of their manifests.
"""

import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archshift.cluster import pod_fields
from archshift.cluster.autoscalers import read_autoscalers
from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import (
    MOST_MISSING,
    OWNER_LABELS,
    Discovery,
    Inventory,
    PullIdentity,
    Workload,
)
from archshift.cluster.ownership import (
    OURS,
    FieldOwner,
    former_manager,
    managed_fields,
    names_of_stack,
    owned_part,
    owners,
    owners_of_whole,
    path_of,
)
from archshift.cluster.pod_fields import Template
from archshift.cluster.pod_needs import NOTHING_ADDED, Admission, read_defaults, read_runtime_class
from archshift.cluster.pods import COSTS_SUFFIX, Pod, list_pods, pull_identity
from archshift.cluster.taken_fields import read_taken_fields
from archshift.cluster.template_users import read_template_use
from archshift.cluster.troubles import find_troubles
from archshift.cluster.volumes import Volumes, read_volumes
from archshift.cluster.workload_needs import of_cluster, of_template, steered_by_pods, workload_of
from archshift.common.errors import ArchshiftError
from archshift.common.quantity import millicpu, whole
from archshift.common.resources import NOTHING, Resources
from archshift.images.workload import Container, containers_of, with_pods
from archshift.nodes.groups import Node, Taint

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than making a plan, and here it is only an annotation.
    from archshift.cluster.client import Cluster


def read_inventory(
    cluster: "Cluster",
    discovery: Discovery,
    field_manager: str,
    *,
    with_unsteered: bool = False,
    every_controller: bool = False,
) -> Inventory:
    """Read the cluster.

    Args:
        cluster: The connection.
        discovery: Which workloads to read. Pods and nodes are read everywhere, because they affect capacity.
        field_manager: This stack's name in ``managedFields``.
        with_unsteered: Also read the controllers outside the discovery, including the system's, because their
            pods run on the same nodes.
        every_controller: Whatever makes pods in the discovery is a workload, of any kind. Pods can be placed
            at their admission without a template.

    Raises:
        ArchshiftError: Something could not be read. An inventory is never partial.
    """

    # Each collection has its own thread: the API server encodes one collection while another is decoded.
    with _without_collector(), ThreadPoolExecutor(max_workers=4) as threads:
        pods = threads.submit(list_pods, cluster)
        nodes = threads.submit(lambda: tuple(map(read_node, cluster.list("/api/v1/nodes"))))
        admission = _read_admission(cluster)
        kinds = {
            kind: threads.submit(
                _read_controllers,
                cluster,
                kind,
                discovery,
                field_manager,
                # The first node of a side starts every DaemonSet, wherever it is.
                with_unsteered or on_every_node(kind),
                admission,
            )
            for kind in CONTROLLERS
        }
        scalers = threads.submit(read_autoscalers, cluster, discovery.autoscaled)
        volumes = threads.submit(_read_volumes, cluster)
        template_use = threads.submit(read_template_use, cluster, discovery.namespaces)
        autoscaled = scalers.result()
        use = template_use.result()

        def keyed(controllers: Iterable[Workload]) -> dict[str, Workload]:
            return {
                workload.key: replace(
                    workload,
                    autoscaled=autoscaled.of(workload),
                    cpu_targets=autoscaled.cpu_targets.get(workload.key, ()),
                    template_of=use.of(workload.key, workload.replicas),
                )
                for workload in controllers
            }

        read = [reading.result() for reading in kinds.values()]
        workloads = keyed(workload for ours, _ in read for workload in ours)
        others = keyed(workload for _, outside in read for workload in outside)
        outside = {key: workload for key, workload in others.items() if key not in workloads}
        all_pods = pods.result()
        live = Counter(pod.workload for pod in all_pods)
        workloads, outside = (_with_believable_replicas(each, live) for each in (workloads, outside))
        daemonsets = {key: each for key, each in outside.items() if on_every_node(each.kind)}
        if every_controller:
            by_pods = _known_by_pods(all_pods, discovery, volumes.result())
            workloads |= keyed(by_pods)
        found = _assemble(
            workloads,
            nodes.result(),
            all_pods,
            discovery,
            outside if with_unsteered else None,
            daemonsets,
            volumes.result(),
            former_manager(field_manager) + COSTS_SUFFIX,
        )
        if not every_controller:
            return found
        return replace(found, unplaced=_unplaced(all_pods, workloads), waiting=_waiting(all_pods, workloads))


def _with_believable_replicas(
    workloads: Mapping[str, Workload], live: Mapping[str, int]
) -> dict[str, Workload]:
    """Return the workloads, with a limit for those that want far more pods than they have.

    A plan looks at each wanted pod. Whoever may write one Deployment can want two billion pods.
    """
    found = {}
    for key, workload in workloads.items():
        most = live.get(key, 0) + MOST_MISSING
        if workload.replicas > most:
            workload = replace(workload, replicas=most, oversized=(workload.replicas, live.get(key, 0)))
        found[key] = workload
    return found


def _known_by_pods(pods: Iterable[Pod], discovery: Discovery, volumes: Volumes) -> Iterator[Workload]:
    """Yield the workloads of the discovery that only their pods show."""
    if discovery.label_selector:
        return  # it selects controllers, whose labels nobody knows here
    members: dict[str, list[Pod]] = {}
    for pod in pods:
        key = pod.workload
        kind = key.split("/")[1]
        known = kind in CONTROLLERS or key in discovery.exclude or not discovery.covers(pod.namespace)
        if pod.owner and not (known or pod.leaving or pod.tied or _of_archshift(pod)):
            members.setdefault(key, []).append(pod)
    for key, own in members.items():
        yield steered_by_pods(key, own, volumes)


def _of_archshift(pod: Pod) -> bool:
    """Return whether it is a pod of a test on arm64, or a placeholder."""
    return any(label.startswith(OURS) for label in pod.labels)


def _unplaced(pods: Iterable[Pod], workloads: Mapping[str, Workload]) -> dict[str, tuple[str, ...]]:
    """Return ``Inventory.unplaced``."""
    created: dict[str, list[str]] = {}
    for pod in pods:
        if not (pod.placed_by or pod.leaving or pod.tied) and pod.workload in workloads:
            created.setdefault(pod.workload, []).append(pod.created)
    return {key: tuple(times) for key, times in created.items()}


def _waiting(pods: Iterable[Pod], workloads: Mapping[str, Workload]) -> dict[str, tuple[str, ...]]:
    """Return ``Inventory.waiting``."""
    entries: dict[str, list[str]] = {}
    for pod in pods:
        if not (pod.node or pod.leaving) and pod.workload in workloads:
            entries.setdefault(pod.workload, []).append(pod.placed_by)
    return {key: tuple(own) for key, own in entries.items()}


def _read_admission(cluster: "Cluster") -> Admission:
    runtime_classes = cluster.list("/apis/node.k8s.io/v1/runtimeclasses")
    return Admission(
        read_defaults(cluster.list("/api/v1/limitranges")),
        {item["metadata"]["name"]: read_runtime_class(item) for item in runtime_classes},
    )


def _read_volumes(cluster: "Cluster") -> Volumes:
    return read_volumes(
        cluster.list("/api/v1/persistentvolumeclaims"),
        cluster.list("/api/v1/persistentvolumes"),
        cluster.list("/apis/storage.k8s.io/v1/storageclasses"),
        cluster.list("/apis/storage.k8s.io/v1/csidrivers"),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Stop Python's garbage collector of cycles.

    A page has 200,000 Python objects without a cycle, which exist only until it is reduced. The collector
    would check them repeatedly while they are made. That is half the time of reading a large cluster.
    """
    # If the collector is already stopped, another thread may have stopped it. That thread starts it again.
    ours = gc.isenabled()
    if ours:
        gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.enable()


def _read_controllers(
    cluster: "Cluster",
    kind: str,
    discovery: Discovery,
    field_manager: str,
    with_unsteered: bool,
    admission: Admission,
) -> tuple[list[Workload], list[Workload]]:
    """Return a kind's controllers: those in the discovery, and those outside it if they are wanted."""

    def read(item: Mapping[str, Any]) -> Workload:
        return read_workload(kind, item, field_manager, admission)

    collection_of = CONTROLLERS[kind].collection
    ours: list[Workload] = []
    outside: list[Workload] = []
    # If the whole cluster is read anyway, one list is enough for both, unless there is a label selector,
    # which only the API server evaluates.
    apart = with_unsteered and bool(discovery.label_selector)
    narrow = [collection_of(namespace) for namespace in discovery.namespaces]
    parameters = {"labelSelector": discovery.label_selector} if discovery.label_selector else {}
    for collection in narrow if narrow and (apart or not with_unsteered) else [collection_of()]:
        for item in cluster.list(collection, **parameters):
            if _discovered(kind, item["metadata"], discovery):
                ours.append(read(item))
            elif with_unsteered and not apart:
                outside.append(read(item))
    if apart:
        outside = [read(item) for item in cluster.list(collection_of())]
    return ours, outside


def _discovered(kind: str, meta: Mapping[str, Any], discovery: Discovery) -> bool:
    namespace = meta["namespace"]
    if f"{namespace}/{kind}/{meta['name']}" in discovery.exclude or meta.get("deletionTimestamp"):
        return False
    return discovery.covers(namespace)


def read_workload(
    kind: str, item: Mapping[str, Any], field_manager: str, admission: Admission = NOTHING_ADDED
) -> Workload:
    """Reduce a controller's JSON to what the plan needs.

    Args:
        kind: One of ``CONTROLLERS``.
        item: The object as the API server returns it, ``managedFields`` included.
        field_manager: This stack's name in ``managedFields``.
        admission: What the cluster adds to new pods.
    """
    meta, spec = item["metadata"], item["spec"]
    record = CONTROLLERS[kind]
    template_path, template = record.template_path, record.template(item)
    pod_spec = template["spec"]
    managed, names = managed_fields(meta), names_of_stack(field_manager)
    live = pod_fields.read_fields(pod_spec)
    owned, others = _field_owners(managed, template_path, live, names)
    revision = pod_fields.revision_of(template)
    copiers = _copiers(managed, template_path, names) if revision else frozenset()
    if not meta.get("managedFields"):
        # At the first apply, the API server makes this manager the owner of an object without any record
        # (k8s.io/apimachinery, managedfields). Such objects come from some restored backups.
        everything = frozenset({FieldOwner("before-first-apply", "Update")})
        others, copiers = dict.fromkeys(live, everything), everything if revision else frozenset()
    # Only archshift writes exactly these. So they are ours even if kubectl rollout undo owns them now.
    written = [
        constraint
        for constraint in pod_spec.get("topologySpreadConstraints") or ()
        if revision and pod_fields.is_soft_spread(constraint, spec.get("selector"), record.revision_label)
    ]
    for name in pod_fields.SOFT_SPREADS:
        if name in others and live.get(name) not in written:
            # The application's own, which our patch only repeats.
            owned.discard(name)
            others.pop(name)
            live.pop(name, None)
    before, behind = _other_spreads(managed, pod_spec, template_path, names, written)
    reclaimed = _reclaimed(owned, others, live, copiers, record.revision_label) if revision else {}
    applied_by, applied = _applied(managed, template, template_path, names)
    null_parent = _owned_as_null(managed, template_path, pod_spec, names)
    obstacle = record.obstacle(spec)
    try:
        taken_fields = read_taken_fields(meta)
    except ArchshiftError as error:
        # The owner of one workload must not stop the run for all others.
        taken_fields, obstacle = {}, str(error)
    workload = Workload(
        namespace=meta["namespace"],
        kind=kind,
        name=meta["name"],
        replicas=record.replicas(spec),
        template=Template(
            spec=live,
            owned=frozenset(owned),
            applied=applied,
            applied_by=applied_by,
            foreign_owners={name: min(theirs) for name, theirs in others.items() if name not in reclaimed},
            reclaimed=reclaimed,
            takes_over=bool(copiers) or null_parent,
            null_parent=null_parent,
            taken_fields=taken_fields,
            selector=spec.get("selector"),
            revision_label=record.revision_label,
            has_soft_rules=pod_fields.has_soft_rules(pod_spec, (*before, *behind)),
            stays_apart=pod_fields.stays_apart(pod_spec),
            revision=revision,
            inexact=pod_fields.Inexact.parse(_annotation(item, pod_fields.INEXACT_ANNOTATION)),
            other_spreads=(before, behind),
            labels=(template.get("metadata") or {}).get("labels") or {},
            affinity=pod_fields.required_terms(pod_spec, "podAffinity"),
            anti_affinity=pod_fields.required_terms(pod_spec, "podAntiAffinity"),
            host_ports=pod_fields.host_ports(pod_spec),
            surge=record.surge(spec),
        ),
        settled=record.settled(item),
        updated=record.updated(item),
        most_away=record.most_away(spec),
        stuck=record.stuck(item),
        identity=f"{meta.get('uid', '')[:8]}.{meta.get('generation', 0)}",
        obstacle=obstacle,
        containers=containers_of(pod_spec),
        pulls_as=pull_identity(meta["namespace"], pod_spec),
        owner=_owner(meta.get("labels") or {}),
        controlled_by=_controlled_by(meta),
    )
    return of_template(workload, item, admission)


def _controlled_by(meta: Mapping[str, Any]) -> str:
    return next(
        (
            f"{owner['kind']} {owner['name']}"
            for owner in meta.get("ownerReferences") or ()
            if owner.get("controller")
        ),
        "",
    )


def _owner(labels: Mapping[str, str]) -> str:
    for wanted in OWNER_LABELS:
        for label, value in sorted(labels.items()):
            # With any prefix, because every company has its own.
            if label.rpartition("/")[2] == wanted and value:
                return value
    return ""


def _annotation(item: Mapping[str, Any], name: str) -> str:
    return str(((item.get("metadata") or {}).get("annotations") or {}).get(name, ""))


def _field_owners(
    managed: Sequence[Mapping[str, Any]],
    template_path: tuple[str, ...],
    live: Mapping[str, Any],
    our_names: tuple[str, ...],
) -> tuple[set[str], dict[str, frozenset[FieldOwner]]]:
    """Return the names in ``FIELDS`` that this stack owns, and those that others own with their owners."""
    owned, others = set(), {}
    for name in pod_fields.FIELDS:
        path = pod_fields.field_path(name, template_path)
        field_owners = owners(managed, path)
        ours = {owner for owner in field_owners if owner.manager in our_names}
        if ours:
            owned.add(name)
        # Also whoever applied the field as null or empty: the API server refuses another value there.
        if theirs := (field_owners if name in live else owners_of_whole(managed, path)) - ours:
            others[name] = theirs
    return owned, others


def _copiers(
    managed: Sequence[Mapping[str, Any]], template_path: tuple[str, ...], our_names: tuple[str, ...]
) -> frozenset[FieldOwner]:
    """Return who else owns archshift's revision: by an undo, or by a manifest copied from the cluster."""
    path = path_of(*template_path, *pod_fields.REVISION_PATH)
    return frozenset(
        owner
        for owner in owners(managed, path)
        if owner.manager not in our_names and not owner.manager.startswith(OURS)
    )


def _reclaimed(
    owned: set[str],
    others: Mapping[str, frozenset[FieldOwner]],
    live: Mapping[str, Any],
    copiers: frozenset[FieldOwner],
    revision_label: str,
) -> dict[str, Any]:
    """Return ``Template.reclaimed``.

    A client that copied archshift's template also owns its revision, or shares fields with archshift. An
    editor who changed one field does neither, so the field belongs to the editor. Only the constraints have a
    form that nobody else writes.
    """
    wrote = {
        name: theirs
        for name, theirs in others.items()
        if name in live and pod_fields.archshift_wrote(name, live[name], revision_label)
        if theirs <= copiers
        or name in owned
        or (name in pod_fields.SPREADS and not any(own.manager.startswith(OURS) for own in theirs))
    }
    # archshift never writes a pin and a constraint together, and it uses the node selector only if it cannot
    # use the required affinity. So these are the application's own pins in a copied template.
    if "required" in wrote and wrote["required"] == wrote.get("spread"):
        del wrote["required"]
    if "required" not in others or "required" in wrote:
        wrote.pop("node-selector", None)
    return {name: pod_fields.without_archshift(name, live[name]) for name in wrote}


def _owned_as_null(
    managed: Sequence[Mapping[str, Any]],
    template_path: tuple[str, ...],
    pod_spec: Mapping[str, Any],
    our_names: tuple[str, ...],
) -> bool:
    """Return whether others own a parent of ``FIELDS`` that the live object lacks.

    Measured: a forced apply inside it is harmless. The owner's next apply neither conflicts nor removes it.
    """
    for parent in pod_fields.PARENTS:
        value: Any = pod_spec
        for key in parent:
            value = (value or {}).get(key)
        if value is None:
            path = path_of(*template_path, "spec", *parent)
            if any(owner.manager not in our_names for owner in owners_of_whole(managed, path)):
                return True
    return False


def _applied(
    managed: Sequence[Mapping[str, Any]],
    template: Mapping[str, Any],
    template_path: tuple[str, ...],
    our_names: tuple[str, ...],
) -> tuple[str, Mapping[str, Any]]:
    """Return the part of a pod template that this stack applied last and still owns, and under which name."""
    for entry in sorted(managed, key=lambda entry: entry.get("manager") != our_names[0]):
        if entry.get("manager") in our_names and entry.get("operation") == "Apply":
            fields: Any = entry.get("fieldsV1") or {}
            for key in template_path:
                fields = fields.get(f"f:{key}") or {}
            if fields:
                return entry["manager"], owned_part(template, fields)
    return "", {}


def _other_spreads(
    managed: Sequence[Mapping[str, Any]],
    pod_spec: Mapping[str, Any],
    template_path: tuple[str, ...],
    our_names: tuple[str, ...],
    written: Sequence[Mapping[str, Any]],
) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]:
    """Return the spread constraints of others: those before ours and those after it, in live order.

    Args:
        written: Constraints that archshift wrote, whoever owns them.
    """
    before: list[Mapping[str, Any]] = []
    behind: list[Mapping[str, Any]] = []
    side = before
    for constraint in pod_spec.get("topologySpreadConstraints") or ():
        if pod_fields.is_ours(constraint):
            side = behind
            continue
        if constraint in written:
            continue
        field_owners = owners(managed, pod_fields.constraint_path(constraint, template_path))
        # If only this stack owns a constraint, the application has removed it from its own manifest.
        if any(owner.manager not in our_names for owner in field_owners) or not field_owners:
            side.append(constraint)
    return tuple(before), tuple(behind)


def read_node(item: Mapping[str, Any]) -> Node:
    """Reduce a node's JSON to what a plan needs."""
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    allocatable = status.get("allocatable") or {}
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    taints = tuple(
        Taint(key=taint["key"], value=taint.get("value", ""), effect=taint["effect"])
        for taint in spec.get("taints") or ()
    )
    closed = (
        spec.get("unschedulable")
        or meta.get("deletionTimestamp")
        or any(taint.hard and taint.temporary for taint in taints)
    )
    return Node(
        name=meta["name"],
        labels=meta.get("labels") or {},
        taints=taints,
        millicpu=millicpu(str(allocatable.get("cpu", "0"))),
        memory=whole(str(allocatable.get("memory", "0"))),
        pods=whole(str(allocatable.get("pods", "0"))),
        schedulable=ready and not closed,
        settings_labels=_set_by_engine(meta.get("managedFields") or ()),
        devices=tuple(
            sorted(
                (name, whole(str(amount)))
                for name, amount in allocatable.items()
                if name not in ("cpu", "memory", "pods")
            )
        ),
    )


def _set_by_engine(managed: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the labels that Pulumi's Kubernetes provider set on a node: it makes the lab's nodes."""
    return frozenset(
        key.removeprefix("f:")
        for entry in managed
        if entry.get("manager", "").startswith("pulumi-kubernetes")
        for key in ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or ()
    )


def _all_containers(workload: Workload | None, pods: Iterable[Mapping[str, Any]]) -> tuple[Container, ...]:
    if workload is None:
        return with_pods((), pods)
    containers = with_pods(workload.containers, pods, of_template=workload.updated)
    if workload.settled or workload.updated:
        return containers
    # During a rollout, pods of the last revision run the old image. No new pod gets that image, and it is not
    # an injected container.
    known = {container.place for container in workload.containers}
    wanted = {(container.place, container.use.image) for container in workload.containers}
    return tuple(
        container
        for container in containers
        if (container.place, container.use.image) in wanted or container.place not in known
    )


def _is_of_last_revision(workload: Workload, images: str) -> bool:
    """Return whether a pod with these images was made from an older template than the present one."""
    wanted = {container.place: container.use.image for container in workload.containers}
    containers = containers_of(json.loads(images)["spec"])
    return any(
        wanted.get(container.place, container.use.image) != container.use.image for container in containers
    )


def _assemble(
    workloads: dict[str, Workload],
    nodes: tuple[Node, ...],
    pods: Iterable[Pod],
    discovery: Discovery,
    outside: Mapping[str, Workload] | None,
    daemonsets: Mapping[str, Workload],
    volumes: Volumes,
    costs_manager: str,
) -> Inventory:
    """Return the inventory.

    Args:
        workloads: The discovered workloads, by key.
        nodes: All nodes.
        pods: All pods.
        discovery: Which workloads archshift looks at.
        outside: The controllers outside the discovery, by key; None if they were not requested.
        daemonsets: The DaemonSets outside the discovery, by key.
        volumes: The claims and volumes of the cluster.
        costs_manager: This stack's name for deletion costs in ``managedFields``.
    """
    architecture = {node.name: node.architecture for node in nodes}
    counts: Counter[tuple[str, str]] = Counter()
    unsteered_load: dict[str, Resources] = {}
    others: dict[str, str] = {}
    shapes: dict[str, dict[str, None]] = {key: {} for key in workloads}
    known = (*workloads.values(), *(outside or {}).values(), *daemonsets.values())
    pulled: set[tuple[str, PullIdentity]] = set()
    elsewhere: dict[str, list[Pod]] = {key: [] for key in outside or ()}
    rolling: dict[str, list[Pod]] = {}
    in_trouble: dict[str, list[Pod]] = {}
    loads: dict[str, Resources] = {}
    requested: dict[tuple[str, str], Resources] = {}
    scaled: dict[str, list[Pod]] = {}
    # Pods that are alike in what they need, one of each; of a workload's pods nearly all are.
    samples: dict[str, dict[tuple[str, Resources, int], Pod]] = {key: {} for key in workloads}
    for pod in pods:
        if pod.leaving:
            continue
        where = architecture.get(pod.node, "")
        if pod.node:
            loads[pod.node] = loads.get(pod.node, NOTHING) + pod.requests
        key = pod.workload
        if pod.cost_manager == costs_manager or (key in workloads and workloads[key].autoscaled):
            scaled.setdefault(key, []).append(pod)
        if key in workloads:
            counts[key, where] += 1
            requested[key, where] = requested.get((key, where), NOTHING) + pod.requests
            _keep_sample(samples[key], pod, workloads[key].template.revision_label)
            shapes[key][pod.images] = None
            pulled.add((pod.images, pod.pulls_as))
            if pod.failing or not pod.node:
                in_trouble.setdefault(key, []).append(pod)
            if outside is not None and not (workloads[key].settled or workloads[key].updated):
                rolling.setdefault(key, []).append(pod)
            continue
        unsteered_load[where] = unsteered_load.get(where, NOTHING) + pod.requests
        if outside is not None:
            if key not in outside:
                key = pod.maker
            elsewhere.setdefault(key, []).append(pod)
            counts[key, where] += 1
            pulled.add((pod.images, pod.pulls_as))
        elif key in daemonsets:
            counts[key, where] += 1
        in_scope = not discovery.label_selector and discovery.covers(pod.namespace)
        if in_scope and key not in discovery.exclude:
            key = pod.maker
            if pod.owner:
                others[key] = f"archshift does not steer pods of a {pod.owner.kind}"
            else:
                others[key] = "a bare pod: nothing would start it again"
            shapes.setdefault(key, {})[pod.images] = None
            pulled.add((pod.images, pod.pulls_as))
    workloads = {
        key: of_cluster(workload, list(samples[key].values()), volumes) for key, workload in workloads.items()
    }
    beyond = {
        key: _unsteered(members, volumes, (outside or {}).get(key)) for key, members in elsewhere.items()
    }
    for key, of_both in rolling.items():
        workload = workloads[key]
        old = {images for images in shapes[key] if _is_of_last_revision(workload, images)}
        if left := [pod for pod in of_both if pod.images in old]:
            # If a rollout stops half way or waits at a partition, pods of the last revision are made again.
            last = replace(
                _unsteered(left, volumes), kind=workload.kind, name=f"{workload.name} (last revision)"
            )
            beyond[last.key] = last
    return Inventory(
        workloads=workloads,
        nodes=nodes,
        pods=dict(counts),
        unsteered_load=unsteered_load,
        unsteered_reasons=others,
        containers={
            key: _all_containers(workloads.get(key), map(json.loads, texts)) for key, texts in shapes.items()
        },
        pull_identities=_pull_identities(known, pulled),
        unsteered_workloads=beyond,
        outside_daemonsets={key: beyond.get(key, workload) for key, workload in daemonsets.items()},
        loads=loads,
        requested=requested,
        volumes=volumes,
        troubles=find_troubles(workloads, in_trouble),
        scaled_pods=scaled,
        costs_manager=costs_manager,
    )


def _pull_identities(
    workloads: Iterable[Workload], pulled: Iterable[tuple[str, PullIdentity]]
) -> dict[str, frozenset[PullIdentity]]:
    """Return image to the identities that pull it, from templates and from the images of pods."""
    found: dict[str, set[PullIdentity]] = {}
    for workload in workloads:
        if workload.pulls_as is None:
            continue
        for container in workload.containers:
            found.setdefault(container.use.image, set()).add(workload.pulls_as)
    for images, identity in pulled:
        for container in containers_of(json.loads(images)["spec"]):
            found.setdefault(container.use.image, set()).add(identity)
    return {image: frozenset(identities) for image, identities in found.items()}


def _keep_sample(samples: dict[tuple[str, Resources, int], Pod], pod: Pod, revision_label: str) -> None:
    # Pods with equal rules share one object.
    kind = (pod.labels.get(revision_label, ""), pod.requests, id(pod.rules))
    if kind not in samples or samples[kind].created < pod.created:
        samples[kind] = pod


def _unsteered(pods: Sequence[Pod], volumes: Volumes, workload: Workload | None = None) -> Workload:
    """Return a controller outside the discovery, or the owner of these pods, as a workload."""
    workload = of_cluster(workload, pods, volumes) if workload else workload_of(pods, volumes)
    images = dict.fromkeys(pod.images for pod in pods)
    # This includes the last revision's images, because its pods still run.
    containers = with_pods(workload.containers, map(json.loads, images), of_template=workload.updated)
    return replace(workload, containers=containers)
