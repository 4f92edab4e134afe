"""daemonset-runs-on-every-architecture: a DaemonSet starts on the first Graviton node, wanted or not."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import ARCH_LABEL, ARM64, node_groups
from archshift_rules.evidence import MAX_AGE, read_evidence
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import listed

_KINDS: Final = ("kubernetes:apps/v1:DaemonSetPatch", "kubernetes:apps/v1:DaemonSet")


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the DaemonSets that would break on this stack's Graviton nodes."""
    if not stack.is_archshift:
        return
    graviton = [one for one in node_groups(stack) if ARM64 in one.architectures and one.urn]
    if not graviton:
        return
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if evidence.problem:
        yield Violation(
            f"This stack makes Graviton nodes ({listed(one.name for one in graviton)}) and has no evidence "
            f"that DaemonSets run there ({evidence.problem}); let archshift check images "
            "(archshift:images.check).",
            evidence.urn,
        )
        return
    kept_off = {_key(one) for one in stack.all(*_KINDS) if _avoids_graviton(one)}
    broken = [
        f"{one.key} ({one.why_not})"
        for one in evidence.unproven
        if one.key.split("/")[1:2] == ["DaemonSet"] and one.reaches_graviton and one.key not in kept_off
    ]
    if broken:
        yield Violation(
            f"These DaemonSets would start on the Graviton nodes ({listed(one.name for one in graviton)}) "
            f"and are not proven to run there: {listed(broken)}. Give them images for arm64, or set "
            "archshift:images.daemonsets: pin to keep them on x86.",
            graviton[0].urn,
        )


def _key(one: Resource) -> str:
    return f"{one.read('metadata', 'namespace') or 'default'}/DaemonSet/{one.read('metadata', 'name')}"


def _avoids_graviton(one: Resource) -> bool:
    """Say whether its pods can land on no arm64 node."""
    pods = ("spec", "template", "spec")
    selected = one.read(*pods, "nodeSelector", ARCH_LABEL)
    if isinstance(selected, str) and selected != ARM64:
        return True
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = one.items(*pods, "affinity", "nodeAffinity", required, "nodeSelectorTerms")
    # A node has to match one term, so each has to turn arm64 away.
    return bool(terms) and all(isinstance(term, dict) and _turns_away(term) for term in terms)


def _turns_away(term: Mapping[str, Any]) -> bool:
    expressions = term.get("matchExpressions")
    for one in expressions if isinstance(expressions, list) else ():
        if isinstance(one, dict) and one.get("key") == ARCH_LABEL and isinstance(one.get("values"), list):
            named = ARM64 in one["values"]
            if one.get("operator") == ("NotIn" if named else "In"):
                return True
    return False


RULE: Final = StackRule(
    name="daemonset-runs-on-every-architecture",
    description="DaemonSets must run on arm64, or be kept off it, before there is a Graviton node group.",
    check=check,
    config=MAX_AGE,
)
