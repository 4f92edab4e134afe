"""The resource of one workload's patch: a dynamic provider that applies it and gives it back.

docs/adr/0012 says why it is not the Kubernetes provider's patch. The engine runs the provider in a process of
its own, in `pulumi destroy` without the program. The state names the class by this module's name. So a
renamed module could not delete what an older one made.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from archshift.actions import workload_patch
from archshift.actions.workload_patch import apply_patch, give_back, live_revision, read_live
from archshift.cluster.client import Cluster, RefusedError, connect
from archshift.cluster.identity import another_cluster, read_identity
from archshift.common.errors import ArchshiftError

_PATCH: Final = ("kind", "metadata", "spec", "fieldManager", "force")
"""The inputs that decide what is applied."""


class _Connection:
    """One connection for all patches of a run. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._uid = ""

    def to(self, context: str | None) -> tuple[Cluster, str]:
        """Return the connection and the uid of the cluster."""
        with self._lock:
            if self._cluster is None:
                cluster = connect(context)
                self._uid = read_identity(cluster)
                self._cluster = cluster
            return self._cluster, self._uid


_CONNECTION: Final = _Connection()

_QUIET_SECONDS: Final = 1.5
"""After this time without another give-back, all others have ended: the engine starts each one at once."""

_MOST_WAITING: Final = 3
"""The SDK answers the engine in four threads, and one must stay free for the others."""


class _GiveBacks:
    """The give-backs of a run: refused ones end last, because the engine then starts no other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._last = 0.0

    def note(self) -> None:
        """Remember that one begins or ends."""
        self._last = time.monotonic()

    def let_others_end(self) -> None:
        """Return when no other has begun or ended for a while; at once if too many wait already."""
        with self._lock:
            if self._waiting == _MOST_WAITING:
                return
            self._waiting += 1
        try:
            while time.monotonic() - self._last < _QUIET_SECONDS:
                time.sleep(0.1)
        finally:
            with self._lock:
                self._waiting -= 1


_GIVE_BACKS: Final = _GiveBacks()


class WorkloadPatchProvider(ResourceProvider):
    """Applies the patch of one workload, and gives its fields back."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Take the stack's configuration."""
        self._context = req.config.get("archshift:kube_context") or None
        self._declared = req.config.get("archshift:cluster_uid") or ""

    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse to take a patch from one cluster to another."""
        known, present = olds.get("cluster") or "", news.get("cluster") or ""
        if known in ("", present) or present == self._declared:
            return CheckResult(news, [])
        reason = str(another_cluster(known, present, self._context))
        return CheckResult(news, [CheckFailure("cluster", reason)])

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Say whether there is something to apply: another patch, or one that was refused last time."""
        changed = any(olds.get(key) != news.get(key) for key in (*_PATCH, "cluster"))
        return DiffResult(
            changes=changed or bool(olds.get("problem")), replaces=[], delete_before_replace=False
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Apply a patch for the first time."""
        return CreateResult(_key(props), self._apply(props))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Apply a patch again."""
        return UpdateResult(self._apply(news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Read the workload for `pulumi refresh`; without one, the engine forgets the patch."""
        cluster = self._reach(props)
        live = read_live(cluster, _patch(props).path)
        if live is None:
            return ReadResult("", {})
        return ReadResult(id_, {**props, "revision": live_revision(props["kind"], live)})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Give back the workload's fields."""
        if self._is_of_the_old_cluster(props):
            # That cluster is gone, and its workloads with it.
            return
        cluster = self._reach(props)
        patch = _patch(props)
        _GIVE_BACKS.note()
        try:
            give_back(cluster, patch.kind, patch.namespace, patch.name, patch.field_manager)
        except RefusedError as error:
            _GIVE_BACKS.let_others_end()
            raise ArchshiftError(
                f"{_key(props)}: the API server refuses to give its fields back: {error.words}",
                "run the command again when it allows that; --continue-on-error makes the engine end all "
                "other work first",
            ) from None
        _GIVE_BACKS.note()

    def _apply(self, props: Mapping[str, Any]) -> dict[str, Any]:
        applied = apply_patch(self._reach(props), _patch(props))
        return {**props, "revision": applied.revision, "problem": applied.problem, "at": time.time()}

    def _is_of_the_old_cluster(self, props: Mapping[str, Any]) -> bool:
        _, present = _CONNECTION.to(self._context)
        return present == self._declared and (props.get("cluster") or "") not in ("", present)

    def _reach(self, props: Mapping[str, Any]) -> Cluster:
        cluster, present = _CONNECTION.to(self._context)
        known = props.get("cluster") or ""
        if known not in ("", present):
            raise another_cluster(known, present, self._context)
        return cluster


class WorkloadPatch(Resource, module="archshift", name="WorkloadPatch"):
    """The patch of one workload."""

    TYPE: Final = "pulumi-python:dynamic/archshift:WorkloadPatch"

    revision: pulumi.Output[str]
    """``archshift/revision`` of the live pod template after the apply; empty if the workload is gone."""

    problem: pulumi.Output[str]
    """Why the patch was not applied, in the API server's words; empty if it was."""

    at: pulumi.Output[float]
    """When archshift last tried to apply the patch, in seconds since 1970."""

    def __init__(
        self, name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register a patch.

        Args:
            name: The workload's key.
            inputs: ``apiVersion``, ``kind``, ``metadata`` and ``spec`` as the API has them, ``fieldManager``,
                ``force``, and the ``cluster``'s uid.
            opts: Options.
        """
        super().__init__(
            WorkloadPatchProvider(), name, {**inputs, "revision": None, "problem": None, "at": None}, opts
        )


def _key(props: Mapping[str, Any]) -> str:
    metadata = props["metadata"]
    return f"{metadata['namespace']}/{props['kind']}/{metadata['name']}"


def _patch(props: Mapping[str, Any]) -> workload_patch.WorkloadPatch:
    metadata = _whole(props["metadata"])
    return workload_patch.WorkloadPatch(
        kind=props["kind"],
        namespace=metadata.pop("namespace"),
        name=metadata.pop("name"),
        field_manager=props["fieldManager"],
        metadata=metadata,
        spec=_whole(props["spec"]),
        force=bool(props["force"]),
    )


def _whole(value: Any) -> Any:
    """Return a copy of a value with whole numbers as integers: the engine's protocol knows only floats."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
