"""The placement fields that make the standard scheduler keep a share, merged with the workload's own. Pure.

The workload's present pod spec and the number of its pods on Graviton give the fields of a server-side-apply
patch. archshift may set these fields of the pod template:

============================  =====================================================  ==================
field                         set when                                               merges
============================  =====================================================  ==================
spread                        some pods on each side                                 by key, beside others
soft-spread                   an autoscaler changes the number of pods               by key, beside others
zone-spread, node-spread      as ``spread``, and it would be the only constraint     by key
preferred                     some pods on each side, one side has more              atomic: emitted whole
required                      all pods on one side                                   atomic: emitted whole
tolerations                   as ``preferred``, and soft rules compete               atomic: emitted whole
node-selector                 all on one side and ``required`` has another owner     atomic: emitted whole
============================  =====================================================  ==================

The result is exact. ``DoNotSchedule`` with ``maxSkew = |graviton - x86|`` limits the difference between the
sides. A preference for the larger side reaches that limit. tests/lab/test_exact.py measures it with a
real kube-scheduler.

Where an autoscaler changes the number of pods, a difference is no share. There the limit is wide enough for
the largest number, and inside it two soft rules are in balance at the share (archshift/plan/scaling.py).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from archshift.cluster.entries import Scaling
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import (
    DEFAULT_SPREADS,
    SOFT_SPREADS,
    Template,
    arch_expression,
    preference_for,
    spread_constraint,
    toleration_of,
    weighted_preferences,
)
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABEL

OTHER_WEIGHT: Final = 25
"""The largest sum of the weights of the application's own preferences beside ours.

The scheduler adds the weights of a node and scales the best node to 100. With 25 against 100, a node of the
preferred architecture wins against a node that meets only the application's own preferences.
"""


def max_skew(graviton: int, replicas: int) -> int:
    """Return the ``maxSkew`` that permits ``graviton`` pods on Graviton and the others on x86."""
    return max(1, abs(2 * graviton - replicas))


def preferred_side(graviton: int, replicas: int) -> Architecture:
    """Return the side with more pods; Graviton if both have the same number."""
    return ARM64 if 2 * graviton >= replicas else AMD64


def reachable(graviton: int, replicas: int, scaled: int) -> int:
    """Return how many of ``scaled`` pods land on Graviton with the placement for ``replicas``.

    That is the result if an autoscaler changes the replicas between two updates, because the skew stays.
    """
    if graviton in (0, replicas):
        return scaled if graviton else 0
    skew = max_skew(graviton, replicas)
    minor = max(0, scaled - skew + 1) // 2
    return scaled - minor if preferred_side(graviton, replicas) == ARM64 else minor


def conflicts(template: Template, replicas: int) -> dict[str, FieldOwner]:
    """Return the fields that archshift would have to take from other owners, with their owners.

    It checks every share that the workload may get, and not only the present one. So a ramp cannot stop
    half way: the whole workload is movable, or none of it.
    """
    blocked = {}
    if "required" in template.foreign_owners and "node-selector" in template.foreign_owners:
        blocked["required"] = template.foreign_owners["required"]
    if replicas > 1:
        blocked |= {
            n: template.foreign_owners[n]
            for n in ("preferred", "spread", *SOFT_SPREADS)
            if n in template.foreign_owners
        }
    return blocked


def place(
    template: Template,
    graviton: int,
    replicas: int,
    prefer: Architecture | None = None,
    *,
    zones: bool = True,
    by_selector: bool = False,
    scaling: Scaling | None = None,
) -> dict[str, Any]:
    """Return the fields to set so that ``graviton`` of ``replicas`` pods run on Graviton.

    Fields that were taken by force stay in the result. If archshift needs nothing there, they have the
    application's own value, because leaving a field out would delete it.

    Args:
        template: The workload's pod template.
        graviton: 0 to ``replicas``.
        replicas: The number of pods.
        prefer: The side that the pods prefer without a limit, because the application's own hard rules stop
            them at this share; None if the spread over architectures does.
        zones: Whether nodes have zones. With a constraint over zones, the scheduler would ignore all nodes
            without one when it spreads pods.
        by_selector: Pin by the node selector. It is for single pods, whose fields have no owners: a node must
            meet the selector and the required affinity, so no term needs our expression.
        scaling: How the pods share the sides at any number of pods; None to be exact at ``replicas``.

    Returns:
        Field name to value.
    """
    fields: dict[str, Any] = {
        name: taken.value for name, taken in template.taken_fields.items() if taken.value
    }
    if scaling:
        fields |= _scaled(template, scaling, zones=zones)
    elif 0 < graviton < replicas:
        side = prefer or preferred_side(graviton, replicas)
        if not prefer:
            fields["spread"] = _spread(template, max_skew(graviton, replicas))
        fields["preferred"] = _preferred(template.application_value("preferred"), side)
        if not prefer and not template.has_spreads:
            # Ours would be the pod's only constraint, and then the scheduler applies none of its defaults.
            fields |= _default_spreads(template, max(graviton, replicas - graviton))
            if not zones:
                del fields["zone-spread"]
        if template.has_soft_rules and "tolerations" not in template.foreign_owners:
            own = template.application_value("tolerations") or ()
            fields["tolerations"] = [*own, toleration_of(side)]
    else:
        fields |= pin(template, ARM64 if graviton else AMD64, by_selector=by_selector)
    for name in template.reclaimed.keys() - fields.keys():
        fields[name] = _harmless(template, name, preferred_side(graviton, replicas), replicas)
    return copy.deepcopy(fields)


def pin(template: Template, architecture: Architecture, *, by_selector: bool = False) -> dict[str, Any]:
    """Return the fields that keep all pods on one architecture.

    For templates, the node selector is the second choice, because people write selectors more often than
    required affinities.
    """
    owners = template.foreign_owners
    if by_selector or ("required" in owners and "node-selector" not in owners):
        return {
            "node-selector": {**(template.application_value("node-selector") or {}), ARCH_LABEL: architecture}
        }
    return {"required": _required(template, architecture)}


def _harmless(template: Template, name: str, side: Architecture, replicas: int) -> Any:
    """Return a value with which a field that a copy brought back changes nothing.

    An apply can take a field from another owner, but it cannot remove it at the same time.
    """
    own = template.application_value(name)
    match name:
        case "preferred":
            return _preferred(own, side)
        case "required":
            return _required(template, *ARCHITECTURES)
        case "spread":
            return _spread(template, max(1, replicas))
        case "tolerations":
            return [*(own or ()), toleration_of(side)]
        case "soft-spread" | "zone-spread" | "node-spread":
            skew = DEFAULT_SPREADS.get(name, max(1, replicas))
            return spread_constraint(name, skew, template.selector, template.revision_label)
        case _:
            return own or {}


def _required(template: Template, *architectures: Architecture) -> dict[str, Any]:
    expression = arch_expression(*architectures)
    own = (template.application_value("required") or {}).get("nodeSelectorTerms") or []
    # A node must meet one term, and all expressions of that term. So every term needs our expression;
    # otherwise a term without it would permit other nodes.
    merged = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), expression]}
        # An empty term of the application matches no node, and must still match none.
        if not own or term.get("matchExpressions") or term.get("matchFields")
        else term
        for term in own or [{}]
    ]
    return {"nodeSelectorTerms": merged}


def _scaled(template: Template, scaling: Scaling, *, zones: bool) -> dict[str, Any]:
    """Return the fields that keep a share while an autoscaler changes the number of pods."""
    soft = {"soft-spread": scaling.spread}
    if not template.has_spreads:
        # Larger skews would water down all soft spreads, because the scheduler adds them up.
        soft |= dict.fromkeys(DEFAULT_SPREADS if zones else ("node-spread",), 1)
    fields = {
        "spread": _spread(template, scaling.within),
        **{
            name: spread_constraint(name, skew, template.selector, template.revision_label)
            for name, skew in soft.items()
        },
        "preferred": [
            *_lowered(template.application_value("preferred")),
            *weighted_preferences(scaling.side, scaling.weight),
        ],
    }
    if scaling.tolerates and "tolerations" not in template.foreign_owners:
        own = template.application_value("tolerations") or ()
        fields["tolerations"] = [*own, toleration_of(scaling.tolerates)]
    return fields


def _preferred(own: Sequence[Mapping[str, Any]] | None, side: Architecture) -> list[dict[str, Any]]:
    return [*_lowered(own), preference_for(side)]


def _lowered(own: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the application's own preferences with lower weights, so that they do not outweigh ours."""
    own = own or ()
    spare, excess = max(0, OTHER_WEIGHT - len(own)), sum(term["weight"] - 1 for term in own)
    # Each weight stays at least 1, the API's minimum. They share the rest in proportion.
    scale = min(1.0, spare / excess) if excess else 1.0
    return [{**term, "weight": 1 + int((term["weight"] - 1) * scale)} for term in own]


def _default_spreads(template: Template, most: int) -> dict[str, Any]:
    """Return the scheduler's default spreads.

    The scheduler scores the pods of a node and its zone, plus ``maxSkew``, relative to the worst node. With
    many pods on few nodes, the other side would win against the preference. A larger ``maxSkew`` lowers
    these scores (measured: 27 of 30 pods on two nodes).

    Args:
        most: The number of pods on the larger side.
    """
    return {
        name: spread_constraint(name, max(skew, most // 2), template.selector, template.revision_label)
        for name, skew in DEFAULT_SPREADS.items()
    }


def _spread(template: Template, skew: int) -> dict[str, Any]:
    return {
        **spread_constraint("spread", skew, template.selector, template.revision_label),
        # Tainted nodes that the pods cannot use must not make a side look empty.
        "nodeTaintsPolicy": "Honor",
    }
