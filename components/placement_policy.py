"""The policy by which the API server places pods when they are created, and the entries that it reads.

The engine makes ordinary objects, so a preview shows the share of each workload as one line, and a destroy
takes all of it away and touches no pod. docs/adr/0014 has the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pulumi

from archshift.cluster.entries import config_map_name
from archshift.cluster.live_placement import STEP_ANNOTATION, LivePlacement, is_as_wanted, step_of
from archshift.plan import admission

_FORCE: Final = "pulumi.com/patchForce"
"""Whoever changed an entry by hand does not keep it from the next update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicyArgs:
    """Arguments of ``PlacementPolicy``.

    Attributes:
        stack_label: The stack, as ``stack_label`` writes it.
        entries: Namespace to the data of its ConfigMap.
        live: What places pods now.
        moving: The namespaces whose pods this step moves.
        now: The time of this run.
    """

    stack_label: str
    entries: Mapping[str, Mapping[str, str]]
    live: LivePlacement
    moving: frozenset[str] = frozenset()
    now: datetime


class PlacementPolicy(pulumi.ComponentResource):
    """The policy, its binding, and one ConfigMap with entries for each steered namespace."""

    TYPE: Final = "archshift:index:PlacementPolicy"

    applied: Mapping[str, pulumi.Output[bool]]
    """Namespace to whether this run really applied its ConfigMap, for moves to follow."""

    def __init__(
        self, name: str, args: PlacementPolicyArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        called, live = config_map_name(args.stack_label), args.live
        for manifest, there in (
            (admission.policy(called), live.policy),
            (admission.binding(called), live.binding),
        ):
            kept = there is not None and is_as_wanted(manifest["spec"], there["spec"])
            step = step_of(there) if there and kept else ""
            self._register(manifest["kind"], manifest, missing=not there, step=step, args=args)
        self.applied = {
            namespace: self._entries(namespace, called, args) for namespace in sorted(args.entries)
        }
        self.register_outputs({})

    def _entries(self, namespace: str, called: str, args: PlacementPolicyArgs) -> pulumi.Output[bool]:
        data, live = dict(args.entries[namespace]), args.live.data.get(namespace)
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": called, "namespace": namespace},
            "data": data,
        }
        before = args.live.steps.get(namespace, "")
        kept = live == data and namespace not in args.moving
        resource, step = self._register(
            namespace, manifest, missing=live is None, step=before if kept else "", args=args
        )

        def is_new(metadata: Any) -> bool:
            # A resource that the engine skips because of --target keeps its old step.
            annotations = (metadata or {}).get("annotations") or {}
            return bool(annotations.get(STEP_ANNOTATION) == step != before)

        applied: pulumi.Output[bool] = resource.metadata.apply(is_new)
        return applied

    def _register(
        self, name: str, manifest: Mapping[str, Any], *, missing: bool, step: str, args: PlacementPolicyArgs
    ) -> tuple["_Object", str]:
        """Register an object.

        Args:
            name: The name of the resource.
            manifest: The object.
            missing: The object does not exist.
            step: The time of its last step if this run changes nothing by it; otherwise empty.
            args: The component's.
        """
        step = step or args.now.astimezone(UTC).isoformat(timespec="seconds")
        metadata = {
            **manifest["metadata"],
            "labels": {"app.kubernetes.io/managed-by": "archshift"},
            "annotations": {STEP_ANNOTATION: step, _FORCE: "true"},
        }
        # The engine does not see that somebody deleted an object, so it has to make the object anew.
        options = pulumi.ResourceOptions(
            parent=self,
            replace_on_changes=["metadata.annotations"] if missing else None,
            delete_before_replace=True,
        )
        return _Object(name, {**manifest, "metadata": metadata}, options), step


class _Object(pulumi.CustomResource):
    """An object of the cluster, by its token: the provider has no type for the policy."""

    metadata: pulumi.Output[Any]

    def __init__(self, name: str, manifest: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        version = str(manifest["apiVersion"])
        group = version if "/" in version else f"core/{version}"
        super().__init__(f"kubernetes:{group}:{manifest['kind']}", name, dict(manifest), opts)
