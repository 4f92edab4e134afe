"""What changes the replicas of workloads: HorizontalPodAutoscalers, KEDA's ScaledObjects, and the settings.

A KEDA ScaledObject makes a HorizontalPodAutoscaler, but not while it is paused, and it scales to 0 by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.kinds import Resource
from archshift.cluster.model import Autoscaler, Workload

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than making a plan, and here it is only an annotation.
    from archshift.cluster.client import Cluster

SETTING: Final = "archshift:workloads.autoscaled"

SCALERS: Final = Resource(api_version="autoscaling/v2", plural="horizontalpodautoscalers")
SCALED_OBJECTS: Final = Resource(api_version="keda.sh/v1alpha1", plural="scaledobjects")

# https://keda.sh/docs/latest/reference/scaledobject-spec/
_KEDA_LEAST: Final = 0
_KEDA_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Autoscalers:
    """What scales the workloads of a cluster.

    Attributes:
        by_target: ``namespace/Kind/name`` of a target to what scales it.
        cpu_targets: ``namespace/Kind/name`` of a target to its CPU targets in words.
        configured: Workload key to what the settings say about it.
    """

    by_target: Mapping[str, Autoscaler] = field(default_factory=dict)
    cpu_targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    configured: Mapping[str, Autoscaler] = field(default_factory=dict)

    def of(self, workload: Workload) -> Autoscaler | None:
        """Return what changes a workload's replicas; None if nothing does, as far as archshift can know."""
        found = self.by_target.get(workload.key)
        if found is None and workload.controlled_by:
            kind, name = workload.controlled_by.split(" ", 1)
            parent = self.by_target.get(f"{workload.namespace}/{kind}/{name}")
            # The parent's controller decides how many of its replicas are pods of this workload.
            found = replace(parent, least=0, most=None) if parent else None
        told = self.configured.get(workload.key)
        if found is None or told is None:
            return told or found
        return replace(
            found,
            least=found.least if told.least is None else told.least,
            most=found.most if told.most is None else told.most,
        )


def read_autoscalers(cluster: "Cluster", configured: Mapping[str, Autoscaler]) -> Autoscalers:
    """Read what scales workloads.

    Args:
        cluster: The connection.
        configured: Workload key to what the settings say about it.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    from archshift.cluster.client import RefusedError

    found: dict[str, Autoscaler] = {}
    targets: dict[str, tuple[str, ...]] = {}
    for item in cluster.list(SCALERS.collection()):
        spec = item["spec"]
        key = _target(item, spec["scaleTargetRef"]["kind"])
        own = Autoscaler(
            by=f"HorizontalPodAutoscaler {item['metadata']['name']}",
            least=int(spec.get("minReplicas", 1)),
            most=int(spec["maxReplicas"]),
            scaled_at=str((item.get("status") or {}).get("lastScaleTime") or ""),
        )
        found[key] = _both(found[key], own) if key in found else own
        cpu = tuple(filter(None, map(_cpu_target, spec.get("metrics") or ())))
        targets[key] = tuple(dict.fromkeys((*targets.get(key, ()), *cpu)))
    if cluster.serves(SCALED_OBJECTS.api_version, "ScaledObject"):
        try:
            for item in cluster.list(SCALED_OBJECTS.collection()):
                spec = item.get("spec") or {}
                target = spec.get("scaleTargetRef") or {}
                if not target.get("name"):
                    continue  # an older version of its definition may permit that
                key = _target(item, target.get("kind") or "Deployment")
                own = Autoscaler(
                    by=f"ScaledObject {item['metadata']['name']}",
                    least=_number(spec.get("minReplicaCount"), _KEDA_LEAST),
                    most=_number(spec.get("maxReplicaCount"), _KEDA_MOST),
                )
                found[key] = replace(_both(found[key], own), by=own.by) if key in found else own
        except RefusedError as error:
            # Optional: the HorizontalPodAutoscaler that KEDA made says nearly the same.
            if error.status != 403:
                raise
    return Autoscalers(found, targets, configured)


def _number(value: object, default: int) -> int:
    return default if value is None else int(str(value))


def _target(item: Mapping[str, Any], kind: str) -> str:
    return f"{item['metadata']['namespace']}/{kind}/{item['spec']['scaleTargetRef']['name']}"


def _both(one: Autoscaler, other: Autoscaler) -> Autoscaler:
    """Return the bounds of two objects that scale one workload."""
    least = min(one.fewest, other.fewest)
    most = None if one.most is None or other.most is None else max(one.most, other.most)
    return replace(one, least=least, most=most, scaled_at=max(one.scaled_at, other.scaled_at))


def _cpu_target(metric: Mapping[str, Any]) -> str:
    """Return a metric's target in words; empty if the metric is not CPU."""
    source = metric.get("resource") or metric.get("containerResource") or {}
    if source.get("name") != "cpu":
        return ""
    target = source.get("target") or {}
    of = f" of container {source['container']}" if source.get("container") else ""
    if target.get("averageUtilization") is not None:
        return f"{target['averageUtilization']} % of the request{of}"
    value = target.get("averageValue") or target.get("value")
    return f"{value} vCPU a pod{of}" if value else ""
