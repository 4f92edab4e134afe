"""The policies by which the API server places pods when they are created.

The engine makes ordinary objects, so a preview shows the share of each workload as one line. A destroy
deletes all of them and touches no pod. docs/adr/0014 has the reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pulumi

from archshift.cluster.live_placement import STEP_ANNOTATION, LivePlacement, changed_fields, has_more, step_of
from archshift.plan import admission
from components import engine_text

_FORCE: Final = "pulumi.com/patchForce"
"""The next update changes back what somebody changed by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicyArgs:
    """Arguments of ``PlacementPolicy``.

    Attributes:
        stack_label: The stack, as ``stack_label`` writes it.
        entries: Namespace to its entries.
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
    """A policy and its binding for each steered namespace."""

    TYPE: Final = "archshift:index:PlacementPolicy"

    applied: Mapping[str, pulumi.Output[bool]]
    """Namespace to whether this run really applied its policy, for moves to follow."""

    def __init__(
        self, name: str, args: PlacementPolicyArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.applied = {namespace: self._place(namespace, args) for namespace in sorted(args.entries)}
        # Policies read the entries here. A preview shows a changed one as one line.
        self.register_outputs(
            engine_text.outputs(
                {"entries": {namespace: dict(data) for namespace, data in args.entries.items()}}
            )
        )

    def _place(self, namespace: str, args: PlacementPolicyArgs) -> pulumi.Output[bool]:
        binding = admission.binding(args.stack_label, namespace)
        self._register(namespace, binding, args.live.bindings.get(namespace), args.now, moves=False)
        manifest = admission.policy(args.stack_label, namespace, args.entries[namespace])
        live = args.live.policies.get(namespace)
        resource, step = self._register(namespace, manifest, live, args.now, moves=namespace in args.moving)
        before = step_of(live) if live else ""

        def is_new(metadata: Any) -> bool:
            # A resource that the engine skips because of --target keeps its old step.
            annotations = (metadata or {}).get("annotations") or {}
            return bool(annotations.get(STEP_ANNOTATION) == step != before)

        applied: pulumi.Output[bool] = resource.metadata.apply(is_new)
        return applied

    def _register(
        self,
        name: str,
        manifest: Mapping[str, Any],
        live: Mapping[str, Any] | None,
        now: datetime,
        *,
        moves: bool,
    ) -> tuple["_Object", str]:
        """Register an object, and return the time of its last step too.

        Args:
            name: The name of the resource.
            manifest: The object.
            live: The object as it is; None if it does not exist.
            now: The time of this run.
            moves: Whether pods move by it.
        """
        wanted = manifest["spec"]
        kept = live is not None and not moves and not any(changed_fields(wanted, live.get("spec")))
        step = (step_of(live) if live and kept else "") or now.astimezone(UTC).isoformat(timespec="seconds")
        metadata = {
            **manifest["metadata"],
            "annotations": {STEP_ANNOTATION: step, _FORCE: "true"},
        }
        # The engine does not see that somebody deleted an object, so it has to make the object anew. It also
        # applies on the server's side, which leaves what somebody added, such as conditions of a policy.
        anew = live is None or (
            has_more(wanted, live.get("spec")) and not live["metadata"].get("deletionTimestamp")
        )
        options = pulumi.ResourceOptions(
            parent=self,
            replace_on_changes=["metadata.annotations"] if anew else None,
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
