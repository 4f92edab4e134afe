"""Where the volumes of pods bind them: claims, PersistentVolumes and StorageClasses. Pure.

A bound claim follows its PersistentVolume, which may exist in one zone or on one node. A claim without a
volume follows the topologies that its StorageClass permits. A ``hostPath`` volume binds nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from archshift.cluster.scheduling import Condition, Unmet
from archshift.common.kubernetes import ZONE_LABEL, ZONE_LABELS

Sharing: TypeAlias = Literal["pod", "node", "all"]
"""Who can use a volume at the same time: one pod, the pods of one node, or all pods."""

_NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a pod template.

    Attributes:
        shared: The names of claims that all its pods use.
        own: (prefix of the claim's name, StorageClass) of each claim that every pod of a StatefulSet has.
            The class is None for the default class.
        generic: (volume, StorageClass) of each claim that is made with a pod and deleted with it.
        first: The number of a StatefulSet's first pod.
    """

    shared: tuple[str, ...] = ()
    own: tuple[tuple[str, str | None], ...] = ()
    generic: tuple[tuple[str, str | None], ...] = ()
    first: int = 0


@dataclass(frozen=True, slots=True)
class _Claim:
    name: str
    volume: str
    storage_class: str | None
    modes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Volume:
    required: Mapping[str, Any] | None
    storage_class: str
    attached: bool


@dataclass(frozen=True, slots=True)
class Volumes:
    """All claims and volumes of a cluster.

    Attributes:
        claims: ``namespace/name`` to the claim.
        volumes: PersistentVolume to what matters of it.
        classes: StorageClass to the required node affinity of its new volumes; None for none.
        default_class: The class of claims that name none; empty if there is no such class.
    """

    claims: Mapping[str, _Claim] = field(default_factory=dict)
    volumes: Mapping[str, _Volume] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    default_class: str = ""

    def of_claims(self, namespace: str, names: Iterable[str]) -> tuple[Condition, ...]:
        """Return what existing claims demand of a node. A missing claim demands nothing."""
        found = (self.claims.get(f"{namespace}/{name}") for name in names)
        conditions = (self._of_claim(claim) for claim in found if claim)
        return tuple(condition for condition in conditions if condition)

    def of_all_pods(self, namespace: str, claims: Claims) -> tuple[Condition, ...]:
        """Return what the volumes of every pod of a template demand of a node."""
        new = (self._of_class(storage_class, volume) for volume, storage_class in claims.generic)
        return (*self.of_claims(namespace, claims.shared), *(condition for condition in new if condition))

    def of_each_pod(
        self, namespace: str, workload: str, claims: Claims, pods: int
    ) -> tuple[tuple[Condition, ...], ...]:
        """Return what the volumes of each pod of a StatefulSet demand; empty if no pod has a demand."""
        if not claims.own:
            return ()
        each = []
        for number in range(claims.first, claims.first + max(1, pods)):
            conditions = []
            for prefix, storage_class in claims.own:
                name = f"{prefix}-{workload}-{number}"
                claim = self.claims.get(f"{namespace}/{name}")
                condition = self._of_claim(claim) if claim else self._of_class(storage_class, name)
                conditions += [condition] if condition else []
            each.append(tuple(conditions))
        return tuple(each) if any(each) else ()

    def sharing(self, namespace: str, name: str) -> Sharing:
        """Return who can use a claim's volume at the same time."""
        claim = self.claims.get(f"{namespace}/{name}")
        if claim is None or claim.modes & {"ReadWriteMany", "ReadOnlyMany"}:
            return "all"
        if "ReadWriteOncePod" in claim.modes:
            return "pod"
        # Kubernetes attaches such a volume to one node. Without an attachment, nothing enforces the mode.
        volume = self.volumes.get(claim.volume)
        return "node" if "ReadWriteOnce" in claim.modes and (volume is None or volume.attached) else "all"

    def _of_claim(self, claim: _Claim) -> Condition | None:
        volume = self.volumes.get(claim.volume)
        if volume is None:
            return self._of_class(claim.storage_class, claim.name)
        return _condition(claim.name, volume.required)

    def _of_class(self, name: str | None, claim: str) -> Condition | None:
        return _condition(claim, self.classes.get(self.default_class if name is None else name))


def _condition(claim: str, required: Mapping[str, Any] | None) -> Condition | None:
    if not required:
        return None
    values = {
        str(value)
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
        for value in expression.get("values") or ()
    }
    where = ", ".join(sorted(values)[:3])
    return Condition(unmet=Unmet("volume", claim, where), required=required)


def read_volumes(
    claims: Iterable[Mapping[str, Any]],
    volumes: Iterable[Mapping[str, Any]],
    classes: Iterable[Mapping[str, Any]],
    drivers: Iterable[Mapping[str, Any]],
) -> Volumes:
    """Reduce the JSON of a cluster's claims, PersistentVolumes, StorageClasses and CSIDrivers."""
    unattached = {
        item["metadata"]["name"]
        for item in drivers
        if (item.get("spec") or {}).get("attachRequired") is False
    }
    read, free = {}, []
    for item in volumes:
        volume = read[item["metadata"]["name"]] = _read_volume(item, unattached)
        if (item.get("status") or {}).get("phase") == "Available" and not item["spec"].get("claimRef"):
            free.append(volume)
    by_class, default = {}, ""
    for item in classes:
        name = item["metadata"]["name"]
        by_class[name] = _class_terms(item, [volume for volume in free if volume.storage_class == name])
        annotations = item["metadata"].get("annotations") or {}
        if annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
            default = name
    return Volumes(
        {f"{item['metadata']['namespace']}/{item['metadata']['name']}": _read_claim(item) for item in claims},
        read,
        by_class,
        default,
    )


def _read_claim(item: Mapping[str, Any]) -> _Claim:
    spec = item["spec"]
    return _Claim(
        item["metadata"]["name"],
        spec.get("volumeName", ""),
        spec.get("storageClassName"),
        frozenset(spec.get("accessModes") or ()),
    )


def _read_volume(item: Mapping[str, Any], unattached: Iterable[str]) -> _Volume:
    spec = item["spec"]
    required = (spec.get("nodeAffinity") or {}).get("required")
    terms = [_standard(term) for term in (required or {}).get("nodeSelectorTerms") or ()]
    zones = [
        {"key": ZONE_LABEL, "operator": "In", "values": str(value).split("__")}
        for label, value in sorted((item["metadata"].get("labels") or {}).items())
        # The scheduler also reads the labels of volumes from before CSI.
        if label in ZONE_LABELS
    ]
    if zones:
        terms = [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *zones]}
            for term in terms or [{}]
        ]
    driver = str((spec.get("csi") or {}).get("driver", ""))
    attached = bool(driver and driver not in unattached) or "awsElasticBlockStore" in spec
    return _Volume(
        {"nodeSelectorTerms": terms} if terms else None, spec.get("storageClassName", ""), attached
    )


def _class_terms(item: Mapping[str, Any], free: Sequence[_Volume]) -> Mapping[str, Any] | None:
    """Return where a new volume of a StorageClass can be; None for anywhere."""
    if item.get("provisioner") == _NO_PROVISIONER:
        # Nothing makes its volumes, so a claim gets one of those that nobody uses.
        if not free or not all(volume.required for volume in free):
            return None
        terms = [term for volume in free for term in (volume.required or {})["nodeSelectorTerms"]]
        return {"nodeSelectorTerms": terms}
    topologies = [
        _standard(
            {
                "matchExpressions": [
                    {"key": entry["key"], "operator": "In", "values": entry.get("values") or []}
                    for entry in topology.get("matchLabelExpressions") or ()
                ]
            }
        )
        for topology in item.get("allowedTopologies") or ()
    ]
    return {"nodeSelectorTerms": topologies} if topologies else None


def _standard(term: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a term that names the zone by its standard label, which every node has."""
    expressions = [
        {**expression, "key": ZONE_LABEL} if expression.get("key") in ZONE_LABELS else expression
        for expression in term.get("matchExpressions") or ()
    ]
    return {**term, "matchExpressions": expressions} if expressions else term
