"""What a pod requests, as the scheduler counts it. Pure.

The scheduler adds up an admitted pod (k8s.io/component-helpers/resource, ``PodRequests``). A template has not
been admitted: the API server and its admission plugins would still set defaults. So a template needs the
``Admission`` of its namespace, and a live pod speaks for itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from archshift.common.quantity import millicpu, whole
from archshift.common.resources import Resources

Items: TypeAlias = tuple[tuple[str, str], ...]
"""Resource name and quantity. A tuple, because pods of one workload share one result."""

_Container: TypeAlias = tuple[bool, Items, Items]
"""Whether it is a sidecar, its requests and its limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeClass:
    """What a RuntimeClass adds to its pods at admission.

    Attributes:
        overhead: What it adds to the requests.
        node_selector: What it adds to the node selector.
        tolerations: What it adds to the tolerations.
    """

    overhead: Items = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """What the cluster adds to new pods.

    Attributes:
        defaults: Namespace to the requests of a container that states none, from its LimitRanges.
        runtime_classes: By name.
    """

    defaults: Mapping[str, Items] = field(default_factory=dict)
    runtime_classes: Mapping[str, RuntimeClass] = field(default_factory=dict)

    def runtime_class(self, pod_spec: Mapping[str, Any]) -> RuntimeClass:
        """Return the RuntimeClass of a pod; an empty one if it has none or if it is missing."""
        return self.runtime_classes.get(pod_spec.get("runtimeClassName") or "", RuntimeClass())

    def requests_of(self, namespace: str, template: Mapping[str, Any]) -> Resources:
        """Return what a pod of this template will request after its admission."""
        return _total(
            _containers(template.get("containers")),
            _containers(template.get("initContainers")),
            *_pod_level(template),
            _items(template.get("overhead")) or self.runtime_class(template).overhead,
            self.defaults.get(namespace, ()),
        )


NOTHING_ADDED: Final = Admission()


def read_runtime_class(item: Mapping[str, Any]) -> RuntimeClass:
    """Reduce a RuntimeClass's JSON."""
    scheduling = item.get("scheduling") or {}
    return RuntimeClass(
        overhead=_items((item.get("overhead") or {}).get("podFixed")),
        node_selector=scheduling.get("nodeSelector") or {},
        tolerations=tuple(scheduling.get("tolerations") or ()),
    )


def read_defaults(limit_ranges: Iterable[Mapping[str, Any]]) -> dict[str, Items]:
    """Return the default requests of containers by namespace.

    If several LimitRanges of a namespace set a default, the API server may use any of them. Here the largest
    counts.
    """
    by_namespace: dict[str, dict[str, str]] = {}
    for item in limit_ranges:
        defaults = by_namespace.setdefault(item["metadata"]["namespace"], {})
        for limit in (item.get("spec") or {}).get("limits") or ():
            # The API server completes a stored LimitRange: default, max and min become default requests.
            requests = limit.get("defaultRequest") if limit.get("type") == "Container" else None
            for name, quantity in _items(requests):
                if name not in defaults or _amount(name, quantity) > _amount(name, defaults[name]):
                    defaults[name] = quantity
    return {namespace: tuple(sorted(found.items())) for namespace, found in by_namespace.items() if found}


def requests_of(pod_spec: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> Resources:
    """Return what an admitted pod requests.

    Args:
        pod_spec: Its spec.
        status: Its status. During a resize in place, the larger of both amounts counts.
    """
    return _total(
        _containers(pod_spec.get("containers"), (status or {}).get("containerStatuses")),
        _containers(pod_spec.get("initContainers"), (status or {}).get("initContainerStatuses")),
        *_pod_level(pod_spec),
        _items(pod_spec.get("overhead")),
        (),
    )


def _items(amounts: Mapping[str, Any] | None) -> Items:
    return tuple((name, str(quantity)) for name, quantity in amounts.items()) if amounts else ()


def _containers(
    containers: Iterable[Mapping[str, Any]] | None, statuses: Iterable[Mapping[str, Any]] | None = None
) -> tuple[_Container, ...]:
    live = {status["name"]: status for status in statuses or ()}
    return tuple(
        (
            container.get("restartPolicy") == "Always",
            _items(_live_requests(container, live.get(container.get("name", "")))),
            _items((container.get("resources") or {}).get("limits")),
        )
        for container in containers or ()
    )


def _live_requests(
    container: Mapping[str, Any], status: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    wanted: Mapping[str, Any] | None = (container.get("resources") or {}).get("requests")
    if not status:
        return wanted
    largest = dict(wanted or {})
    actual = (status.get("resources") or {}).get("requests")
    for amounts in (status.get("allocatedResources"), actual):
        # On a cluster that can resize in place, every container has them, and nearly all are equal.
        if amounts and amounts != wanted:
            for name, quantity in amounts.items():
                if _amount(name, str(quantity)) > _amount(name, str(largest.get(name, "0"))):
                    largest[name] = quantity
    return largest


def _pod_level(pod_spec: Mapping[str, Any]) -> tuple[Items, Items]:
    resources = pod_spec.get("resources") or {}
    return _items(resources.get("requests")), _items(resources.get("limits"))


# A fleet has thousands of pods, and the pods of a workload are equal.
@lru_cache(maxsize=4096)
def _total(
    containers: tuple[_Container, ...],
    init_containers: tuple[_Container, ...],
    pod_requests: Items,
    pod_limits: Items,
    overhead: Items,
    defaults: Items,
) -> Resources:
    amounts = _sum(containers, init_containers, defaults)
    of_pod = _parsed(pod_requests)
    if pod_limits:
        # The API server completes the pod's own requests before a LimitRange changes its containers.
        stated = _sum(containers, init_containers, ())
        own = {name: amount for name, amount in stated.items() if not name.startswith("hugepages-")}
        of_pod = {**_parsed(pod_limits), **own, **of_pod}
    amounts.update((name, amount) for name, amount in of_pod.items() if _is_of_pod(name))
    _add(amounts, _parsed(overhead))
    cpu, memory = amounts.pop("cpu", 0), amounts.pop("memory", 0)
    return Resources(cpu, memory, 1, tuple(sorted((name, n) for name, n in amounts.items() if n)))


def _sum(
    containers: Iterable[_Container], init_containers: Iterable[_Container], defaults: Items
) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for container in containers:
        _add(amounts, _requests(container, defaults))
    sidecars: dict[str, int] = {}
    at_start: dict[str, int] = {}
    for container in init_containers:
        requests = _requests(container, defaults)
        if container[0]:
            _add(amounts, requests)
            _add(sidecars, requests)
        else:
            # It runs beside the sidecars that started before it.
            _add(requests, sidecars)
            _raise(at_start, requests)
    _raise(amounts, at_start)
    return amounts


def _requests(container: _Container, defaults: Items) -> dict[str, int]:
    _, requests, limits = container
    return {**_parsed(defaults), **_parsed(limits), **_parsed(requests)}


def _parsed(items: Items) -> dict[str, int]:
    return {name: _amount(name, quantity) for name, quantity in items}


def _amount(name: str, quantity: str) -> int:
    return millicpu(quantity) if name == "cpu" else whole(quantity)


def _is_of_pod(name: str) -> bool:
    """Return whether a pod can request this resource as a whole."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def _add(amounts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        amounts[name] = amounts.get(name, 0) + amount


def _raise(amounts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, amount in others.items():
        amounts[name] = max(amounts.get(name, 0), amount)
