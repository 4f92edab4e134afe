"""One workload's patch in the cluster: applying its fields, and giving them back.

The patch is a server-side apply: a field manager owns exactly the fields of its last apply.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from archshift.cluster import pod_fields
from archshift.cluster.client import APPLY, MERGE, BusyError, Cluster, RefusedError
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.cluster.leftovers import restoration, without_copies
from archshift.cluster.ownership import former_manager, owned_part
from archshift.cluster.pod_fields import TakenField
from archshift.cluster.taken_fields import read_taken_fields
from archshift.common.polling import retry_until

GONE: Final = "the workload is gone"

_PATIENCE_SECONDS: Final = 60.0
"""How long a server may be away or throttle. Its restart takes 5 s in the lab and a minute on EKS."""

_ERROR_PATIENCE_SECONDS: Final = 3.0
"""How long the server may answer 500. It also answers so while an admission webhook is down, for hours."""

_ATTEMPTS: Final = 5

_SPREADS: Final = "topologySpreadConstraints"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPatch:
    """The fields of one workload that a field manager owns.

    Attributes:
        kind: One of ``CONTROLLERS``.
        namespace: The workload's namespace.
        name: The workload's name.
        field_manager: The name in ``managedFields``.
        metadata: The metadata to apply, such as annotations.
        spec: The spec to apply.
        force: Take fields from other managers.
    """

    kind: str
    namespace: str
    name: str
    field_manager: str
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    force: bool = False

    @property
    def path(self) -> str:
        """The workload's path in the API."""
        return workload_path(self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a patch.

    Attributes:
        revision: The value of ``archshift/revision`` in the live pod template; empty without one.
        problem: Why the patch was not applied, in the API server's words; empty if it was.
    """

    revision: str = ""
    problem: str = ""


def apply_patch(cluster: Cluster, patch: WorkloadPatch) -> Applied:
    """Apply a patch to a workload that exists. A refusal is an outcome and no error.

    Raises:
        ArchshiftError: The API server cannot be reached for a minute, or refuses the credentials.
    """
    for _ in range(_ATTEMPTS):
        live = read_live(cluster, patch.path)
        if live is None:
            return Applied(problem=GONE)
        revision = live_revision(patch.kind, live)
        try:
            _adopt(cluster, patch, live)
            body = {"metadata": patch.metadata, "spec": patch.spec}
            done = _apply(cluster, patch.kind, live, patch.field_manager, body, force=patch.force)
        except RefusedError as error:
            if error.status == 401:
                raise
            if _is_same(cluster, patch.path, live):
                return Applied(revision, error.words)
        else:
            return Applied(live_revision(patch.kind, done))
    return Applied(problem="somebody deletes the workload and creates it again, over and over")


def give_back(cluster: Cluster, kind: str, namespace: str, name: str, field_manager: str) -> None:
    """Give up all fields of a field manager, and restore what it took from others by force.

    Raises:
        ArchshiftError: The API server or its admission refuses, or cannot be reached for a minute.
    """
    path = workload_path(kind, namespace, name)
    for _ in range(_ATTEMPTS):
        live = read_live(cluster, path)
        if live is None:
            return
        try:
            restore_taken_fields(cluster, kind, live)
            if copies := without_copies(kind, live, field_manager):
                cluster.patch(path, copies.body, MERGE, copies.manager)
            after = live
            for manager in (field_manager, former_manager(field_manager)):
                if owns_fields(live, manager):
                    after = _apply(cluster, kind, live, manager)
            if rest := restoration(kind, live, after, field_manager):
                cluster.patch(path, rest.body, MERGE, rest.manager)
        except RefusedError:
            if _is_same(cluster, path, live):
                raise
        else:
            return


def read_live(cluster: Cluster, path: str) -> dict[str, Any] | None:
    """Return a workload as it is; None if it is gone.

    Raises:
        ArchshiftError: As ``Cluster.get``.
    """
    try:
        return _patiently(lambda: cluster.get(path))
    except RefusedError as error:
        if error.status == 404:
            return None
        raise


def live_revision(kind: str, live: Mapping[str, Any]) -> str:
    """Return the value of ``archshift/revision`` in a live workload's pod template; empty without one."""
    return pod_fields.revision_of(CONTROLLERS[kind].template(live))


def _is_same(cluster: Cluster, path: str, live: Mapping[str, Any]) -> bool:
    now = read_live(cluster, path)
    return now is not None and now["metadata"]["uid"] == live["metadata"]["uid"]


def _apply(
    cluster: Cluster,
    kind: str,
    live: Mapping[str, Any],
    manager: str,
    fields: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Apply fields to this live object, and never to another: its uid is a precondition."""
    body = dict(fields or {})
    body["apiVersion"], body["kind"] = CONTROLLERS[kind].api_version, kind
    own = {key: live["metadata"][key] for key in ("name", "namespace", "uid")}
    body["metadata"] = {**(body.get("metadata") or {}), **own}
    path = workload_path(kind, own["namespace"], own["name"])
    return _patiently(lambda: cluster.apply(path, body, manager, force=force))


def _entry(live: Mapping[str, Any], manager: str) -> Mapping[str, Any] | None:
    """Return what a manager applied last, as ``managedFields`` has it; None if it owns nothing."""
    for entry in live["metadata"].get("managedFields") or ():
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            fields: Mapping[str, Any] = entry["fieldsV1"]
            return fields
    return None


def owns_fields(live: Mapping[str, Any], manager: str) -> bool:
    """Return whether a manager applied fields of a live workload and still owns them."""
    return _entry(live, manager) is not None


def _adopt(cluster: Cluster, patch: WorkloadPatch, live: Mapping[str, Any]) -> None:
    """Take over what archshift 0.1.0 applied under its former name; no field of the workload changes.

    The engine deletes the resources of 0.1.0 at the end of the first update. They then give up what they own.
    """
    former = former_manager(patch.field_manager)
    fields = _entry(live, former)
    if fields is None:
        return
    _apply(cluster, patch.kind, live, patch.field_manager, _body_of(live, fields))
    _apply(cluster, patch.kind, live, former)


def _body_of(live: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the apply that owns these fields of a live workload."""
    body: dict[str, Any] = copy.deepcopy(owned_part(live, fields))
    body.setdefault("metadata", {}).pop("managedFields", None)
    return body


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Ask again while the server is away or throttles; an error of the server itself becomes a refusal."""
    started = time.monotonic()

    def once() -> _Answer:
        try:
            return ask()
        except BusyError as error:
            if error.status == 500 and time.monotonic() - started > _ERROR_PATIENCE_SECONDS:
                raise RefusedError(error.problem, status=error.status, words=error.words) from None
            raise

    return retry_until(once, started + _PATIENCE_SECONDS)


def restore_taken_fields(cluster: Cluster, kind: str, live: Mapping[str, Any]) -> None:
    """Restore a workload's taken fields to their former owners, if there are any.

    Args:
        cluster: The connection.
        kind: One of ``CONTROLLERS``.
        live: The workload.

    Raises:
        ArchshiftError: The cluster refuses, or the annotation is invalid; the patch then stays.
    """
    record, metadata = CONTROLLERS[kind], live["metadata"]
    path = workload_path(kind, metadata["namespace"], metadata["name"])
    taken = read_taken_fields(metadata)
    for owner in sorted({entry.owner for entry in taken.values()}):
        theirs = {field: entry for field, entry in taken.items() if entry.owner == owner}
        if owner.operation == "Apply":
            # The items of a list do not repeat their version and kind.
            typed = {**live, "apiVersion": record.api_version, "kind": kind}
            body = applied_by(typed, owner.manager, record.template_path, theirs)
            cluster.patch(path, body, APPLY, owner.manager)
        else:
            body = _nested(record.template_path, theirs)
            _keep_other_spreads(record.template(live)["spec"], _pod_spec(record.template_path, body))
            cluster.patch(path, body, MERGE, owner.manager)


def applied_by(
    live: Mapping[str, Any], manager: str, template_path: tuple[str, ...], theirs: Mapping[str, TakenField]
) -> dict[str, Any]:
    """Return the apply of ``manager``: the fields that it owns now and the fields taken from it.

    An apply of the taken fields alone would drop the manager's other fields: server-side apply takes an
    absent field as given up.
    """
    fields = _entry(live, manager)
    body: dict[str, Any] = {"metadata": {}} if fields is None else _body_of(live, fields)
    _merge(body, _nested(template_path, theirs))
    body["apiVersion"], body["kind"] = live["apiVersion"], live["kind"]
    return body


def _nested(template_path: tuple[str, ...], taken: Mapping[str, TakenField]) -> dict[str, Any]:
    values = {field: entry.value for field, entry in taken.items() if entry.value}
    body: dict[str, Any] = {"spec": pod_fields.write_fields(values)}
    for key in reversed(template_path):
        body = {key: body}
    return body


def _pod_spec(template_path: tuple[str, ...], body: dict[str, Any]) -> dict[str, Any]:
    for key in (*template_path, "spec"):
        body = body[key]
    return body


def _keep_other_spreads(live: Mapping[str, Any], restored: dict[str, Any]) -> None:
    """Put the restored spread constraints among all others: a merge patch replaces the list."""
    if _SPREADS in restored:
        restored[_SPREADS] = _among(live.get(_SPREADS) or (), restored[_SPREADS])


def _among(items: Iterable[Any], restored: Iterable[Any]) -> list[Any]:
    """Return spread constraints with the restored ones in the places of those with the same keys."""
    wanted = {_spread_key(item): item for item in restored}
    return [*(wanted.pop(_spread_key(item), item) for item in items), *wanted.values()]


def _spread_key(constraint: Mapping[str, Any]) -> tuple[Any, Any]:
    return constraint.get("topologyKey"), constraint.get("whenUnsatisfiable")


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif key == _SPREADS:
            # The owner may still own the keys of the taken constraint, and the API refuses a key twice.
            into[key] = _among(into.get(key, ()), value)
        else:
            into[key] = value
