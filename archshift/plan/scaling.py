"""How an autoscaled workload keeps its share between two updates, and how well. Pure.

A hard spread limits a difference, and a share is a ratio. So the limit is only as tight as the largest number
of pods needs. Inside it, two soft rules are in balance at the share:

- a soft spread over architectures. The scheduler scores a side by its pods *relative to* the fuller side:
  with ``g`` pods there and ``x`` on the other, the fuller side has ``100 x/g`` points and the other 100.
- a preference for the larger side of ``D`` points.

Both have the weight 2, so the sides score the same at ``x/g = 1 - D/100``, whatever the number of pods. Other
soft spreads are in the same sum, and they bring the two sums closer together. ``D`` counts them in. A
``maxSkew`` is added to both sums. The right one rounds the smaller side instead of rounding it up.

The scheduler's other scorers disturb the balance (docs/adr/0015). The emptiest nodes of both sides may differ
by 10 points. That bends a share of 0.8 by about 0.03, and a share of 0.5 by less than 0.02.

Sources: k8s.io/kubernetes/pkg/scheduler (v1.36.3): framework/plugins/podtopologyspread/scoring.go,
nodeaffinity, interpodaffinity and tainttoleration; apis/config/v1/default_plugins.go for the weights.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from archshift.cluster.entries import Scaling
from archshift.cluster.model import MOST_MISSING
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture, opposite
from archshift.common.kubernetes import ARCH_LABEL, HOSTNAME_LABEL, ZONE_LABEL
from archshift.plan.placement import max_skew

_POINTS: Final = 100
"""The most points of a scorer, before its weight."""

_APART: Final = 100
"""What a preferred pod anti-affinity adds, in points of a preference: the emptier side has all points of its
scorer, and a side whose nodes all have such pods has none."""

_TAINT: Final = 150
"""What the toleration of a side's soft taint adds: the scorer of taints has the weight 3, and not 2."""

_BY_HOST: Final = 1.2
_BY_HOST_POINTS: Final = 1.0
_BY_HOST_BESIDE: Final = 0.12
"""What a soft spread over nodes changes: about the constant, about the preference, and in both sums.

All nodes are compared to the fullest one, which has a pod of the workload more than the node that gets the
next. That makes a difference between the sides smaller, most of all while there are few pods. Where the nodes
are in proportion to the share, both sides have as many pods on a node. Fitted for 12 to 48 nodes.

While there are few pods, that is no constant. The preference of a workload with at most ``n`` pods is too
large by its ``n``-th part. It would round the smaller side down at each number of pods.
"""

_NEARLY_EVEN: Final = 0.99
"""Two sums whose ratio is above this need no preference: a point is the smallest."""

PODS_OFF: Final = 1.0
SHARE_OFF: Final = 0.10
"""A workload is off by at most so many pods, or by this share of its pods (bench/autoscaling.py)."""

SOFT_PODS_OFF: Final = 2.0
SOFT_SHARE_OFF: Final = 0.15
"""The same where the application has soft rules of its own."""

_NEW_PODS_OFF: Final = 1.5
"""By how many pods more, while pods end that came after the last update. They have no deletion cost, so their
order is left to chance. The most in the model of lab/day_model.py, with loads from a quarter to three times
the planned pods. Soft rules of the application leave room for it (bench/RESULTS.md)."""


def scaling_of(
    template: Template, share: float, most: int, *, zones: int, tainted: bool, guessed: bool = False
) -> Scaling | None:
    """Return how a workload keeps its share; None if its own rules already spread its pods over sides.

    Args:
        template: Its pod template.
        share: The share of its pods that belong on Graviton, between 0 and 1, both excluded.
        most: The most pods that its autoscaler makes, 1 or more.
        zones: The number of zones of the nodes; 0 if they have none.
        tainted: Whether all nodes have the soft taint of their side.
        guessed: Whether nobody says the most pods. The guess changes with the present pods, and the rule
            must not.
    """
    soft = [each for each in _constraints(template) if each.get("whenUnsatisfiable") == "ScheduleAnyway"]
    if any(each.get("topologyKey") == ARCH_LABEL for each in soft):
        return None
    larger: Architecture = ARM64 if share >= 0.5 else AMD64
    other = opposite(larger)
    large, small = max(share, 1 - share), min(share, 1 - share)
    per_pod = _normalized(len(ARCHITECTURES))
    zonal = sum(each.get("topologyKey") == ZONE_LABEL for each in soft) if template.has_spreads else 1
    by_host = not template.has_spreads or any(each.get("topologyKey") == HOSTNAME_LABEL for each in soft)
    # Both sides have the same zones, and a zone has its part of all pods.
    beside = zonal * _normalized(zones) / zones if zones else 0.0
    beside += _BY_HOST_BESIDE * by_host
    ratio = (per_pod * small + beside) / (per_pod * large + beside)
    spread, weight = 1, 0.0
    if ratio < _NEARLY_EVEN:
        # The smaller side gets its next pod in the middle between two whole numbers.
        constant = per_pod / 2 + beside - sum(int(each.get("maxSkew", 1)) - 1 for each in soft)
        constant -= _BY_HOST * by_host
        spread = 1 + max(0, round(constant))
        weight = max(0.0, _POINTS * (1 - ratio) - _BY_HOST_POINTS * by_host)
        if by_host and not guessed:
            weight *= 1 - 1 / most
    tolerates: Architecture | None = None
    if template.stays_apart and ratio < _NEARLY_EVEN:
        weight += _APART
        if weight > _POINTS and tainted and "tolerations" not in template.foreign_owners:
            tolerates, weight = larger, weight - _TAINT
    return Scaling(
        within=max_skew(round(share * most), most),
        spread=spread,
        side=larger if weight >= 0 else other,
        weight=min(_POINTS, round(abs(weight))),
        tolerates=tolerates,
    )


def reach(
    scaling: Scaling, share: float, bounds: tuple[int, int], *, soft_rules: bool
) -> tuple[float, float]:
    """Return the lowest and the highest share on Graviton while an autoscaler changes the number of pods.

    It also counts pods that come and end before they have a deletion cost.

    Args:
        scaling: How the workload keeps its share.
        share: The share.
        bounds: The fewest and the most pods.
        soft_rules: Whether the application has soft rules of its own.
    """
    low, high = 1.0, 0.0
    fewest_pods = max(1, bounds[0])
    # More pods bring both shares nearer to the wanted one. Somebody may allow two billion.
    for pods in range(fewest_pods, min(max(fewest_pods, bounds[1]), fewest_pods + MOST_MISSING) + 1):
        off = most_off(pods, soft_rules=soft_rules)
        if not soft_rules:
            # The fewest pods are old ones.
            off += min(_NEW_PODS_OFF, pods - fewest_pods)
        # The hard bound limits pods that come. It moves none of those that stay after others have ended.
        fewest = max(0, (pods - scaling.within + 1) // 2) if pods == bounds[1] else 0
        least = max(math.ceil(share * pods - off - 1e-9), fewest)
        most = min(math.floor(share * pods + off + 1e-9), pods - fewest)
        low, high = min(low, least / pods), max(high, most / pods)
    return low, high


def most_off(pods: int, *, soft_rules: bool) -> float:
    """Return by how many pods a workload with so many pods may be off its share.

    Args:
        pods: The number of its pods.
        soft_rules: Whether the application has soft rules of its own.
    """
    pods_off, share_off = (SOFT_PODS_OFF, SOFT_SHARE_OFF) if soft_rules else (PODS_OFF, SHARE_OFF)
    return max(pods_off, share_off * pods)


def _constraints(template: Template) -> list[Mapping[str, Any]]:
    before, behind = template.other_spreads
    return [*before, *behind]


def _normalized(domains: int) -> float:
    """Return what a pod adds to the score of its domain."""
    return math.log(domains + 2)
