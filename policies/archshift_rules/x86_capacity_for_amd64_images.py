"""x86-capacity-for-amd64-images: workloads that are not proven to run on arm64 keep x86 nodes."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import AMD64, NODE_GROUPS, Amount, Group, Need, node_groups, quantity, shortage
from archshift_rules.evidence import MAX_AGE, Evidence, read_evidence
from archshift_rules.kinds import (
    LEFT_ALONE,
    PATCHES_BY_ARCHSHIFT,
    PLACEMENT_POLICY,
    WITH_PODS,
    kind_of,
    pod_spec,
)
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import counted, listed, number


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the unproven workloads without enough x86 capacity, and the problems of the evidence."""
    if not stack.is_archshift:
        return
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if evidence.problem:
        yield Violation(
            f"This stack has no evidence for its images ({evidence.problem}), so every workload counts as "
            "needing x86 nodes. Let archshift check the images (archshift:images.check), and run it again.",
            evidence.urn,
        )
        return
    yield from _broken(evidence)
    yield from _without_evidence(stack, evidence)
    needs = [workload.need for workload in evidence.on_x86 if workload.need.pods]
    needs += _needs_of_templates(stack, evidence)
    groups = [group for group in node_groups(stack) if AMD64 in group.architectures]
    lacking = shortage(needs, groups)
    if lacking:
        yield Violation(_message(evidence, needs, groups, lacking), stack.urn(*stack.all(*NODE_GROUPS)))


def _message(evidence: Evidence, needs: list[Need], groups: list[Group], lacking: str) -> str:
    def who(need: Need) -> str:
        known = evidence.workloads.get(need.key)
        return f"{need.key} ({known.reason if known else 'declared in this stack'})"

    notes = [f"{group.name} has the taint {group.repels[0]}" for group in groups if group.repels]
    notes += [f"{group.name}: {group.note}" for group in groups if group.note]
    uncounted = f" (not counted: {listed(notes)})" if notes else ""
    return (
        f"{counted(len(needs), 'workload', 'need')} x86 nodes: {lacking}"
        f"{uncounted}. Workloads: {listed(map(who, needs))}. Keep x86 node groups of that size, or give "
        "these workloads images that run on arm64."
    )


def _broken(evidence: Evidence) -> Iterator[Violation]:
    broken = [
        f"{workload.key} ({workload.problem})"
        for _, workload in sorted(evidence.workloads.items())
        if workload.problem
    ]
    if broken:
        yield Violation(
            f"The evidence is invalid for {listed(broken)}, so these workloads count as needing x86 nodes. "
            "Run archshift again; it then reads the registries again.",
            evidence.urn,
        )


def _without_evidence(stack: Stack, evidence: Evidence) -> Iterator[Violation]:
    """Yield the stack's pod templates and placed workloads without evidence."""
    images = {name for workload in evidence.workloads.values() for name in workload.images}
    for resource in stack.resources.values():
        unknown = [key for key in _placed(resource) if key not in evidence.workloads]
        if unknown:
            yield Violation(
                f"There is no evidence for {listed(unknown)}, but this stack places its pods. Run archshift "
                "again; it checks the images of all workloads in the cluster.",
                resource.urn,
            )
        missing = [image for image in _images(resource) if image not in images]
        # Only a resource with pods has a key; the name of any other may be unknown.
        if missing and (own := evidence.workloads.get(_key(resource))):
            missing = [image for image in missing if image not in own.replaced]
        if missing:
            yield Violation(
                f"There is no evidence for {listed(missing)} of {_key(resource)}. Create the workload in the "
                "cluster outside of this stack first, so that archshift can check its images.",
                resource.urn,
            )


def _placed(resource: Resource) -> list[str]:
    """Return the keys of the workloads that a resource of archshift places."""
    if PATCHES_BY_ARCHSHIFT.fullmatch(resource.type):
        return [_key(resource)]
    if resource.type != PLACEMENT_POLICY:
        return []
    return [
        f"{namespace}/{key.replace('.', '/', 1)}"
        for namespace in resource.mapping("entries")
        for key, entry in resource.mapping("entries", namespace).items()
        if key[:1].isupper() and entry != LEFT_ALONE
    ]


def _needs_of_templates(stack: Stack, evidence: Evidence) -> list[Need]:
    """Return the needs of the stack's own workloads that the cluster does not run yet."""
    runs = {
        name: proven for workload in evidence.workloads.values() for name, proven in workload.images.items()
    }
    needs = []
    for resource in stack.resources.values():
        images = _images(resource)
        if (
            images
            and _key(resource) not in evidence.workloads
            and not all(runs.get(image) for image in images)
        ):
            replicas = number(resource.read("spec", "replicas"))
            needs.append(Need(_key(resource), 1.0 if replicas is None else replicas, _size(resource)))
    return needs


def _key(resource: Resource) -> str:
    namespace = resource.read("metadata", "namespace") or "default"
    return f"{namespace}/{kind_of(resource)}/{resource.read('metadata', 'name') or resource.name}"


def _containers(resource: Resource) -> Iterator[dict[str, Any]]:
    yield from _of_pods(resource, "containers")
    yield from _of_pods(resource, "initContainers")


def _of_pods(resource: Resource, name: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of a list in the spec of its pods."""
    if WITH_PODS.fullmatch(resource.type):
        for entry in resource.items(*pod_spec(kind_of(resource)), name):
            if isinstance(entry, dict):
                yield entry


def _images(resource: Resource) -> list[str]:
    images = {str(container.get("image")) for container in _containers(resource)}
    # A node pulls the image of a volume for its own architecture, as it does for a container.
    for volume in _of_pods(resource, "volumes"):
        if isinstance(image := volume.get("image"), dict):
            images.add(str(image.get("reference")))
    return sorted(images)


def _size(resource: Resource) -> Amount:
    # This also adds init containers, so the sum is a little more than Kubernetes requests.
    size = Amount(pods=1)
    for container in _containers(resource):
        size += _requests(container.get("resources"))
    return size.larger(_requests(resource.read(*pod_spec(kind_of(resource)), "resources")))


def _requests(resources: Any) -> Amount:
    """Return the requests of a container or a pod. Kubernetes takes the limit if there is no request."""
    amounts: dict[str, Any] = {}
    for name in ("limits", "requests"):
        stated = resources.get(name) if isinstance(resources, dict) else None
        amounts |= stated if isinstance(stated, dict) else {}
    cpu, memory = quantity(amounts.get("cpu")), quantity(amounts.get("memory"))
    return Amount((cpu or 0.0) * 1000, memory or 0.0)


RULE: Final = StackRule(
    name="x86-capacity-for-amd64-images",
    description="Workloads that are not proven to run on arm64 must have x86 nodes to run on.",
    check=check,
    config=MAX_AGE,
    break_glass=True,
)
