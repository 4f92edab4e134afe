"""What changed the share of an autoscaled workload since archshift last ordered its pods."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.model import Autoscaler
from archshift.cluster.pods import Pod
from archshift.plan.bends import bends_of
from archshift.plan.model import Bend
from tests.build import deployment, inventory, planned, replica_pod

CART = "shop/Deployment/cart"
WRITTEN, LATER = "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"
BEFORE = "2026-03-02T09:00:00Z"
ENTRY = "5 of 10 on arm64"


def pods(old: int, new: int, *, new_maker: str = "cart-1", written: str = WRITTEN) -> list[Pod]:
    """Pods that had a cost at the last update, and pods that came later."""

    return [
        *(replica_pod(number, "cart-1", created=BEFORE, cost=9, cost_at=written) for number in range(old)),
        *(replica_pod(old + number, new_maker, created=LATER) for number in range(new)),
    ]


def causes(
    there: list[Pod], *, graviton: int = 1, entry: str = ENTRY, scaled_at: str = ""
) -> tuple[str, ...]:
    """Why half of these pods are not on Graviton."""
    row = planned("cart", len(there), len(there) // 2, graviton=graviton, autoscaled=True)
    scaler = Autoscaler(by="HorizontalPodAutoscaler cart", scaled_at=scaled_at)
    found = inventory(deployment(replicas=len(there), autoscaled=scaler))
    (bend,) = bends_of([row], replace(found, scaled_pods={CART: there}), {CART: entry} if entry else {})
    return bend.causes


REPLACED = f"replaced since {WRITTEN}, by a lost node, an eviction or a restart"


@pytest.mark.parametrize(
    ("there", "known", "why"),
    [
        (pods(10, 10), {}, ("scaled up from 10 to 20 pods",)),
        (pods(6, 0), {}, ("scaled down from 10 to 6 pods",)),
        (pods(8, 2), {}, (f"2 pods {REPLACED}",)),
        (pods(8, 6), {}, ("scaled up from 10 to 14 pods", f"2 pods {REPLACED}")),
        (pods(5, 1), {}, ("scaled down from 10 to 6 pods", f"1 pod {REPLACED}")),
        (pods(6, 4, new_maker="cart-2"), {}, (f"its own rollout since {WRITTEN}",)),
        # With patches, nobody knows for how many pods the last update was.
        (
            pods(6, 4),
            {"entry": "", "scaled_at": LATER},
            (f"its autoscaler changed its replicas, last at {LATER}",),
        ),
        (pods(6, 4), {"entry": "", "scaled_at": BEFORE}, (f"4 pods {REPLACED}",)),
        (pods(6, 4), {"entry": ""}, (f"not known: 4 pods newer than {WRITTEN}",)),
        (pods(8, 0), {"entry": ""}, ("not known",)),
        (
            pods(0, 8),
            {},
            ("not known: no pod has a deletion cost that tells when archshift last ordered its pods",),
        ),
    ],
)
def test_what_changed_a_share(there: list[Pod], known: dict[str, Any], why: tuple[str, ...]) -> None:
    """From what the cluster shows, and 'not known' where it shows nothing."""
    assert causes(there, **known) == why


def test_a_share_that_is_right_has_no_cause() -> None:
    assert causes(pods(10, 10), graviton=10) == ()


def test_only_autoscaled_workloads_with_pods_are_shown() -> None:
    rows = [
        planned("cart", 4, 2, graviton=2),
        planned("cart", 4, None, autoscaled=True),
        planned("cart", 0, 0, autoscaled=True),
    ]
    assert bends_of(rows, inventory(deployment()), {}) == ()


def test_a_bend_as_a_sentence() -> None:
    bend = Bend(workload=CART, wanted=0.8, share=0.65, causes=("scaled up from 10 to 20 pods",))
    assert str(bend) == (
        "shop/Deployment/cart: 65% of its pods on Graviton, 80% wanted: scaled up from 10 to 20 pods"
    )
