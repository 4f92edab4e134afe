"""The gate on a real Prometheus, whose data are some hours of a made-up cluster."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archshift.cli.commands.gate import Gate, ask
from archshift.ramp.measurement import Measurer
from archshift.ramp.prometheus import Prometheus
from archshift.ramp.promql import Expressions
from archshift.settings.stack import load
from tests.gate.prometheus import serve
from tests.gate.shop import BEGIN, CART, CATALOG, END, SETTINGS, STEP, shop
from tests.gate.weeks import FakeWeeks, Pods

Series = tuple[str, dict[str, str], float, float, Callable[[float], float]]


def judged(
    url: str, at: datetime = END, since: datetime | None = STEP, ratio: str = "0.5", **gate: Any
) -> Gate:
    config = {
        "archshift:arm_ratio": ratio,
        "archshift:gate": json.dumps({"prometheus": url, **SETTINGS, **gate}),
    }
    return ask(load("prod", config), at=at, since=since, environment={})


def judged_of(weeks: FakeWeeks, folder: Path, **words: Any) -> Gate:
    """Serve the data and ask the gate."""
    with weeks.serve(folder) as prometheus:
        return judged(prometheus.url, **words)


def verdicts(gate: Gate) -> Mapping[str, str]:
    return {one.workload: one.verdict for one in gate.verdict.workloads}


def figures(gate: Gate, workload: str) -> Mapping[str, Any]:
    """Return a workload's figures by name."""
    row = next(one for one in gate.verdict.workloads if one.workload == workload)
    return {one.figure: one for one in row.figures}


def on_graviton(labels: Mapping[str, str]) -> bool:
    """Say whether a series is of a pod that the step brought to Graviton: its last ones."""
    return labels.get("pod", "").rsplit("-", 1)[-1] in ("2", "3") and "abc" in labels.get("pod", "")


def test_passes_where_both_sides_do_the_same_with_two_replicas_of_everything(tmp_path: Path) -> None:
    """The figures are what the pods did: each counted once, on its side."""
    gate = judged_of(shop(), tmp_path)
    assert gate.verdict.verdict == "pass", gate.verdict.reasons
    assert gate.verdict.reasons == ["3 workloads do as well on Graviton as on x86"]
    found = figures(gate, CATALOG)
    assert found["error_ratio"].graviton == pytest.approx(0.001, rel=0.01)
    assert found["cpu_throttling"].graviton == pytest.approx(0.02, rel=0.01)
    assert found["memory"].graviton == 200 * 1024**2
    assert 0.1 < found["latency_p95"].graviton < 0.25, "within the bucket of 200 ms"
    row = next(one for one in gate.verdict.workloads if one.workload == CATALOG)
    assert (row.graviton_pods, row.pods, row.against) == (2, 4, "x86")
    assert row.pod_hours == pytest.approx(6, rel=0.05)


def test_a_regression_holds_and_a_recovery_goes_on(tmp_path: Path) -> None:
    """Two weeks of a ramp in short: a slow release, then the next."""
    weeks = FakeWeeks([(BEGIN, END)])
    weeks.run(CART, BEGIN, END, x86=Pods(4), graviton=Pods(4))
    weeks.run(CATALOG, BEGIN, STEP, x86=Pods(2), graviton=Pods(2, latency_p95=0.4))
    weeks.run(CATALOG, STEP, END, x86=Pods(2), graviton=Pods(2))
    with weeks.serve(tmp_path) as prometheus:
        slow = judged(prometheus.url, at=STEP, since=BEGIN, step_back_share=0.5)
        again = judged(prometheus.url, since=BEGIN)
    assert slow.verdict.verdict == "hold"
    assert verdicts(slow) == {CATALOG: "step-back", CART: "pass"}
    assert slow.verdict.reasons[0].startswith(f"{CATALOG}: p95 latency ")
    assert slow.verdict.reasons[1].endswith(f"archshift:workloads.overrides {CATALOG}: {{max_ratio: 0}}")
    assert again.verdict.verdict == "pass", again.verdict.reasons


def test_a_bad_step_steps_back(tmp_path: Path) -> None:
    """Requests fail where they did not on x86."""
    gate = judged_of(shop(graviton=Pods(2, errors=0.3)), tmp_path)
    assert gate.verdict.verdict == "step-back"
    assert gate.verdict.reasons == [
        "40% of the pods on Graviton belong to workloads that do much worse there",
        f"{CATALOG}: errors 30.00% on Graviton, 0.10% on x86; up to 0.60% passes",
    ]


def test_pods_that_crash_and_serve_nothing_are_bad_and_not_merely_unknown(tmp_path: Path) -> None:
    """A crash loop has no latency; its restarts, killed for want of memory, say enough."""
    gate = judged_of(shop(graviton=Pods(2, rps=None, restarts=96.0, oom=True)), tmp_path)
    assert gate.verdict.verdict == "step-back"
    found = figures(gate, CATALOG)
    assert found["latency_p95"].verdict == "unknown"
    assert found["restarts"].graviton == pytest.approx(96, rel=0.05)
    assert found["oom_kills"].graviton == pytest.approx(96, rel=0.05)
    assert found["restarts"].base == 0


def test_pods_that_all_moved_are_compared_with_what_x86_did_before(tmp_path: Path) -> None:
    """Singletons, and a StatefulSet whose pod took its name along."""
    weeks = shop()
    for workload in ("shop/Deployment/single", "shop/StatefulSet/queue"):
        weeks.run(workload, BEGIN, STEP, x86=Pods(1, latency_p95=0.1))
        weeks.run(workload, STEP + timedelta(minutes=4), END, graviton=Pods(1, latency_p95=0.2))
    gate = judged_of(weeks, tmp_path)
    found = {one.workload: (one.verdict, one.against) for one in gate.verdict.workloads}
    assert found["shop/Deployment/single"] == ("step-back", "x86 before the step")
    assert found["shop/StatefulSet/queue"] == ("step-back", "x86 before the step")
    assert found[CATALOG] == ("pass", "x86")


def test_what_is_new_since_the_step_holds_nobody(tmp_path: Path) -> None:
    """Prometheus saw that it was not there; there is nothing to compare it with."""
    weeks = shop()
    weeks.run("shop/Deployment/new", STEP + timedelta(minutes=30), END, graviton=Pods(1, restarts=200))
    gate = judged_of(weeks, tmp_path)
    assert verdicts(gate)["shop/Deployment/new"] == "skipped"
    assert gate.verdict.verdict == "pass", gate.verdict.reasons


def test_counters_that_start_again_change_nothing(tmp_path: Path) -> None:
    """Containers that are replaced begin at zero."""
    gate = judged_of(shop(graviton=Pods(2, resets=True)), tmp_path)
    assert gate.verdict.verdict == "pass", gate.verdict.reasons
    assert figures(gate, CATALOG)["error_ratio"].graviton == pytest.approx(0.001, rel=0.1)


def test_without_a_sign_of_the_nodes_architecture_the_way_out_is_named(tmp_path: Path) -> None:
    """kube-state-metrics as it is installed exports no label of a node."""
    gate = judged_of(shop(arch_label=False), tmp_path)
    assert gate.verdict.verdict == "unknown"
    assert gate.verdict.reasons == [
        "the architecture of 100% of the pods is unknown; give kube-state-metrics "
        "--metric-labels-allowlist=nodes=[kubernetes.io/arch] (docs/monitoring.md has other ways)"
    ]


def test_amazon_linux_tells_the_architecture_by_its_kernel(tmp_path: Path) -> None:
    """Then no flag of kube-state-metrics is needed."""
    gate = judged_of(shop(arch_label=False, kernels=True), tmp_path)
    assert gate.verdict.verdict == "pass", gate.verdict.reasons


def test_prometheus_that_is_down_is_unknown(tmp_path: Path) -> None:
    """A sentence with the address, and the way out."""
    with serve(tmp_path) as prometheus:
        prometheus.stop()
        gate = judged(prometheus.url)
    assert gate.verdict.verdict == "unknown"
    (reason,) = gate.verdict.reasons
    assert reason.startswith(f"{prometheus.url} cannot be reached: ")
    assert reason.endswith("; check archshift:gate.prometheus and your network")


def test_a_prometheus_without_data_is_unknown(tmp_path: Path) -> None:
    """It is up and scrapes nothing of this cluster."""
    with serve(tmp_path) as prometheus:
        gate = judged(prometheus.url)
        before_the_first_step = judged(prometheus.url, ratio="0.0")
    assert gate.verdict.verdict == "unknown"
    assert gate.verdict.reasons == [
        "there is no kube_pod_info of the workloads from 2026-03-10T09:00+00:00 to 2026-03-10T12:00+00:00; "
        "check that this Prometheus scraped kube-state-metrics then"
    ]
    assert before_the_first_step.verdict.verdict == "unknown", "no data is not no pods"


def test_before_the_first_step_nothing_can_be_worse(tmp_path: Path) -> None:
    """At ratio 0 Prometheus has to see all pods on x86, and then the first step may be taken."""
    weeks = FakeWeeks([(BEGIN, END)])
    weeks.run(CATALOG, BEGIN, END, x86=Pods(4))
    with weeks.serve(tmp_path) as prometheus:
        assert judged(prometheus.url, ratio="0.0").verdict.verdict == "pass"
        gate = judged(prometheus.url)
    assert gate.verdict.reasons == [
        "Prometheus saw pods on Graviton for only 0% of the time from 2026-03-10T09:00+00:00 to "
        "2026-03-10T12:00+00:00; run archshift status to see whether there are any"
    ]
    assert gate.verdict.verdict == "unknown"


def test_applications_measured_on_x86_alone_are_unknown(tmp_path: Path) -> None:
    """The Graviton pods are there and their exporter is not."""

    def lose(metric: str, labels: dict[str, str], at: float, value: float) -> tuple[float, float] | None:
        return None if metric.startswith("http") and on_graviton(labels) else (at, value)

    gate = judged_of(shop(changes=[lose]), tmp_path)
    assert gate.verdict.verdict == "unknown"
    assert gate.verdict.reasons == [
        f"{CART}, {CATALOG}: p95 latency is measured on x86, but not on Graviton",
        f"{CART}, {CATALOG}: errors is measured on x86, but not on Graviton",
    ]


@pytest.mark.parametrize("shift", [timedelta(hours=1.5), timedelta(hours=-1.5)], ids=["future", "past"])
def test_samples_of_another_clock_are_unknown(tmp_path: Path, shift: timedelta) -> None:
    """An exporter that stamps its samples by a wrong clock measures part of the time."""

    def shifted(metric: str, labels: dict[str, str], at: float, value: float) -> tuple[float, float]:
        wrong = metric.startswith("http") and on_graviton(labels)
        return (at + shift.total_seconds() if wrong else at), value

    weeks = shop(changes=[shifted])
    gate = judged_of(weeks, tmp_path)
    assert gate.verdict.verdict == "unknown"
    assert all("on Graviton is measured for only " in reason for reason in gate.verdict.reasons), (
        gate.verdict.reasons
    )


def test_data_that_ended_is_unknown(tmp_path: Path) -> None:
    """Prometheus answers, and has scraped nothing for half an hour."""
    with shop().serve(tmp_path) as prometheus:
        late = judged(prometheus.url, at=END + timedelta(minutes=32))
        later = judged(prometheus.url, at=END + timedelta(hours=2))
    assert (late.verdict.verdict, later.verdict.verdict) == ("unknown", "unknown")
    assert late.verdict.reasons == [
        "the newest data about pods in Prometheus is 30 minutes old; check that it still scrapes "
        "kube-state-metrics"
    ]
    assert later.verdict.reasons[0].startswith("only 3")


@pytest.mark.parametrize("nonsense", [math.nan, math.inf])
def test_what_is_no_number_is_unknown(tmp_path: Path, nonsense: float) -> None:
    """One pod that exports NaN or Inf spoils its side's figure, and it does not pass."""

    def spoil(metric: str, labels: dict[str, str], at: float, value: float) -> tuple[float, float]:
        bad = metric.startswith("http_requests") and on_graviton(labels) and "catalog" in labels["pod"]
        return at, nonsense if bad else value

    gate = judged_of(shop(changes=[spoil]), tmp_path)
    assert gate.verdict.verdict == "unknown"
    assert gate.verdict.reasons == [f"{CATALOG}: errors on Graviton is not a number"]


def test_a_latency_beyond_the_last_bucket_is_at_least_that(tmp_path: Path) -> None:
    """Prometheus answers the last bucket's bound for it: on both sides the same."""
    weeks = FakeWeeks([(BEGIN, END)])
    weeks.run(CATALOG, BEGIN, END, x86=Pods(2, latency_p95=15.0), graviton=Pods(2, latency_p95=60.0))
    gate = judged_of(weeks, tmp_path)
    assert gate.verdict.reasons == [
        f"{CATALOG}: p95 latency on Graviton is beyond the histogram's last bucket; give the "
        "histogram larger buckets"
    ]


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (
            {"latency": "rpc_seconds"},
            "no pod has rpc_seconds_bucket (with the labels namespace and pod); name the metric as "
            'archshift:gate.metrics.latency, or "" if there is none',
        ),
        (
            {"requests": "rpc_total"},
            "no pod has rpc_total (with the labels namespace and pod); name the metric as "
            'archshift:gate.metrics.requests, or "" if there is none',
        ),
        (
            {"errors": 'status=~"5.."'},
            "no series of http_requests_total has the label status; set archshift:gate.metrics.errors to "
            "a matcher of failed requests",
        ),
    ],
)
def test_metrics_that_nobody_has_are_unknown(tmp_path: Path, metrics: dict[str, str], reason: str) -> None:
    """A name with a slip in it must not read as no errors."""
    gate = judged_of(shop(), tmp_path, metrics=metrics)
    assert (gate.verdict.verdict, gate.verdict.reasons) == ("unknown", [reason])


def test_workloads_without_metrics_of_their_own_pass_by_what_every_pod_has(tmp_path: Path) -> None:
    """Said with "", for a cluster whose applications measure nothing."""
    gate = judged_of(shop(graviton=Pods(2, errors=0.9)), tmp_path, metrics={"latency": "", "requests": ""})
    assert gate.verdict.verdict == "pass", gate.verdict.reasons
    assert "error_ratio" not in figures(gate, CATALOG)


def test_another_cluster_in_the_same_prometheus_is_left_out_by_the_selector(tmp_path: Path) -> None:
    """Clusters have the same names of pods: the selector keeps one's figures clean of the other's."""
    here, there = shop(), shop(graviton=Pods(2, errors=0.9))
    here.labels, there.labels = {"cluster": "prod"}, {"cluster": "dev"}
    with here.serve(tmp_path, there) as prometheus:
        prod = judged(prometheus.url, selector='cluster="prod"')
        dev = judged(prometheus.url, selector='cluster="dev"')
        none = judged(prometheus.url, selector='cluster="test"')
    assert prod.verdict.verdict == "pass", prod.verdict.reasons
    assert dev.verdict.verdict == "step-back"
    assert none.verdict.reasons[0].startswith("there is no kube_pod_info")


def test_the_clock_of_prometheus_has_to_be_ours(tmp_path: Path) -> None:
    """A machine whose clock is ten minutes off would ask for another time than it means."""
    with serve(tmp_path) as server, Prometheus(server.url) as prometheus:
        meter = Measurer(prometheus, Expressions())
        now = datetime.now(UTC)
        assert meter.clock_problem(now, now) is None
        behind = str(meter.clock_problem(now, now + timedelta(minutes=10)))
        assert behind.startswith("Prometheus' clock is ")
        assert behind.endswith(" s behind this machine's; set both clocks by NTP")
        assert "ahead of this machine's" in str(meter.clock_problem(now, now - timedelta(minutes=10)))
        future = str(meter.clock_problem(now + timedelta(hours=1), None))
        assert future.endswith(" is in Prometheus' future; give a time in the past")


class ForgedOwners(FakeWeeks):
    """Series of somebody whose targets Prometheus lets choose their labels."""

    def __init__(self, real: FakeWeeks) -> None:
        super().__init__([(BEGIN, END)])
        self._real = real

    def _series(self) -> Iterator[Series]:
        series = {
            (metric, frozenset(labels.items())): one
            for one in self._forged()
            for metric, labels, *_ in (one,)
        }
        # Both replicas of kube-state-metrics export a pod, and what is forged from it is one series.
        yield from series.values()

    def _forged(self) -> Iterator[Series]:
        for metric, labels, first, last, value in self._real._series():
            if metric == "kube_replicaset_owner" and labels["owner_name"] == "catalog":
                yield metric, {**labels, "owner_name": "nobody", "instance": "10.9.9.9"}, first, last, value
            if metric == "kube_pod_info":
                owner = {"owner_name": "nobody", "owner_kind": "StatefulSet", "instance": "10.9.9.9"}
                yield "kube_pod_owner", {**labels, **owner}, first, last, value
                creator = {"created_by_name": "nobody", "created_by_kind": "StatefulSet"}
                yield metric, {**labels, **creator, "instance": "10.9.9.9"}, first, last, value


def test_forged_owners_of_pods_do_not_let_a_bad_step_pass(tmp_path: Path) -> None:
    """The bad pods may belong to nobody then, or the query fails; neither is a pass."""
    weeks = shop(graviton=Pods(2, errors=0.3))
    with weeks.serve(tmp_path, ForgedOwners(weeks)) as prometheus:
        gate = judged(prometheus.url)
    assert gate.verdict.verdict in ("unknown", "hold", "step-back"), gate.verdict.reasons
