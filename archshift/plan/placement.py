"""How the stock scheduler is told a share, merged into what the workload says itself.

Pure: a workload's pod spec as it is now, and how many of its pods belong on Graviton, give
the fields of a server-side-apply patch. Five fields of the pod template are ours to set:

=================  =====================================================  ==================
field              set when                                               merges
=================  =====================================================  ==================
spread             some pods on each side                                 by key, beside others
preferred          some pods on each side, one side has more              atomic: emitted whole
required           all pods on one side                                   atomic: emitted whole
tolerations        as ``preferred``, and soft rules compete       atomic: emitted whole
node-selector      all on one side and ``required`` has another owner     atomic: emitted whole
=================  =====================================================  ==================

Why it is exact: ``DoNotSchedule`` with ``maxSkew = |graviton - x86|`` bounds the difference
between the sides, and a preference for the larger side reaches that bound. Measured on a real
kube-scheduler; see tests/lab/test_exact.py.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import SPREAD, Template
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABEL
from archshift.nodes.groups import side_taint

WEIGHT: Final = 100
"""Weight of the architecture preference; 100 is the API's maximum."""

OTHER_WEIGHT: Final = 25
"""Largest sum of weights left to the application's own preferences once they stand beside ours.

The scheduler adds the weights up and scales the best node to 100: with 25 against 100 a node
of the preferred architecture wins over any that only meets the application's own preferences.
"""


def max_skew(graviton: int, replicas: int) -> int:
    """Return the ``maxSkew`` that bounds the sides to ``graviton`` and the rest."""
    return max(1, abs(2 * graviton - replicas))


def preferred_side(graviton: int, replicas: int) -> Architecture:
    """Return the side with more pods; Graviton where both have the same number."""
    return ARM64 if 2 * graviton >= replicas else AMD64


def reachable(graviton: int, replicas: int, scaled: int) -> int:
    """Return how many of ``scaled`` pods land on Graviton under the placement for ``replicas``.

    This is what an autoscaler gets between two updates of the stack: the skew stays as it was.
    """
    if graviton in (0, replicas):
        return scaled if graviton else 0
    skew = max_skew(graviton, replicas)
    minor = max(0, scaled - skew + 1) // 2
    return scaled - minor if preferred_side(graviton, replicas) == ARM64 else minor


def conflicts(template: Template, replicas: int) -> dict[str, FieldOwner]:
    """Return the fields that archshift would have to take from someone, and from whom.

    Checked for every share the workload may get, not for today's alone, so that a ramp does
    not stop half way: a workload is movable as a whole or not at all.
    """
    blocked = {}
    if "required" in template.foreign_owners and "node-selector" in template.foreign_owners:
        blocked["required"] = template.foreign_owners["required"]
    if replicas > 1:
        blocked |= {
            n: template.foreign_owners[n] for n in ("preferred", "spread") if n in template.foreign_owners
        }
    return blocked


def place(template: Template, graviton: int, replicas: int) -> dict[str, Any]:
    """Return the fields to set so that ``graviton`` of ``replicas`` pods run on Graviton.

    Fields taken by force stay in the result, with the application's own value when nothing of
    ours is needed there: giving one up would delete it.

    Args:
        template: The workload's pod template.
        graviton: 0 to ``replicas``; with 0 replicas, 0.
        replicas: Number of pods.

    Returns:
        Field name to value.
    """
    fields: dict[str, Any] = {
        name: taken.value for name, taken in template.taken_fields.items() if taken.value
    }
    if 0 < graviton < replicas:
        side = preferred_side(graviton, replicas)
        fields["spread"] = _spread(template, max_skew(graviton, replicas))
        fields["preferred"] = _preferred(template.application_value("preferred"), side)
        if template.has_soft_rules and "tolerations" not in template.foreign_owners:
            taint = side_taint(side)
            ours = {"key": taint.key, "operator": "Exists", "effect": taint.effect}
            fields["tolerations"] = [*(template.application_value("tolerations") or ()), ours]
    else:
        fields |= pin(template, ARM64 if graviton else AMD64)
    return copy.deepcopy(fields)


def pin(template: Template, architecture: Architecture) -> dict[str, Any]:
    """Return the fields that keep all pods on one architecture.

    The node selector is the second choice because people write selectors more often than
    required affinities; where both are free either would do.
    """
    if "required" in template.foreign_owners and "node-selector" not in template.foreign_owners:
        return {
            "node-selector": {**(template.application_value("node-selector") or {}), ARCH_LABEL: architecture}
        }
    expression = {"key": ARCH_LABEL, "operator": "In", "values": [architecture]}
    own = (template.application_value("required") or {}).get("nodeSelectorTerms") or []
    # Terms are ORed, the expressions of one are ANDed: ours goes into every term, or a pod
    # could pick a term without it.
    merged = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), expression]}
        # An empty term of the application matches no node, and must go on to.
        if not own or term.get("matchExpressions") or term.get("matchFields")
        else term
        for term in own or [{}]
    ]
    return {"required": {"nodeSelectorTerms": merged}}


def _preferred(own: Sequence[Mapping[str, Any]] | None, side: Architecture) -> list[dict[str, Any]]:
    ours = {
        "weight": WEIGHT,
        "preference": {"matchExpressions": [{"key": ARCH_LABEL, "operator": "In", "values": [side]}]},
    }
    own = own or ()
    spare, excess = max(0, OTHER_WEIGHT - len(own)), sum(term["weight"] - 1 for term in own)
    # Each keeps at least 1, the API's minimum; what is left is shared in their proportions.
    scale = min(1.0, spare / excess) if excess else 1.0
    theirs = [{**term, "weight": 1 + int((term["weight"] - 1) * scale)} for term in own]
    return [*theirs, ours]


def _spread(template: Template, skew: int) -> dict[str, Any]:
    return {
        **SPREAD,
        "maxSkew": skew,
        "labelSelector": template.selector or {},
        # Each revision is counted by itself; otherwise a rolling update would count the old
        # pods and end skewed (kubernetes/kubernetes#98215).
        "matchLabelKeys": [template.revision_label],
        # Tainted nodes that the pods cannot use must not count as an empty side.
        "nodeTaintsPolicy": "Honor",
    }
