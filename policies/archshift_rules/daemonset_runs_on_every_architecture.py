"""daemonset-runs-on-every-architecture: the first Graviton node starts every DaemonSet."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import ARCH_LABEL, ARM64, node_groups
from archshift_rules.evidence import MAX_AGE, read_evidence
from archshift_rules.kinds import WORKLOAD_PATCH, kind_of
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import listed

_TYPES: Final = (WORKLOAD_PATCH, "kubernetes:apps/v1:DaemonSetPatch", "kubernetes:apps/v1:DaemonSet")


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the DaemonSets that this stack's Graviton nodes would start without proof."""
    if not stack.is_archshift:
        return
    graviton = [group for group in node_groups(stack) if ARM64 in group.architectures and group.urn]
    if not graviton:
        return
    names = listed(group.name for group in graviton)
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if evidence.problem:
        yield Violation(
            f"This stack creates Graviton nodes ({names}), but it has no evidence that DaemonSets run there "
            f"({evidence.problem}). Let archshift check the images (archshift:images.check).",
            evidence.urn,
        )
        return
    daemonsets = (resource for resource in stack.all(*_TYPES) if kind_of(resource) == "DaemonSet")
    kept_off = {_key(resource) for resource in daemonsets if _avoids_graviton(resource)}
    broken = [
        f"{workload.key} ({workload.why_not})"
        for workload in evidence.unproven
        if workload.key.split("/")[1:2] == ["DaemonSet"]
        and workload.reaches_graviton
        and workload.key not in kept_off
    ]
    if broken:
        yield Violation(
            f"These DaemonSets would start on the Graviton nodes ({names}), but nothing proves that they run "
            f"there: {listed(broken)}. Give them images for arm64, or the node selector "
            "kubernetes.io/arch: amd64. archshift:images.daemonsets: pin keeps those that archshift steers "
            "on x86.",
            graviton[0].urn,
        )


def _key(daemonset: Resource) -> str:
    namespace = daemonset.read("metadata", "namespace") or "default"
    return f"{namespace}/DaemonSet/{daemonset.read('metadata', 'name')}"


def _avoids_graviton(daemonset: Resource) -> bool:
    """Say whether its own rules keep its pods off every arm64 node."""
    pods = ("spec", "template", "spec")
    selected = daemonset.read(*pods, "nodeSelector", ARCH_LABEL)
    if isinstance(selected, str) and selected != ARM64:
        return True
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = daemonset.items(*pods, "affinity", "nodeAffinity", required, "nodeSelectorTerms")
    # A node must match only one of the terms, so every term must exclude arm64.
    return bool(terms) and all(isinstance(term, dict) and _excludes_arm64(term) for term in terms)


def _excludes_arm64(term: Mapping[str, Any]) -> bool:
    expressions = term.get("matchExpressions")
    for expression in expressions if isinstance(expressions, list) else ():
        if (
            isinstance(expression, dict)
            and expression.get("key") == ARCH_LABEL
            and isinstance(expression.get("values"), list)
        ):
            named = ARM64 in expression["values"]
            if expression.get("operator") == ("NotIn" if named else "In"):
                return True
    return False


RULE: Final = StackRule(
    name="daemonset-runs-on-every-architecture",
    description="DaemonSets must run on arm64, or be kept off it, before the first Graviton node group.",
    check=check,
    config=MAX_AGE,
)
