"""What a cluster's Prometheus would have scraped in some hours or weeks, made up and served by a real one.

    weeks = FakeWeeks([(begin, end)])
    weeks.run("shop/Deployment/catalog", begin, end, x86=Pods(4), graviton=Pods(2, latency_p95=0.3))
    with weeks.serve(tmp_path) as prometheus:
        ...prometheus.url

Pods are what ``run`` says from then to then; the same workload may run again, for another time, with other
pods: its former ones are then gone. ``spans`` are the times that have samples, so that four weeks need not be
four weeks of samples.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.gate.prometheus import Server, backfill, serve

Change = Callable[[str, dict[str, str], float, float], tuple[float, float] | None]
"""Metric, labels, time and value to the time and value that are kept; None drops the sample."""

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NODES = {"amd64": "x86", "arm64": "graviton"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Pods:
    """Pods of one side and how they do.

    Attributes:
        count: How many.
        rps: Requests a second of each; None without metrics of its own.
        latency_p95: Seconds; latencies are distributed exponentially.
        errors: Share of requests that fail.
        restarts: Of each in a day.
        oom: Whether these are kills for want of memory.
        throttled: Share of periods; None without a CPU limit.
        memory: Bytes of each.
        cpu: Cores of each.
        resets: Its counters start again in the middle of its life.
    """

    count: int
    rps: float | None = 2.0
    latency_p95: float = 0.2
    errors: float = 0.001
    restarts: float = 0.0
    oom: bool = False
    throttled: float | None = 0.02
    memory: float = 200 * 1024**2
    cpu: float = 0.2
    resets: bool = False


@dataclass(frozen=True)
class _Pod:
    labels: dict[str, str]
    node: str
    begin: float
    end: float
    does: Pods
    creator: tuple[str, str]
    uid: str


@dataclass
class FakeWeeks:
    """A cluster's series.

    Attributes:
        spans: (begin, end) of the times that have samples.
        every: Time between two samples.
        replicas: Of kube-state-metrics, each of which exports everything.
        arch_label: Whether kube-state-metrics may export the nodes' label.
        kernels: Whether the nodes' kernels tell the architecture.
        labels: Of every series, such as the cluster's.
        changes: Applied to every sample, in order.
    """

    spans: Sequence[tuple[datetime, datetime]]
    every: timedelta = timedelta(minutes=2)
    replicas: int = 2
    arch_label: bool = True
    kernels: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    _pods: list[_Pod] = field(default_factory=list)
    _replicasets: dict[tuple[str, str], str] = field(default_factory=dict)

    def run(
        self,
        workload: str,
        begin: datetime,
        end: datetime,
        x86: Pods | None = None,
        graviton: Pods | None = None,
    ) -> None:
        """Run a workload's pods (``namespace/Kind/name``) for a time."""
        namespace, kind, name = workload.split("/")
        generation = len(self._pods)
        creator = (kind, name)
        if kind == "Deployment":
            creator = ("ReplicaSet", f"{name}-{generation}abc")
            self._replicasets[namespace, creator[1]] = name
        number = 0
        for arch, side in (("amd64", x86), ("arm64", graviton)):
            for index in range(side.count if side else 0):
                assert side is not None
                pod = f"{creator[1]}-{number}"
                self._pods.append(
                    _Pod(
                        labels={"namespace": namespace, "pod": pod},
                        node=f"{_NODES[arch]}-{index % 2}",
                        begin=begin.timestamp(),
                        end=end.timestamp(),
                        does=side,
                        creator=creator,
                        uid=f"{namespace}-{pod}-{generation}",
                    )
                )
                number += 1

    @contextlib.contextmanager
    def serve(self, folder: Path, *more: FakeWeeks) -> Iterator[Server]:
        """A running Prometheus that has all of this, and perhaps other clusters' series."""
        data = folder / "prometheus"
        data.mkdir()
        text = folder / "samples.txt"
        for weeks in (self, *more):
            for begin, end in weeks.spans:
                with text.open("w") as file:
                    file.writelines(weeks._lines(begin.timestamp(), end.timestamp()))
                    file.write("# EOF\n")
                backfill(data, text)
        text.unlink()
        with serve(data) as server:
            yield server

    def _lines(self, begin: float, end: float) -> Iterator[str]:
        step = self.every.total_seconds()
        times = [begin + step * index for index in range(int((end - begin) / step) + 1)]
        for metric, labels, first, last, value in self._series():
            written = ",".join(f'{name}="{text}"' for name, text in {**labels, **self.labels}.items())
            for moment in times:
                if not first <= moment <= last:
                    continue
                kept: tuple[float, float] | None = (moment, value(moment))
                for change in self.changes:
                    kept = change(metric, labels, *kept) if kept else None
                if kept:
                    number = "NaN" if math.isnan(kept[1]) else repr(kept[1]).replace("inf", "Inf")
                    yield f"{metric}{{{written}}} {number} {kept[0]:.3f}\n"

    def _series(self) -> Iterator[tuple[str, dict[str, str], float, float, Callable[[float], float]]]:
        for pod in self._pods:
            yield from self._of_containers(pod)
            if pod.does.rps is not None:
                yield from self._of_the_application(pod, pod.does.rps)
        for replica in range(self.replicas):
            for metric, labels, first, last, value in self._of_kube_state_metrics():
                yield metric, {**labels, "instance": f"10.0.0.{replica}:8080"}, first, last, value

    def _of_kube_state_metrics(
        self,
    ) -> Iterator[tuple[str, dict[str, str], float, float, Callable[[float], float]]]:
        for arch, side in _NODES.items():
            for index in range(2):
                node = f"{side}-{index}"
                kernel = f"6.1.102.amzn2023.{_MACHINES[arch]}" if self.kernels else "6.1.102"
                shown = {"label_kubernetes_io_arch": arch} if self.arch_label else {}
                yield "kube_node_info", {"node": node, "kernel_version": kernel}, 0, math.inf, _one
                yield "kube_node_labels", {"node": node, **shown}, 0, math.inf, _one
        for (namespace, replicaset), name in self._replicasets.items():
            lives = [pod for pod in self._pods if pod.creator == ("ReplicaSet", replicaset)]
            labels = {
                "namespace": namespace,
                "replicaset": replicaset,
                "owner_kind": "Deployment",
                "owner_name": name,
            }
            yield (
                "kube_replicaset_owner",
                labels,
                min(pod.begin for pod in lives),
                max(pod.end for pod in lives),
                _one,
            )
        for pod in self._pods:
            known = {**pod.labels, "uid": pod.uid}
            kind, name = pod.creator
            info = {**known, "node": pod.node, "created_by_kind": kind, "created_by_name": name}
            container = {**known, "container": "app"}
            yield "kube_pod_info", info, pod.begin, pod.end, _one
            yield "kube_pod_status_phase", {**known, "phase": "Running"}, pod.begin, pod.end, _one
            restarts = _whole(_counter(pod.begin, pod.does.restarts / 86400))
            yield "kube_pod_container_status_restarts_total", container, pod.begin, pod.end, restarts
            if pod.does.oom:
                reason = {**container, "reason": "OOMKilled"}
                metric = "kube_pod_container_status_last_terminated_reason"
                yield metric, reason, pod.begin, pod.end, _one

    def _of_containers(
        self, pod: _Pod
    ) -> Iterator[tuple[str, dict[str, str], float, float, Callable[[float], float]]]:
        does, labels = pod.does, {**pod.labels, "container": "app", "image": "shop/app"}
        reset = (pod.begin + pod.end) / 2 if does.resets else None
        counters = {"container_cpu_usage_seconds_total": does.cpu}
        if does.throttled is not None:
            counters["container_cpu_cfs_periods_total"] = 10.0
            counters["container_cpu_cfs_throttled_periods_total"] = 10.0 * does.throttled
        for metric, rate in counters.items():
            yield metric, labels, pod.begin, pod.end, _counter(pod.begin, rate, reset)
        yield "container_memory_working_set_bytes", labels, pod.begin, pod.end, lambda _: does.memory

    def _of_the_application(
        self, pod: _Pod, rps: float
    ) -> Iterator[tuple[str, dict[str, str], float, float, Callable[[float], float]]]:
        does, labels = pod.does, pod.labels
        reset = (pod.begin + pod.end) / 2 if does.resets else None

        def counter(rate: float) -> Callable[[float], float]:
            return _counter(pod.begin, rate, reset)

        for code, share in (("200", 1 - does.errors), ("503", does.errors)):
            yield "http_requests_total", {**labels, "code": code}, pod.begin, pod.end, counter(rps * share)
        for bound in (*_BUCKETS, math.inf):
            # Exponential: 1 - exp(-3) is 0.95.
            share = 1 - math.exp(-3 * bound / does.latency_p95)
            le = "+Inf" if math.isinf(bound) else str(bound)
            metric = "http_request_duration_seconds_bucket"
            yield metric, {**labels, "le": le}, pod.begin, pod.end, counter(rps * share)


def _one(_: float) -> float:
    return 1.0


def _whole(count: Callable[[float], float]) -> Callable[[float], float]:
    return lambda moment: float(int(count(moment)))


def _counter(begin: float, rate: float, reset: float | None = None) -> Callable[[float], float]:
    def value(moment: float) -> float:
        return rate * (moment - (reset if reset and moment >= reset else begin))

    return value
