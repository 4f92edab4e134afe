"""x86-capacity-for-amd64-images: what is not proven to run on arm64 keeps its x86 nodes."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import AMD64, NODE_GROUPS, Amount, Group, Need, node_groups, quantity, shortage
from archshift_rules.evidence import MAX_AGE, Evidence, read_evidence
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import counted, listed, number

_TEMPLATES: Final = re.compile(
    r"kubernetes:[^:]+:(Pod|ReplicationController|ReplicaSet|Deployment|StatefulSet|DaemonSet|Job|CronJob)"
)
_PATCHES: Final = re.compile(r"kubernetes:[^:]+:(Deployment|StatefulSet|DaemonSet|CronJob)Patch")
_TO_PODS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield what is not proven and lacks room, and what is wrong with the evidence."""
    if not stack.is_archshift:
        return
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if evidence.problem:
        yield Violation(
            f"This stack has no evidence for its images ({evidence.problem}), so every workload counts as "
            "one that needs x86 nodes; let archshift check them (archshift:images.check) and run it again.",
            evidence.urn,
        )
        return
    yield from _broken(evidence)
    yield from _without_evidence(stack, evidence)
    needs = [one.need for one in evidence.on_x86] + _needs_of_templates(stack, evidence)
    groups = [one for one in node_groups(stack) if AMD64 in one.architectures]
    lacking = shortage(needs, groups)
    if lacking:
        yield Violation(_message(evidence, needs, groups, lacking), stack.urn(*stack.all(*NODE_GROUPS)))


def _message(evidence: Evidence, needs: list[Need], groups: list[Group], lacking: str) -> str:
    def who(need: Need) -> str:
        known = evidence.workloads.get(need.key)
        return f"{need.key} ({known.reason if known else 'declared in this stack'})"

    notes = [f"{one.name} has the taint {one.repels[0]}" for one in groups if one.repels]
    notes += [f"{one.name}: {one.note}" for one in groups if one.note]
    uncounted = f" (not counted: {listed(notes)})" if notes else ""
    return (
        f"{counted(len(needs), 'workload')} {'needs' if len(needs) == 1 else 'need'} x86 nodes: {lacking}"
        f"{uncounted}. Concerned: {listed(map(who, needs))}. Keep x86 node groups of that size, or give "
        "these workloads images that run on arm64."
    )


def _broken(evidence: Evidence) -> Iterator[Violation]:
    broken = [f"{one.key} ({one.problem})" for _, one in sorted(evidence.workloads.items()) if one.problem]
    if broken:
        yield Violation(
            f"The evidence does not hold for {listed(broken)}; such workloads count as ones that need x86 "
            "nodes. Run archshift again, which reads the registries anew.",
            evidence.urn,
        )


def _without_evidence(stack: Stack, evidence: Evidence) -> Iterator[Violation]:
    """Yield the pod templates and patched workloads of the stack that no evidence speaks of."""
    images = {name for one in evidence.workloads.values() for name in one.images}
    for one in stack.resources.values():
        if _PATCHES.fullmatch(one.type) and _key(one) not in evidence.workloads:
            yield Violation(
                f"There is no evidence for {_key(one)}, whose placement this stack patches; run archshift "
                "again, which checks the images of every workload it finds.",
                one.urn,
            )
        missing = [image for image in _images(one) if image not in images]
        if missing:
            yield Violation(
                f"There is no evidence for {listed(missing)} of {_key(one)}; bring the workload to the "
                "cluster outside of this stack first, so that archshift checks its images.",
                one.urn,
            )


def _needs_of_templates(stack: Stack, evidence: Evidence) -> list[Need]:
    """Return what the stack's own pods need that the cluster does not run yet."""
    runs = {name: proven for one in evidence.workloads.values() for name, proven in one.images.items()}
    needs = []
    for one in stack.resources.values():
        images = _images(one)
        if images and _key(one) not in evidence.workloads and not all(runs.get(image) for image in images):
            replicas = number(one.read("spec", "replicas"))
            needs.append(Need(_key(one), 1.0 if replicas is None else replicas, _size(one)))
    return needs


def _kind(one: Resource) -> str:
    return one.type.rpartition(":")[2].removesuffix("Patch")


def _key(one: Resource) -> str:
    namespace = one.read("metadata", "namespace") or "default"
    return f"{namespace}/{_kind(one)}/{one.read('metadata', 'name') or one.name}"


def _containers(one: Resource) -> Iterator[dict[str, Any]]:
    if not _TEMPLATES.fullmatch(one.type):
        return
    path = _TO_PODS.get(_kind(one), ("spec", "template", "spec"))
    for group in ("containers", "initContainers"):
        for container in one.items(*path, group):
            if isinstance(container, dict):
                yield container


def _images(one: Resource) -> list[str]:
    return sorted({str(container.get("image")) for container in _containers(one)})


def _size(one: Resource) -> Amount:
    # Init containers add up too, which asks for a little more than Kubernetes does.
    size = Amount(pods=1)
    for container in _containers(one):
        resources = container.get("resources")
        requests = resources.get("requests") if isinstance(resources, dict) else None
        if isinstance(requests, dict):
            cpu, memory = quantity(requests.get("cpu")), quantity(requests.get("memory"))
            size += Amount((cpu or 0.0) * 1000, memory or 0.0)
    return size


RULE: Final = StackRule(
    name="x86-capacity-for-amd64-images",
    description="Workloads that are not proven to run on arm64 must have x86 nodes to run on.",
    check=check,
    config=MAX_AGE,
    break_glass=True,
)
