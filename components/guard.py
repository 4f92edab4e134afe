"""The last question before an x86 node goes or changes: does anything still need it?

Asked by hooks of the engine, at that moment, from the live cluster and the registries. It stops
what no preview and no policy sees: ``--skip-preview``, ``pulumi destroy``, a resource whose
protection was taken off by hand, an image that appeared since the preview.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pulumi

from archshift import guard
from archshift.architectures import AMD64, ARCH_LABEL
from archshift.errors import ArchshiftError
from archshift.node_groups import GROUP_LABEL, INSTANCE_TYPE_LABEL, Node, nodes_of
from archshift.plan import nodes_after
from archshift.survey import Survey, survey

if TYPE_CHECKING:
    from settings import Settings

HOOK_NAME: Final = "archshift-guard-x86"

_FRESH_SECONDS: Final = 10.0
"""An update asks for each of its nodes; one answer serves those of the same moment."""


def guard_hook(settings: "Settings") -> pulumi.ResourceHook:
    """Return the hook for before an x86 node is deleted or updated, previews included.

    It must be registered in every run: the engine refuses a delete whose hook it does not find.
    """
    asked = _Asked(settings)

    def before(args: pulumi.ResourceHookArgs) -> None:
        old, new = args.old_inputs or {}, args.new_inputs
        if old["metadata"]["labels"].get(ARCH_LABEL) != AMD64:
            return
        now = datetime.now(UTC)
        if settings.break_glass and settings.break_glass.active(now):
            pulumi.warn(f"{old['metadata']['name']}: {settings.break_glass.describe(now)}")
            return
        objection = asked.objection(old, deleted=new is None)
        if objection:
            raise ArchshiftError(refusal(f"x86 node {old['metadata']['name']}", objection))

    return pulumi.ResourceHook(HOOK_NAME, before, pulumi.ResourceHookOptions(on_dry_run=True))


def refusal(what: str, objection: str) -> str:
    """Return the sentence that refuses to let x86 capacity go.

    Args:
        what: What was to go.
        objection: From ``archshift.guard.objection``.
    """
    return (
        f"{what} stays: {objection}; give these workloads images for arm64 or remove them, and run "
        "archshift audit --from-cluster to see when nothing needs x86 any more"
    )


class _Asked:
    """The answers of one update."""

    def __init__(self, settings: "Settings") -> None:
        # Whatever the configuration says now, what is asked here is about x86.
        self._settings = settings
        self._lock = threading.Lock()
        self._survey: Survey | None = None
        self._at = 0.0

    def objection(self, old: Mapping[str, Any], *, deleted: bool) -> str:
        found = self._look()
        live = found.inventory.nodes
        configured = {
            node.name: node for group in self._settings.node_groups.values() for node in nodes_of(group)
        }
        wanted = configured.get(old["metadata"]["name"])
        if deleted and wanted and _same(wanted, old):
            # The configuration wants it as it is, and the engine takes it away: a destroy. Then
            # every node of the stack goes.
            after = [node for node in live if GROUP_LABEL not in node.labels]
        else:
            after = nodes_after(live, self._settings.node_groups.values())
        return guard.removal(found.needs or (), live, after)

    def _look(self) -> Survey:
        with self._lock:
            if self._survey is None or time.monotonic() - self._at > _FRESH_SECONDS:
                self._survey = survey(self._settings, keep_evidence=False, guard_x86=True)
                self._at = time.monotonic()
            return self._survey


def _same(wanted: Node, old: Mapping[str, Any]) -> bool:
    """Whether a configured node is the one in the state; another instance type is another node."""
    labels = old["metadata"]["labels"]
    return bool(wanted.labels.get(INSTANCE_TYPE_LABEL) == labels.get(INSTANCE_TYPE_LABEL))


def protected(found: Survey, settings: "Settings", now: datetime) -> frozenset[str]:
    """Return the names of the nodes to protect: the x86 nodes that carry what needs x86.

    Args:
        found: The cluster.
        settings: The stack's settings.
        now: The time, for break-glass.
    """
    if not settings.guarded or (settings.break_glass and settings.break_glass.active(now)):
        return frozenset()
    live = {node.name: node for node in found.inventory.nodes}
    managed = [
        # A node that is there counts as what it is, not as what it is to become: one that is to
        # be replaced by a Graviton node is protected too.
        replace(node, labels=live[node.name].labels) if node.name in live else node
        for group in settings.node_groups.values()
        for node in nodes_of(group)
    ]
    return guard.floor(found.needs or (), managed)
