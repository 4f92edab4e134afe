"""Six hours of a shop of three workloads."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.gate.weeks import FakeWeeks, Pods

END = datetime(2026, 3, 10, 12, tzinfo=UTC)
STEP = END - timedelta(hours=3)
BEGIN = END - timedelta(hours=6)
CATALOG, CART, DB = "shop/Deployment/catalog", "shop/Deployment/cart", "shop/StatefulSet/db"
SETTINGS = {"window": "3h", "soak": "2h"}


def shop(graviton: Pods | None = None, **words: Any) -> FakeWeeks:
    """Return a shop, six hours long: since the step three hours ago part of it is on Graviton."""
    weeks = FakeWeeks([(BEGIN, END)], **words)
    for workload in (CATALOG, CART):
        weeks.run(workload, BEGIN, STEP, x86=Pods(4))
    weeks.run(CATALOG, STEP, END, x86=Pods(2), graviton=graviton or Pods(2))
    weeks.run(CART, STEP, END, x86=Pods(2), graviton=Pods(2))
    weeks.run(DB, BEGIN, END, x86=Pods(2, rps=None), graviton=Pods(1, rps=None))
    return weeks
