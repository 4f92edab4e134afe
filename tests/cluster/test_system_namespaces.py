"""The namespaces that archshift leaves out by default, in the code and in the documents."""

from pathlib import Path

import pytest

from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Discovery
from archshift.common.kubernetes import SYSTEM_NAMESPACES
from tests.build import MANAGER, cluster_of, workload

ROOT = Path(__file__).parent.parent.parent
OTHERS = ("default", "kube-observability", "kube-prometheus", "kubecost", "shop")


def test_only_kubernetes_own_namespaces_are_left_out() -> None:
    """A team's namespace may begin with kube-, too."""
    items = [workload(namespace=name) for name in (*SYSTEM_NAMESPACES, *OTHERS)]
    found = read_inventory(cluster_of(deployments=items), Discovery(), MANAGER)
    assert {one.namespace for one in found.workloads.values()} == set(OTHERS)


def test_a_stack_may_name_a_namespace_of_the_system() -> None:
    """Then archshift steers it."""
    cluster = cluster_of()
    cluster.objects["/apis/apps/v1/deployments"] = [workload(namespace="kube-system")]
    found = read_inventory(cluster, Discovery(namespaces=("kube-system",)), MANAGER)
    assert len(found.workloads) == 1


@pytest.mark.parametrize(
    ("document", "begin"), [("README.md", "| [`workloads`]"), ("docs/settings.md", "- `namespaces`: Only")]
)
def test_the_documents_name_exactly_these(document: str, begin: str) -> None:
    """What the user reads is what the code does."""
    text = (ROOT / document).read_text()
    row = " ".join(text[text.index(begin) :].split())[:300]
    assert f"all but {', '.join(f'`{name}`' for name in SYSTEM_NAMESPACES)}" in row
    assert "kube-*" not in text
