"""Workloads that are another controller's template."""

from typing import Any

import pytest

from archshift.cluster.client import RefusedError
from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Discovery, Inventory
from archshift.plan.model import PlannedWorkload, Rules
from archshift.plan.planner import make_plan
from tests.build import MANAGER, Json, node, workload
from tests.fakes import FakeCluster

KEY = "shop/Deployment/cart"


def read(objects: dict[str, list[Json]], kind: str = "Deployment", replicas: int = 0) -> Inventory:
    plural = f"{kind.lower()}s"
    cluster = FakeCluster(
        {
            f"/apis/apps/v1/{plural}": [workload(kind, replicas=replicas)],
            "/api/v1/nodes": [node("arm"), node("x86", "amd64")],
            **objects,
        }
    )
    return read_inventory(cluster, Discovery(), MANAGER)


def row_of(inventory: Inventory, **rules: Any) -> PlannedWorkload:
    wanted = {next(iter(inventory.workloads)): Rules(**rules)} if rules else {}
    return make_plan(arm_ratio=1.0, inventory=inventory, rules=wanted).workloads[0]


def user(spec: Json, name: str = "checkout") -> Json:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}


CART = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}


@pytest.mark.parametrize("replicas", [0, 3])
@pytest.mark.parametrize(
    ("collection", "spec", "named"),
    [
        ("/apis/argoproj.io/v1alpha1/rollouts", {"workloadRef": CART}, "Rollout checkout"),
        (
            "/apis/argoproj.io/v1alpha1/rollouts",
            {"workloadRef": {**CART, "scaleDown": "progressively"}},
            "Rollout checkout",
        ),
        ("/apis/rollouts.kruise.io/v1beta1/rollouts", {"workloadRef": CART}, "Rollout checkout"),
        (
            "/apis/rollouts.kruise.io/v1alpha1/rollouts",
            {"objectRef": {"workloadRef": CART}},
            "Rollout checkout",
        ),
        ("/apis/flagger.app/v1beta1/canaries", {"targetRef": CART}, "Canary checkout"),
    ],
)
def test_a_template_that_another_object_uses_is_left_alone(
    collection: str, spec: Json, named: str, replicas: int
) -> None:
    """A change of the template starts a release there, of all its pods at once."""
    row = row_of(read({collection: [user(spec)]}, replicas=replicas))
    assert (row.action, row.patch) == ("leave", None)
    assert row.reason == (
        f"left alone: its template belongs to {named}, and a change would start a release there"
    )


def test_the_settings_may_say_to_steer_it_all_the_same() -> None:
    found = read({"/apis/argoproj.io/v1alpha1/rollouts": [user({"workloadRef": CART})]})
    assert row_of(found, steer_owned=True).action == "pin"


@pytest.mark.parametrize(
    "spec", [{"template": {}}, {"workloadRef": {**CART, "name": "other"}}, {"workloadRef": {}}]
)
def test_other_rollouts_mean_nothing(spec: Json) -> None:
    row = row_of(read({"/apis/argoproj.io/v1alpha1/rollouts": [user(spec)]}))
    assert row.action == "pin"


def test_a_group_without_the_kind_is_not_read() -> None:
    """Argo CD and Argo Workflows have the API group of Rollouts."""
    assert row_of(read({"/apis/argoproj.io/v1alpha1/applications": [user({})]})).action == "pin"


class Forbidding(FakeCluster):
    """A cluster with Rollouts that this user may not read."""

    def __init__(self, replicas: int) -> None:
        super().__init__(
            {
                "/apis/apps/v1/deployments": [workload(replicas=replicas)],
                "/apis/argoproj.io/v1alpha1/rollouts": [],
            }
        )

    def before(self, verb: str, path: str) -> None:
        """Refuse to list them."""
        if (verb, path) == ("list", "/apis/argoproj.io/v1alpha1/rollouts"):
            raise RefusedError("not allowed", status=403, words="not allowed")


@pytest.mark.parametrize(("replicas", "action"), [(0, "leave"), (3, "move")])
def test_what_archshift_may_not_read_may_use_a_template_without_pods(replicas: int, action: str) -> None:
    """Unknown is never yes, but a Deployment with pods of its own is hardly a template."""
    found = read_inventory(Forbidding(replicas), Discovery(), MANAGER)
    (row,) = make_plan(arm_ratio=1.0, inventory=found).workloads
    assert row.action == action
    assert row.action == "move" or "a Rollout that archshift may not read" in row.reason


OWNERS: list[Json] = [
    {"kind": "MetricStore", "name": "main", "controller": True},
    {"kind": "Kafka", "name": "events", "controller": True},
]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "CronJob", "DaemonSet"])
@pytest.mark.parametrize("owner", OWNERS)
def test_what_an_operator_writes_is_left_alone(kind: str, owner: Json) -> None:
    """The operator would write its template back, and both would restart the pods at each turn."""
    item = workload(kind, replicas=2)
    item["metadata"]["ownerReferences"] = [{"kind": "Team", "name": "blue"}, owner]
    found = read_inventory(
        FakeCluster({f"/apis/{'batch' if kind == 'CronJob' else 'apps'}/v1/{kind.lower()}s": [item]}),
        Discovery(),
        MANAGER,
    )
    row = row_of(found)
    assert (row.action, row.patch) == ("leave", None)
    if kind != "DaemonSet":
        assert row.reason == (
            f"left alone: the controller of {owner['kind']} {owner['name']} writes it; set the placement "
            "there, or set steer_owned: true"
        )
        assert row_of(found, steer_owned=True).action in ("move", "pin")


def test_an_owner_that_does_not_control_a_workload_is_no_obstacle() -> None:
    """Such references only say what to delete together."""
    item = workload(replicas=2)
    item["metadata"]["ownerReferences"] = [{"kind": "Team", "name": "blue"}]
    found = read_inventory(FakeCluster({"/apis/apps/v1/deployments": [item]}), Discovery(), MANAGER)
    assert row_of(found).action == "move"
