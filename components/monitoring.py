"""Rules for Prometheus and a dashboard for Grafana, as objects in the cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from archshift.cluster.client import connect
from archshift.common.kubernetes import POD_OWNERS, REPLICA_SET_OWNERS
from archshift.plan.model import Plan
from archshift.ramp.gate import GateSettings
from archshift.ramp.monitoring_dashboard import dashboard
from archshift.ramp.monitoring_rules import MonitoringSettings, PlannedFleet, as_text, rules

RULES: Final = "archshift-rules"
DASHBOARD: Final = "archshift-dashboard"
_OPERATOR_API: Final = "monitoring.coreos.com/v1"
_RULE_KIND: Final = "PrometheusRule"


def operator_reads_rules(context: str | None) -> bool:
    """Whether the cluster has the kind PrometheusRule.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    with connect(context) as cluster:
        return cluster.serves(_OPERATOR_API, _RULE_KIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringArgs:
    """Arguments of ``Monitoring``.

    Attributes:
        namespaces: Namespaces of the workloads; empty for all except the system's.
        gate: The rules and alerts use its metrics and tolerances.
        operator: The cluster has PrometheusRules; otherwise the rules are a ConfigMap.
    """

    settings: MonitoringSettings
    namespaces: Sequence[str]
    gate: GateSettings
    plan: Plan
    operator: bool


class Monitoring(pulumi.ComponentResource):
    """Recording rules and alerts by workload and architecture, and a dashboard that shows them."""

    TYPE: Final = "archshift:index:Monitoring"

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        options = pulumi.ResourceOptions(parent=self)
        content = rules(
            namespaces=args.namespaces,
            metrics=args.gate.metrics,
            tolerances=args.gate.tolerances,
            fleet=_fleet(args.plan),
        )
        metadata = _metadata(RULES, args.settings.namespace, args.settings.labels)
        if args.operator:
            k8s.apiextensions.CustomResource(
                RULES,
                api_version=_OPERATOR_API,
                kind=_RULE_KIND,
                metadata=metadata,
                spec=content,
                opts=options,
            )
        else:
            _config_map(RULES, metadata, {"archshift.rules.yaml": as_text(content)}, options)
        metadata = _metadata(DASHBOARD, args.settings.namespace, args.settings.dashboard_labels)
        _config_map(DASHBOARD, metadata, {"archshift.json": dashboard(args.gate.metrics)}, options)
        self.register_outputs({})


def _config_map(
    name: str, metadata: Mapping[str, Any], data: Mapping[str, str], options: pulumi.ResourceOptions
) -> None:
    # The typed k8s.core.v1.ConfigMap loads all of core/v1: 0.2 s in each update.
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    pulumi.CustomResource("kubernetes:core/v1:ConfigMap", name, content, options)


def _fleet(plan: Plan) -> PlannedFleet | None:
    # Metrics name no other owners of pods.
    rows = [row for row in plan.movable if row.kind in (*REPLICA_SET_OWNERS, *POD_OWNERS)]
    pods = sum(row.replicas for row in rows)
    # A fleet without pods has no share.
    if not pods:
        return None
    wanted = sum(row.wanted or 0 for row in rows)
    # Whole pods are never exactly the ratio, and each pod of an autoscaler would be another share.
    rounded = abs(wanted / pods - plan.arm_ratio) <= 0.01
    share = plan.arm_ratio if rounded else round(wanted / pods, 2)
    return PlannedFleet(workloads=[row.key for row in rows], wanted=share)


def _metadata(name: str, namespace: str, labels: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "labels": {**labels, "app.kubernetes.io/managed-by": "archshift"},
    }
