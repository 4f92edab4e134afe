"""Workloads whose first pod on Graviton did not run, as evidence in the cluster.

There is one ConfigMap of a stack in each namespace with such a workload, and one key a workload. Whoever may
write ConfigMaps in a namespace can forge it. So archshift reads only text of a limited size, and at worst it
holds workloads of that namespace on x86.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC
from typing import Any, Final

from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.entries import entry_key
from archshift.cluster.model import FailedCanary
from archshift.common.text import one_line
from archshift.common.times import zoned_time

LABEL: Final = "archshift/canaries"
"""On each of these ConfigMaps; the value is the stack."""

FIELD_MANAGER: Final = "archshift-canaries"

_MOST_ENTRIES: Final = 500
"""The most entries of a ConfigMap that archshift reads and keeps. Its limit of 1 MiB holds more than that."""

_MOST_TEXT: Final = 2048
"""The longest value of an entry that archshift reads, in characters."""

_MOST_WORDS: Final = 300
_MOST_NAME: Final = 512
"""The longest texts that archshift writes. A reference of an image is at most 255 + 128 + 71 characters."""


def canaries_name(stack_label: str) -> str:
    """Return the name of a stack's ConfigMaps."""
    return f"archshift-canaries-{stack_label}"


def read_canaries(cluster: Cluster, stack_label: str, namespaces: Iterable[str]) -> dict[str, FailedCanary]:
    """Return the evidence by workload key. Broken or forged content is left out.

    Whoever may not read it could not write it either, so a refusal means that there is none.

    Args:
        cluster: The connection.
        stack_label: The stack.
        namespaces: Where to look.

    Raises:
        ArchshiftError: The cluster cannot be reached.
    """

    def read(namespace: str) -> dict[str, FailedCanary]:
        return _parse(namespace, _get(cluster, stack_label, namespace) or {})

    found: dict[str, FailedCanary] = {}
    with ThreadPoolExecutor(max_workers=8) as threads:
        for failed in threads.map(read, sorted(set(namespaces))):
            found |= failed
    return found


def write_canary(
    cluster: Cluster, stack_label: str, canary: FailedCanary, lifted: Collection[str] = ()
) -> None:
    """Keep the evidence, and remove evidence that does not count any more.

    Args:
        cluster: The connection.
        stack_label: The stack.
        canary: What failed.
        lifted: The keys of workloads of the same namespace that are not held because of such evidence now.

    Raises:
        ArchshiftError: The API server refuses the ConfigMap.
    """
    live = _get(cluster, stack_label, canary.namespace)
    data: dict[str, str | None] = {}
    if live:
        known = _parse(canary.namespace, live)
        # Broken entries, those that do not count, and the oldest beyond the limit.
        keep = sorted((failed for key, failed in known.items() if key not in lifted), key=lambda one: one.at)
        kept = {_key(failed.workload) for failed in keep[-(_MOST_ENTRIES - 1) :]}
        data = {key: None for key in live.get("data") or {} if key not in kept}
    data[_key(canary.workload)] = _text(canary)
    metadata: dict[str, Any] = {"name": canaries_name(stack_label), "labels": {LABEL: stack_label}}
    body = {"metadata": metadata, "data": data}
    if live is None and cluster.create(
        _collection(canary.namespace), {"apiVersion": "v1", "kind": "ConfigMap", **body}, FIELD_MANAGER
    ):
        return
    # An earlier version named the policy as its owner, so the evidence went with the policy.
    metadata["ownerReferences"] = None
    cluster.patch(_path(stack_label, canary.namespace), body, MERGE, FIELD_MANAGER)


def delete_canaries(cluster: Cluster, stack_label: str, namespaces: Iterable[str]) -> None:
    """Delete all evidence of a stack.

    Whoever may not delete it leaves it: at worst, a stack of the same name holds these workloads later.

    Args:
        cluster: The connection.
        stack_label: The stack.
        namespaces: Where evidence can be.

    Raises:
        ArchshiftError: The cluster cannot be reached.
    """

    def delete(namespace: str) -> None:
        try:
            cluster.delete(_path(stack_label, namespace))
        except RefusedError as error:
            if error.status != 403:
                raise

    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(delete, sorted(set(namespaces))))


def _path(stack_label: str, namespace: str) -> str:
    return f"{_collection(namespace)}/{canaries_name(stack_label)}"


def _collection(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def _get(cluster: Cluster, stack_label: str, namespace: str) -> dict[str, Any] | None:
    try:
        return cluster.get(_path(stack_label, namespace))
    except RefusedError as error:
        if error.status not in (403, 404):
            raise
    return None


def _key(workload: str) -> str:
    _, kind, name = workload.split("/")
    return entry_key(kind, name)


def _text(canary: FailedCanary) -> str:
    values = asdict(canary) | {
        "container": one_line(canary.container, _MOST_NAME),
        "image": one_line(canary.image, _MOST_NAME),
        "words": one_line(canary.words, _MOST_WORDS),
        "at": canary.at.astimezone(UTC).isoformat(timespec="seconds"),
    }
    del values["workload"]
    return json.dumps(values, ensure_ascii=False)


def _parse(namespace: str, item: Mapping[str, Any]) -> dict[str, FailedCanary]:
    data = item.get("data")
    found = {}
    for key, text in sorted(data.items())[:_MOST_ENTRIES] if isinstance(data, Mapping) else ():
        kind, dot, name = key.partition(".")
        named = kind and dot and name and "/" not in key
        canary = _read(f"{namespace}/{kind}/{name}", text) if named else None
        if canary:
            found[canary.workload] = canary
    return found


def _read(workload: str, text: object) -> FailedCanary | None:
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        return None
    try:
        values = json.loads(text)
        texts = {
            name: one_line(values[name], _MOST_NAME)
            for name in ("container", "image", "words", "digest", "running", "at")
            if isinstance(values[name], str)
        }
        return FailedCanary(
            workload=workload,
            container=texts["container"],
            image=texts["image"],
            words=one_line(texts["words"], _MOST_WORDS),
            digest=texts["digest"],
            running=texts["running"],
            at=zoned_time(texts["at"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
