"""The table of workload kinds, and the copies of parts of it that other rooms have."""

import pytest

from archshift.cluster.kinds import CONTROLLERS, SCALED, UNREAD, controller_of
from archshift.common.kubernetes import POD_OWNERS, REPLICA_SET_OWNERS
from archshift_rules import kinds as pack
from components.workload_patch import WorkloadPatch


def test_metrics_and_the_policy_pack_know_the_same_kinds() -> None:
    """A new kind that is in one table only fails here, not in a cluster."""
    standing = {name: kind for name, kind in CONTROLLERS.items() if kind.pods == "replicas"}
    through = {name for name, kind in standing.items() if kind.through == "ReplicaSet"}
    assert {*through, *UNREAD} == {*REPLICA_SET_OWNERS}
    assert {name for name, kind in standing.items() if not kind.through} == {*POD_OWNERS}
    assert set(pack.PATCHED) == set(CONTROLLERS)
    assert pack.WORKLOAD_PATCH == WorkloadPatch.TYPE
    assert pack.PATCHES_BY_ARCHSHIFT.fullmatch(WorkloadPatch.TYPE)
    assert pack.PATCHES.fullmatch(WorkloadPatch.TYPE)
    for name, kind in CONTROLLERS.items():
        assert pack.pod_spec(name) == (*kind.template_path, "spec")
        assert pack.PATCHES_BY_ARCHSHIFT.fullmatch(f"kubernetes:{kind.api_version}:{name}Patch")
        assert pack.PATCHES.fullmatch(f"kubernetes:{kind.api_version}:{name}Patch")
        assert pack.WITH_PODS.fullmatch(f"kubernetes:{kind.api_version}:{name}")


def test_paths_and_roles_name_a_kind_as_the_api_server_does() -> None:
    """With its API group, which the core of Kubernetes has none of."""
    assert CONTROLLERS["CronJob"].collection("shop") == "/apis/batch/v1/namespaces/shop/cronjobs"
    assert CONTROLLERS["Deployment"].collection() == "/apis/apps/v1/deployments"
    assert CONTROLLERS["Deployment"].for_roles == "deployments.apps"
    core = SCALED["ReplicationController"]
    assert core.collection("shop") == "/api/v1/namespaces/shop/replicationcontrollers"
    assert core.for_roles == "replicationcontrollers"


@pytest.mark.parametrize(
    ("owner", "labels", "controller"),
    [
        (("ReplicaSet", "web-5d8f"), {"pod-template-hash": "5d8f"}, ("Deployment", "web")),
        (("ReplicaSet", "web-5d8f"), {}, ("ReplicaSet", "web-5d8f")),
        (("ReplicaSet", "web-5d8f"), {"pod-template-hash": "77aa"}, ("ReplicaSet", "web-5d8f")),
        (("ReplicaSet", "web-5d8f"), {"rollouts-pod-template-hash": "5d8f"}, ("Rollout", "web")),
        (("ReplicaSet", "web-5d8f"), {"rollouts-pod-template-hash": "77aa"}, ("ReplicaSet", "web-5d8f")),
        (("Job", "report-29104440"), {}, ("CronJob", "report")),
        (("Job", "report-once"), {}, ("Job", "report-once")),
        (("StatefulSet", "cart"), {"pod-template-hash": "cart"}, ("StatefulSet", "cart")),
    ],
)
def test_the_controller_of_a_pod(
    owner: tuple[str, str], labels: dict[str, str], controller: tuple[str, str]
) -> None:
    """It is told by the owner's name and the pod's labels, without another look at the cluster."""
    assert controller_of(*owner, labels) == controller
