"""Restores the fields that a forced patch took, before the engine deletes the patch.

A deleted server-side-apply patch gives up its fields, and a field that only archshift owns vanishes.
If ``force: true`` took the field from another owner, its former value and owner are restored first.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pulumi

from archshift.cluster import pod_fields
from archshift.cluster.client import APPLY, MERGE, Cluster, connect
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.ownership import owned_part
from archshift.cluster.pod_fields import TakenField

HOOK_NAME = "archshift-restore-taken-fields"


def restore_hook(kube_context: str | None) -> pulumi.ResourceHook:
    """Return the hook. Every run must register it, or the engine refuses the delete."""

    def before_delete(args: pulumi.ResourceHookArgs) -> None:
        inputs = args.old_inputs or {}
        kind = str(inputs["kind"]).removesuffix("Patch")
        metadata = inputs["metadata"]
        with connect(kube_context) as cluster:
            restore_taken_fields(cluster, kind, str(metadata["namespace"]), str(metadata["name"]))

    return pulumi.ResourceHook(HOOK_NAME, before_delete)


def restore_taken_fields(cluster: Cluster, kind: str, namespace: str, name: str) -> None:
    """Restore a workload's taken fields to their former owners, if there are any.

    Raises:
        ArchshiftError: The cluster cannot be read or refuses; the patch then stays.
    """
    record = CONTROLLERS[kind]
    template_path, workloads = record.template_path, record.collection(namespace)
    live_objects = cluster.list(workloads, fieldSelector=f"metadata.name={name}")
    live = next(iter(live_objects), None)
    if live is None:
        return
    taken = read_workload(kind, live, "").template.taken_fields
    path = f"{workloads}/{name}"
    for owner in sorted({entry.owner for entry in taken.values()}):
        theirs = {field: entry for field, entry in taken.items() if entry.owner == owner}
        if owner.operation == "Apply":
            # The items of a list do not repeat their version and kind.
            typed = {**live, "apiVersion": record.api_version, "kind": kind}
            body = applied_by(typed, owner.manager, template_path, theirs)
            cluster.patch(path, body, APPLY, owner.manager)
        else:
            cluster.patch(path, _nested(template_path, theirs), MERGE, owner.manager)


def applied_by(
    live: Mapping[str, Any], manager: str, template_path: tuple[str, ...], theirs: Mapping[str, TakenField]
) -> dict[str, Any]:
    """Return the apply of ``manager``: the fields that it owns now and the fields taken from it.

    An apply of the taken fields alone would drop the manager's other fields: server-side apply takes an
    absent field as given up.
    """
    body: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields") or ():
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            body = copy.deepcopy(owned_part(live, entry["fieldsV1"]))
    _merge(body, _nested(template_path, theirs))
    body["apiVersion"], body["kind"] = live["apiVersion"], live["kind"]
    body.setdefault("metadata", {}).pop("managedFields", None)
    return body


def _nested(template_path: tuple[str, ...], taken: Mapping[str, TakenField]) -> dict[str, Any]:
    values = {field: entry.value for field, entry in taken.items() if entry.value}
    body: dict[str, Any] = {"spec": pod_fields.write_fields(values)}
    for key in reversed(template_path):
        body = {key: body}
    return body


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif key == "topologySpreadConstraints":
            into[key] = [*into.get(key, ()), *value]
        else:
            into[key] = value
