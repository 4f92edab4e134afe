"""x86-node-group-protected: the engine itself refuses to delete x86 nodes that workloads need."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import AMD64, node_groups, shortage
from archshift_rules.evidence import MAX_AGE, Evidence, read_evidence
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation
from archshift_rules.wording import counted, listed

_LIFTED: Final = "archshift removes it when all of them are proven."


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the unprotected x86 groups and nodes, if the protected ones are not enough."""
    if not stack.is_archshift:
        return
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if not evidence.problem and not evidence.on_x86:
        return
    groups = [group for group in node_groups(stack) if AMD64 in group.architectures]
    # Without evidence, no number of nodes is known to be enough.
    lacking = "every x86 node must be protected"
    if not evidence.problem:
        protected = [group for group in groups if group.protected]
        lacking = shortage([workload.need for workload in evidence.on_x86], protected)
    if not lacking:
        return
    why = _why(evidence)
    for group in groups:
        if group.kind != "Node" and not group.protected:
            yield Violation(
                f"The x86 node group {group.name} is not protected. {why}. Set protect on it; {_LIFTED}",
                group.urn,
            )
    bare = [group for group in groups if group.kind == "Node" and not group.protected and not group.repels]
    if bare:
        yield Violation(
            f"Too few x86 nodes are protected. {why}: {lacking}. Set protect on more of "
            f"{listed(group.name for group in bare)}; {_LIFTED}",
            bare[0].urn,
        )


def _why(evidence: Evidence) -> str:
    if evidence.problem:
        return f"No workload is proven to run without x86 nodes ({evidence.problem})"
    needs = evidence.on_x86
    keys = listed(f"{workload.key}: {workload.reason}" for workload in needs)
    return f"{counted(len(needs), 'workload', 'need')} x86 nodes ({keys})"


RULE: Final = StackRule(
    name="x86-node-group-protected",
    description="x86 nodes must be protected from deletion while a workload needs them.",
    check=check,
    config=MAX_AGE,
    break_glass=True,
)
