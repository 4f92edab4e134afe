"""Rules and dashboard in a real cluster, with and without the operator's definition."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.gate.prometheus import check_rules
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PrometheusRule", "plural": "prometheusrules", "singular": "prometheusrule"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[None]:
    """The operator's definition of a PrometheusRule; what matters is the API server's word for it."""
    cluster.apply(DEFINITION)
    name = "prometheusrules.monitoring.coreos.com"
    cluster.lab.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    yield
    cluster.lab.kubectl("delete", "crd", name)


def moved(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Take a fleet to 0.5, with its monitoring."""
    cluster.apply(deployment("cart", 4, namespace))
    stack.config(
        {
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "0.5",
            "monitoring": {"namespace": namespace, "labels": {"release": "prometheus"}},
        }
    )
    result = stack.up()
    assert result.succeeded, result.output


def test_without_the_operator_prometheus_gets_a_file_and_nothing_stays(
    cluster: Cluster, stack: Stack, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """promtool takes the file as it came back from the API server; destroy takes all of it away."""
    moved(cluster, stack, namespace)
    text = cluster.get("configmap", "archshift-rules", namespace)["data"]["archshift.rules.yaml"]
    check_rules(tmp_path_factory.mktemp("rules"), text)
    assert f'workload=~"{namespace}/Deployment/cart"' in text
    dashboard = cluster.get("configmap", "archshift-dashboard", namespace)
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["archshift.json"])["title"] == "archshift: Graviton and x86"
    assert stack.up().changes == {}
    assert stack.destroy("--run-program").succeeded
    names = {item["metadata"]["name"] for item in cluster.all_of("configmaps", namespace)}
    assert not names & {"archshift-rules", "archshift-dashboard"}


@pytest.mark.usefixtures("operator")
def test_the_operator_gets_its_own_object(
    cluster: Cluster, stack: Stack, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same groups, as the operator reads them, and no file beside it."""
    moved(cluster, stack, namespace)
    rule = cluster.get("prometheusrule", "archshift-rules", namespace)
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    check_rules(tmp_path_factory.mktemp("rules"), yaml.safe_dump(rule["spec"]))
    names = {item["metadata"]["name"] for item in cluster.all_of("configmaps", namespace)}
    assert "archshift-rules" not in names
    assert stack.destroy("--run-program").succeeded
