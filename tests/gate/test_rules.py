"""The rules, as a real promtool checks and evaluates them on series such as a cluster's Prometheus has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from archshift.ramp.monitoring_rules import PlannedFleet, as_text, rules
from archshift.ramp.promql import AppMetrics
from tests.gate.prometheus import check_rules, test_rules

FLEET = PlannedFleet(workloads=["shop/Deployment/catalog", "shop/StatefulSet/db.main"], wanted=0.5)


def ksm(metric: str, labels: str, values: str, replicas: Iterable[int] = (0, 1)) -> list[dict[str, str]]:
    """Return a series as replicas of kube-state-metrics export it: once each."""
    return [
        {"series": f'{metric}{{{labels}, instance="10.0.0.{replica}:8080"}}', "values": values}
        for replica in replicas
    ]


def node(name: str, arch: str, values: str = "1x90") -> list[dict[str, str]]:
    """Return a node's series, its label among them where ``arch`` says one."""
    label = f', label_kubernetes_io_arch="{arch}"' if arch else ""
    return [
        *ksm("kube_node_info", f'node="{name}", kernel_version="6.1.102"', values),
        *ksm("kube_node_labels", f'node="{name}"{label}', values),
    ]


def pod(name: str, on: str, values: str = "1x90", uid: str = "") -> list[dict[str, str]]:
    """Return a pod's series: of the Deployment catalog, or of the StatefulSet db.main."""
    kind, creator = ("StatefulSet", "db.main") if name.startswith("db") else ("ReplicaSet", "catalog-7d9")
    known = f'namespace="shop", pod="{name}", uid="{uid or name}"'
    return [
        *ksm(
            "kube_pod_info",
            f'{known}, node="{on}", created_by_kind="{kind}", created_by_name="{creator}"',
            values,
        ),
        *ksm("kube_pod_status_phase", f'{known}, phase="Running"', values),
        *ksm("kube_pod_status_phase", f'{known}, phase="Failed"', values.replace("1", "0", 1)),
    ]


OWNER = ksm(
    "kube_replicaset_owner",
    'namespace="shop", replicaset="catalog-7d9", owner_kind="Deployment", owner_name="catalog"',
    "1x90",
)
CLUSTER = [
    *node("a", "arm64"),
    *node("x", "amd64"),
    *OWNER,
    *pod("catalog-7d9-1", "a"),
    *pod("catalog-7d9-2", "x"),
]


def app(metric: str, pod_name: str, values: str, more: str = "") -> dict[str, str]:
    """Return a series of an application or a container."""
    return {"series": f'{metric}{{namespace="shop", pod="{pod_name}"{more}}}', "values": values}


def expected(expression: str, when: str, *samples: tuple[str, float]) -> dict[str, Any]:
    """Return an expectation: the labels and values of an expression at a time."""
    return {
        "expr": expression,
        "eval_time": when,
        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
    }


def of(record: str, arch: str, workload: str = "shop/Deployment/catalog", more: str = "") -> str:
    """Return the labels of a recorded series."""
    return f'{record}{{namespace="shop", workload="{workload}", arch="{arch}"{more}}}'


def evaluate(folder: Path, series: list[dict[str, str]], *expectations: dict[str, Any], **more: Any) -> None:
    """Load the rules on series of one sample a minute, and hold them against the expectations."""
    content = as_text(rules(namespaces=["shop"], fleet=FLEET))
    test = {"interval": "1m", "input_series": series, "promql_expr_test": list(expectations), **more}
    test_rules(folder, content, [test])


@pytest.mark.parametrize(
    "metrics",
    [AppMetrics(), AppMetrics(latency=""), AppMetrics(requests=""), AppMetrics(errors='status!~"2.."')],
)
def test_promtool_accepts_them_whatever_the_applications_measure(tmp_path: Path, metrics: AppMetrics) -> None:
    """Every text that the settings can lead to is one that Prometheus loads."""
    check_rules(tmp_path, as_text(rules(metrics=metrics)))
    check_rules(tmp_path, as_text(rules(namespaces=["shop", "web"], metrics=metrics, fleet=FLEET)))


def test_two_replicas_of_kube_state_metrics_do_not_break_the_joins(tmp_path: Path) -> None:
    """Each pod is counted once, on its architecture, and its metrics with it."""
    known = 'namespace="shop", pod="catalog-7d9-1", uid="catalog-7d9-1", container="app"'
    series = [
        *CLUSTER,
        *pod("catalog-7d9-3", "x"),
        app("http_requests_total", "catalog-7d9-1", "0+120x90", ', code="200"'),
        app("http_requests_total", "catalog-7d9-1", "0+6x90", ', code="500"'),
        app("http_requests_total", "catalog-7d9-2", "0+60x90", ', code="200"'),
        app("http_requests_total", "catalog-7d9-3", "0+60x90", ', code="200"'),
        *ksm("kube_pod_container_status_restarts_total", known, "0x19 1x70"),
    ]
    pods, requests, errors, restarts = (
        f"archshift:workload_{name}"
        for name in ("pods", "requests:rate5m", "errors:rate5m", "restarts:increase5m")
    )
    pod_arch = "archshift:pod_arch"
    evaluate(
        tmp_path,
        series,
        expected(pods, "30m", (of(pods, "arm64"), 1), (of(pods, "amd64"), 2)),
        expected(requests, "30m", (of(requests, "arm64"), 2.1), (of(requests, "amd64"), 2)),
        expected(errors, "30m", (of(errors, "arm64"), 0.1)),
        expected(f"max_over_time({restarts}[30m])", "30m", (of("", "arm64"), 1)),
        expected(
            'archshift:pod_arch{arch="arm64"}',
            "30m",
            (of(pod_arch, "arm64", more=', pod="catalog-7d9-1"'), 1),
        ),
    )


def test_a_pod_that_moved_counts_where_it_was_at_the_time(tmp_path: Path) -> None:
    """A StatefulSet's pod keeps its name: its work before counts for x86, its work after for Graviton."""
    series = [
        *node("a", "arm64"),
        *node("x", "amd64"),
        *pod("db.main-0", "x", "1x40 stale", uid="old"),
        *pod("db.main-0", "a", "_x41 1x40", uid="new"),
        # One replica of kube-state-metrics sees the change a minute later.
        *ksm(
            "kube_pod_info",
            'namespace="shop", pod="db.main-0", uid="old", node="x", created_by_kind="StatefulSet", '
            'created_by_name="db.main"',
            "1x41 stale",
            replicas=[2],
        ),
        *ksm(
            "kube_pod_status_phase",
            'namespace="shop", pod="db.main-0", uid="old", phase="Running"',
            "1x41 stale",
            replicas=[2],
        ),
        app("container_cpu_usage_seconds_total", "db.main-0", "0+60x40 stale", ', container="db", node="x"'),
        app("container_cpu_usage_seconds_total", "db.main-0", "_x41 0+30x40", ', container="db", node="a"'),
    ]
    cpu = "archshift:workload_cpu_cores:rate5m"
    key = "shop/StatefulSet/db.main"
    evaluate(
        tmp_path,
        series,
        expected(cpu, "40m", (of(cpu, "amd64", key), 1)),
        expected(cpu, "60m", (of(cpu, "arm64", key), 0.5)),
        # Whichever it is for a minute: it is one, and no error of the rule.
        expected("count(archshift:pod_arch)", "41m", ("{}", 1)),
    )


def test_counters_that_start_again_are_no_negative_rates(tmp_path: Path) -> None:
    """A container that restarts begins at zero; its rate goes on."""
    series = [*CLUSTER, app("http_requests_total", "catalog-7d9-1", "0+60x30 0+60x30", ', code="200"')]
    requests = "archshift:workload_requests:rate5m"
    evaluate(
        tmp_path,
        series,
        # Of five minutes' increases one is lost with the reset.
        expected(f"round({requests}, 0.1)", "33m", (of("", "arm64"), 0.8)),
        expected(requests, "50m", (of(requests, "arm64"), 1)),
    )


def test_a_finished_pod_and_what_no_controller_of_ours_owns_do_not_count(tmp_path: Path) -> None:
    """An evicted pod's metrics of its info stay for days; a Job's pods are nobody's share."""
    failed = 'namespace="shop", pod="catalog-7d9-9", uid="9"'
    series = [
        *CLUSTER,
        *ksm(
            "kube_pod_info",
            f'{failed}, node="x", created_by_kind="ReplicaSet", created_by_name="catalog-7d9"',
            "1x90",
        ),
        *ksm("kube_pod_status_phase", f'{failed}, phase="Failed"', "1x90"),
        *ksm(
            "kube_pod_info",
            'namespace="shop", pod="job-1", uid="j", node="x", created_by_kind="Job", created_by_name="job"',
            "1x90",
        ),
        *ksm("kube_pod_status_phase", 'namespace="shop", pod="job-1", uid="j", phase="Running"', "1x90"),
    ]
    evaluate(tmp_path, series, expected("sum(archshift:workload_pods)", "30m", ("{}", 2)))


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ("kube_node_info", 'node="{}", kernel_version="6.1.102-111.187.amzn2023.{}"'),
        ("node_uname_info", 'nodename="{}", machine="{}", job="node"'),
    ],
)
def test_without_the_nodes_label_the_kernel_tells(tmp_path: Path, source: str, labels: str) -> None:
    """kube-state-metrics exports no label of a node by default: Amazon Linux and node-exporter tell it."""
    series = [
        *node("a", ""),
        *node("x", ""),
        *ksm(source, labels.format("a", "aarch64"), "1x90"),
        *ksm(source, labels.format("x", "x86_64"), "1x90"),
        *OWNER,
        *pod("catalog-7d9-1", "a"),
    ]
    evaluate(
        tmp_path,
        series,
        expected(
            "archshift:node_arch",
            "30m",
            ('archshift:node_arch{node="a", arch="arm64"}', 1),
            ('archshift:node_arch{node="x", arch="amd64"}', 1),
        ),
        expected("sum by (arch) (archshift:workload_pods)", "30m", ('{arch="arm64"}', 1)),
    )


def test_a_node_that_comes_back_with_another_architecture_breaks_no_rule(tmp_path: Path) -> None:
    """The old series may stand for minutes beside the new one; the node still has one architecture."""
    label = 'node="a", label_kubernetes_io_arch="amd64"'
    series = [*CLUSTER, *ksm("kube_node_labels", label, "1x40 stale", replicas=[2])]
    evaluate(tmp_path, series, expected("count(archshift:pod_arch)", "30m", ("{}", 2)))


def test_the_label_counts_more_than_the_kernel(tmp_path: Path) -> None:
    """A node has one architecture, whatever several sources say."""
    series = [*node("a", "arm64"), *ksm("kube_node_info", 'node="a", kernel_version="6.1.x86_64"', "1x90")]
    evaluate(
        tmp_path,
        series,
        expected("archshift:node_arch", "30m", ('archshift:node_arch{node="a", arch="arm64"}', 1)),
    )


def test_a_node_without_any_sign_of_its_architecture_raises_an_alert(tmp_path: Path) -> None:
    """Pods that are in no figure are said, with the flag that helps."""
    named = {"severity": "warning", "node": "dark"}
    summary = "The architecture of node dark is unknown"
    description = (
        "Give kube-state-metrics --metric-labels-allowlist=nodes=[kubernetes.io/arch]; without it, archshift "
        "does not measure the pods on this node."
    )
    fires = {"exp_labels": named, "exp_annotations": {"summary": summary, "description": description}}
    tests = [
        {"alertname": "ArchshiftNodeArchitectureUnknown", "eval_time": "60m", "exp_alerts": [fires]},
        {"alertname": "ArchshiftNodeArchitectureUnknown", "eval_time": "10m", "exp_alerts": []},
    ]
    evaluate(tmp_path, [*CLUSTER, *node("dark", "")], alert_rule_test=tests)


def test_observed_and_wanted_share_are_of_the_fleet_alone(tmp_path: Path) -> None:
    """A workload that is held or left alone moves no share; none on Graviton is 0, not nothing."""
    held = [
        *ksm(
            "kube_replicaset_owner",
            'namespace="shop", replicaset="held-1", owner_kind="Deployment", owner_name="held"',
            "1x90",
        ),
        *ksm(
            "kube_pod_info",
            'namespace="shop", pod="held-1-a", uid="h", node="x", created_by_kind="ReplicaSet", '
            'created_by_name="held-1"',
            "1x90",
        ),
        *ksm("kube_pod_status_phase", 'namespace="shop", pod="held-1-a", uid="h", phase="Running"', "1x90"),
    ]
    observed, wanted = (f"archshift:fleet_graviton_share:{which}" for which in ("observed", "wanted"))
    evaluate(
        tmp_path,
        [*CLUSTER, *held, *pod("db.main-0", "x"), *pod("db.main-1", "x")],
        expected(observed, "30m", (observed, 0.25)),
        expected(wanted, "30m", (wanted, 0.5)),
    )
    only_x86 = [*node("x", "amd64"), *OWNER, *pod("catalog-7d9-2", "x")]
    evaluate(tmp_path, only_x86, expected(observed, "30m", (observed, 0)))


def measured(name: str, bad: str = "") -> list[dict[str, str]]:
    """Return all series of a pod; ``bad`` is the alert of which it is the reason."""
    container = ', container="app"'
    known = f'namespace="shop", pod="{name}", uid="{name}", container="app"'
    restarts = "0+0x89 1 2" if bad not in ("Restarts", "OomKills") else "0x35 1x5 2x5 3x45"
    fast = 60 if bad == "Latency" else 118
    series = [
        app("container_cpu_usage_seconds_total", name, "0+60x90" if bad == "Cpu" else "0+30x90", container),
        app("container_cpu_cfs_periods_total", name, "0+600x90", container),
        app(
            "container_cpu_cfs_throttled_periods_total",
            name,
            "0+300x90" if bad == "Throttled" else "0+30x90",
            container,
        ),
        app("container_memory_working_set_bytes", name, "8e8x90" if bad == "Memory" else "4e8x90", container),
        app("http_requests_total", name, "0+120x90", ', code="200"'),
        app("http_requests_total", name, "0+12x90" if bad == "Errors" else "0+0x90", ', code="503"'),
        app("http_request_duration_seconds_bucket", name, f"0+{fast}x90", ', le="0.1"'),
        app("http_request_duration_seconds_bucket", name, "0+120x90", ', le="1.0"'),
        app("http_request_duration_seconds_bucket", name, "0+120x90", ', le="+Inf"'),
        *ksm("kube_pod_container_status_restarts_total", known, restarts),
    ]
    if bad == "OomKills":
        reason = f'{known}, reason="OOMKilled"'
        series += ksm("kube_pod_container_status_last_terminated_reason", reason, "0x35 1x55")
    return series


def firing(folder: Path, series: list[dict[str, str]], *fires: str) -> None:
    """Hold which alerts fire at the end of the series, and that no other does."""
    groups = rules(namespaces=["shop"])["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    tests = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
            "eval_time": "90m",
            "exp_samples": [{"labels": "{}", "value": int(name in fires)}],
        }
        for name in alerts
    ]
    evaluate(folder, series, *tests)


def test_two_sides_that_do_the_same_raise_no_alert(tmp_path: Path) -> None:
    """A restart on one side within the last minute, and none before, is no alert either."""
    firing(tmp_path, [*CLUSTER, *measured("catalog-7d9-1"), *measured("catalog-7d9-2")])


@pytest.mark.parametrize("bad", ["Cpu", "Throttled", "Memory", "Latency", "Errors", "Restarts", "OomKills"])
def test_graviton_that_does_worse_raises_the_alert_and_x86_does_not(tmp_path: Path, bad: str) -> None:
    """Each alert speaks of its own figure, and only where Graviton is the worse side."""
    also = {"ArchshiftGravitonRestarts"} if bad == "OomKills" else set()
    worse, well = measured("catalog-7d9-1", bad), measured("catalog-7d9-2")
    firing(tmp_path, [*CLUSTER, *worse, *well], f"ArchshiftGraviton{bad}", *also)
    firing(tmp_path, [*CLUSTER, *measured("catalog-7d9-1"), *measured("catalog-7d9-2", bad)])
