"""Rules and dashboard: what is registered where, and that the dashboard asks for what the rules record."""

import json
import re
from typing import Any

import pytest
import yaml

from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan
from archshift.ramp.monitoring_dashboard import dashboard
from archshift.ramp.monitoring_rules import PlannedFleet, rules
from archshift.ramp.promql import AppMetrics
from components.monitoring import Monitoring, MonitoringArgs
from tests.build import load, patched
from tests.components.recorder import Monitor, record


def registered(operator: bool, plan: Plan | None = None, **gate: Any) -> Monitor:
    settings = load(monitoring={"namespace": "monitoring", "labels": {"release": "prometheus"}}).monitoring
    assert settings
    chosen = settings

    def program() -> None:
        Monitoring(
            "monitoring",
            MonitoringArgs(
                settings=chosen,
                namespaces=("shop",),
                gate=load(gate=gate).gate,
                plan=plan or Plan(arm_ratio=0.5, workloads=(patched("Deployment", "cart"),)),
                operator=operator,
            ),
        )

    return record(program)


def test_the_operator_gets_a_prometheus_rule_with_the_labels_that_it_selects_by() -> None:
    """The groups are the object's spec; the plan's wanted share and its workloads are in them."""
    monitor = registered(operator=True)
    (rule,) = monitor.of("kubernetes:monitoring.coreos.com/v1:PrometheusRule")
    assert rule.parent == "monitoring"
    assert rule.inputs["metadata"] == {
        "name": "archshift-rules",
        "namespace": "monitoring",
        "labels": {"release": "prometheus", "app.kubernetes.io/managed-by": "archshift"},
    }
    groups = {group["name"]: group["rules"] for group in rule.inputs["spec"]["groups"]}
    assert list(groups) == ["archshift.workloads", "archshift.fleet", "archshift.alerts"]
    fleet = {entry.get("record", entry.get("alert")): entry["expr"] for entry in groups["archshift.fleet"]}
    assert fleet["archshift:fleet_graviton_share:wanted"] == "vector(1)"
    assert 'workload=~"shop/Deployment/cart"' in fleet["archshift:fleet_pods"]


def test_without_the_operator_the_same_rules_are_a_file_in_a_config_map() -> None:
    """For a Prometheus that mounts it."""
    monitor = registered(operator=False)
    maps = {one.name: one.inputs for one in monitor.of("kubernetes:core/v1:ConfigMap")}
    content = yaml.safe_load(maps["archshift-rules"]["data"]["archshift.rules.yaml"])
    (rule,) = registered(operator=True).of("kubernetes:monitoring.coreos.com/v1:PrometheusRule")
    assert content == rule.inputs["spec"]


def test_the_dashboard_has_the_label_that_grafanas_sidecar_looks_for() -> None:
    """And is one that Grafana parses."""
    monitor = registered(operator=True)
    (found,) = monitor.of("kubernetes:core/v1:ConfigMap")
    assert found.inputs["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found.inputs["data"]["archshift.json"])["uid"] == "archshift"


def test_the_gates_metrics_and_tolerances_are_the_rules() -> None:
    """What holds the ramp is what raises the alert."""
    monitor = registered(
        operator=True,
        metrics={"latency": "rpc_seconds", "requests": ""},
        tolerances={"latency_p95": {"hold": 0.3}},
    )
    (rule,) = monitor.of("kubernetes:monitoring.coreos.com/v1:PrometheusRule")
    text = json.dumps(rule.inputs["spec"])
    assert "rpc_seconds_bucket" in text
    assert "http_requests_total" not in text
    assert "1.3 * archshift:workload_latency_p95_seconds:rate5m" in text


def test_a_fleet_without_pods_has_no_share() -> None:
    """Nothing is divided by none of them."""
    monitor = registered(operator=True, plan=Plan(arm_ratio=0.5))
    (rule,) = monitor.of("kubernetes:monitoring.coreos.com/v1:PrometheusRule")
    assert [group["name"] for group in rule.inputs["spec"]["groups"]] == [
        "archshift.workloads",
        "archshift.alerts",
    ]


@pytest.mark.parametrize("metrics", [AppMetrics(), AppMetrics(latency="", requests="")])
def test_the_dashboard_shows_every_recorded_figure_and_no_other(metrics: AppMetrics) -> None:
    """A renamed rule must not leave an empty graph behind."""
    fleet = PlannedFleet(workloads=["shop/Deployment/cart"], wanted=0.5)
    groups = rules(metrics=metrics, fleet=fleet)["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    asked = set(re.findall(r"archshift:[a-z0-9_:]+", dashboard(metrics)))
    assert asked == recorded - {"archshift:node_arch", "archshift:pod_arch", "archshift:fleet_pods"}


def test_panels_lie_side_by_side_and_have_ids_of_their_own() -> None:
    """Grafana drops what overlaps into a heap."""
    panels = json.loads(dashboard())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"labels": {}},
            "archshift:monitoring.namespace is missing; add the name of a namespace: lower-case ",
        ),
        (
            {"namespace": "Monitoring"},
            "archshift:monitoring.namespace: 'Monitoring' is invalid; use the name of a namespace: ",
        ),
        (
            {"namespace": "m", "dashboard_labels": {"grafana_dashboard": 1}},
            "archshift:monitoring.dashboard_labels.grafana_dashboard: 1 is invalid; use the value of a ",
        ),
        (
            {"namespace": "m", "labels": {"a b": "c"}},
            "archshift:monitoring.labels: 'a b' is invalid; use the name of a Kubernetes label",
        ),
        ({"namespace": "m", "alerts": True}, "archshift:monitoring.alerts is not a setting; there are: "),
    ],
)
def test_a_setting_that_does_not_do_is_named_in_a_sentence(value: Any, message: str) -> None:
    """Key, value and way out."""
    with pytest.raises(ArchshiftError) as error:
        load(monitoring=value)
    assert message in str(error.value)
    assert load(monitoring={}).monitoring is None
