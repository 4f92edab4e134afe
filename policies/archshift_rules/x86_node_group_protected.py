"""x86-node-group-protected: the engine itself refuses to delete x86 nodes that are needed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import AMD64, node_groups, shortage
from archshift_rules.evidence import MAX_AGE, Evidence, read_evidence
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation
from archshift_rules.wording import counted, listed

_LIFTED: Final = "archshift lifts it by itself when the last of them is proven."


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the x86 groups and nodes that lack ``protect``, if those that have it are not enough."""
    if not stack.is_archshift:
        return
    evidence = read_evidence(stack, now, config["maxAgeDays"])
    if not evidence.problem and not evidence.on_x86:
        return
    groups = [one for one in node_groups(stack) if AMD64 in one.architectures]
    # Without evidence nobody knows how many are enough.
    lacking = "every x86 node counts"
    if not evidence.problem:
        protected = [one for one in groups if one.protected]
        lacking = shortage([one.need for one in evidence.on_x86], protected)
    if not lacking:
        return
    why = _why(evidence)
    for one in groups:
        if one.kind != "Node" and not one.protected:
            yield Violation(
                f"The x86 node group {one.name} is not protected. {why}. Set protect on it; {_LIFTED}",
                one.urn,
            )
    bare = [one for one in groups if one.kind == "Node" and not one.protected and not one.repels]
    if bare:
        yield Violation(
            f"Too few x86 nodes are protected. {why}: {lacking}. Set protect on more of "
            f"{listed(one.name for one in bare)}; {_LIFTED}",
            bare[0].urn,
        )


def _why(evidence: Evidence) -> str:
    if evidence.problem:
        return f"Nothing is proven to run without them ({evidence.problem})"
    needs = evidence.on_x86
    verb = "needs" if len(needs) == 1 else "need"
    keys = listed(f"{one.key}: {one.reason}" for one in needs)
    return f"{counted(len(needs), 'workload')} {verb} x86 nodes ({keys})"


RULE: Final = StackRule(
    name="x86-node-group-protected",
    description="x86 nodes must be protected from deletion while a workload needs them.",
    check=check,
    config=MAX_AGE,
    break_glass=True,
)
