"""Which pods archshift's policy has placed, and what a fleet would be without patches. Pure."""

from dataclasses import replace

from archshift.cluster.entries import LEFT_ALONE, OTHERS, entry_key
from archshift.cluster.kinds import on_every_node
from archshift.cluster.live_placement import LivePlacement, changed_fields, entries_in
from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import without_patch
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import STACK_LABEL
from archshift.common.text import first_few
from archshift.plan.admission import binding, policy
from archshift.plan.model import Plan, PolicyAway


def with_unplaced(plan: Plan, inventory: Inventory, live: LivePlacement, stack_label: str) -> Plan:
    """Return a plan with the pods that the policy did not place, and the namespaces without it.

    Args:
        plan: A plan of ``placement: admission``.
        inventory: The cluster of the plan.
        live: What places pods at admission now.
        stack_label: The stack, as ``stack_label`` writes it.
    """
    since = live.since
    rows = [row for row in plan.workloads if row.entry and row.placed and row.namespace in since]
    placed = {row.key: since[row.namespace] for row in rows}
    times = {key: inventory.unplaced.get(key, ()) for key in placed}
    newer = {key: sum(created > placed[key] for created in own) for key, own in times.items()}
    return replace(
        plan,
        unplaced={key: count for key, count in newer.items() if count},
        older=sum(map(len, times.values())) - sum(newer.values()),
        without_policy={
            namespace: why
            for namespace in sorted({row.namespace for row in plan.workloads if row.entry})
            if (why := why_away(live, namespace, stack_label))
        },
    )


def why_away(live: LivePlacement, namespace: str, stack_label: str) -> PolicyAway | None:
    """Return why a policy does not place by its entries; None if it does.

    It does not matter what the entries are: the next update may change them.

    Args:
        live: What places pods at admission now.
        namespace: The namespace of the policy.
        stack_label: The stack, as ``stack_label`` writes it.
    """
    there, bound = live.policies.get(namespace), live.bindings.get(namespace)
    if not there and not bound:
        return PolicyAway("there is no policy yet, or it was deleted", there=False)
    if not there or not bound:
        return PolicyAway(f"its {'binding' if there else 'policy'} was deleted")
    made = policy(stack_label, namespace, entries_in(there))
    found = (("policy", made, there), ("binding", binding(stack_label, namespace), bound))
    for what, made, item in found:
        if item["metadata"].get("deletionTimestamp"):
            held = ", ".join(item["metadata"].get("finalizers") or ("a finalizer",))
            named = f"{made['kind'].lower()} {item['metadata']['name']}"
            return PolicyAway(
                f"its {what} is being deleted, and {held} holds it",
                f"remove that finalizer with kubectl edit {named}, and run pulumi up",
            )
    changed = [
        f"{path} of its {what}"
        for what, made, item in found
        for path in sorted({*changed_fields(made["spec"], item.get("spec"), "spec")})
    ]
    if changed:
        return PolicyAway(f"somebody changed {first_few(changed)}")
    if others := live.doubled.get(namespace):
        return PolicyAway(
            f"{first_few(others)} puts the same policy into effect once more",
            f"run kubectl delete mutatingadmissionpolicybindings {' '.join(others)}",
        )
    return None


def check_alone(plan: Plan, live: LivePlacement) -> None:
    """Check that no other stack places the same workloads. Of two policies, only the first is followed.

    Args:
        plan: A plan of ``placement: admission``.
        live: What places pods at admission now.

    Raises:
        ArchshiftError: Another stack does.
    """
    shared: dict[str, list[str]] = {}
    for row in plan.workloads:
        if row.entry in ("", LEFT_ALONE):
            continue
        key = entry_key(row.kind, row.name)
        for label, data in live.rivals.get(row.namespace, {}).items():
            if data.get(key, data.get(OTHERS, LEFT_ALONE)) != LEFT_ALONE:
                shared.setdefault(label, []).append(row.key)
    for label, keys in sorted(shared.items()):
        raise ArchshiftError(
            f"the stack {label} places {first_few(keys)} at admission too",
            "leave them to one stack with archshift:workloads, or, if that stack is gone, run kubectl delete "
            f"mutatingadmissionpolicies,mutatingadmissionpolicybindings --selector={STACK_LABEL}={label}",
        )


def without_patches(inventory: Inventory) -> Inventory:
    """Return the inventory of a fleet whose templates have no patch of this stack."""
    return replace(
        inventory,
        workloads={
            key: workload
            if on_every_node(workload.kind)
            else replace(workload, template=without_patch(workload.template))
            for key, workload in inventory.workloads.items()
        },
    )
