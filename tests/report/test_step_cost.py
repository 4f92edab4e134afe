"""What a preview says of a step's cost: ranges where prices are known, a reason where they are not."""

import json
from typing import Any

from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Discovery
from archshift.plan.planner import make_plan
from archshift.report.step_cost import step_cost
from archshift.settings import stack as stack_settings
from archshift.survey import Survey
from tests.build import MANAGER, node, workload
from tests.fakes import FakeCluster

GROUPS = {
    "x86": {"instance_type": "m6i.xlarge", "size": 3},
    "graviton": {"instance_type": "m7g.xlarge", "size": 3},
}


def cost(ratio: str, **config: Any) -> dict[str, Any]:
    """The cost of a step from nothing on Graviton, of a Deployment with 60 pods of 100m."""
    values = {f"archshift:{key}": json.dumps(value) for key, value in config.items()}
    configured = stack_settings.load(
        "dev", {"archshift:arm_ratio": ratio, "archshift:platform": "lab", **values}, {}
    )
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload(replicas=60)],
            "/api/v1/nodes": [node("a", "amd64"), node("b", "arm64")],
        }
    )
    inventory = read_inventory(cluster, Discovery(), MANAGER)
    plan = make_plan(arm_ratio=configured.arm_ratio, inventory=inventory, groups=configured.groups)
    return step_cost(
        Survey(inventory=inventory, evidence=None, plan=plan, needs=None, rules=configured.rules), configured
    )


def test_a_step_costs_what_its_nodes_cost() -> None:
    """Before is what is observed, all on x86; after is at 1.0; money is of the region that is configured."""
    found = cost("1.0", node_groups=GROUPS, cost={"region": "eu-west-1"})
    assert (found["region"], found["unknown"]) == ("eu-west-1", [])
    assert found["before"]["least"] == found["before"]["most"] > 0
    assert found["after"]["least"] <= found["after"]["most"] < found["before"]["least"]
    assert "less" in found["saving"]
    assert any("no Savings Plans" in one for one in found["assumptions"])


def test_no_step_costs_nothing_more() -> None:
    """The share that is observed is the share that is wanted."""
    found = cost("0", node_groups=GROUPS, cost={"region": "eu-west-1"})
    assert found["before"] == found["after"]


def test_what_is_not_known_has_a_reason() -> None:
    """A preview does not fail for want of a price, and none is made up."""
    for config, reason in (
        ({}, "archshift:node_groups is not set, so there are no nodes to price"),
        ({"node_groups": GROUPS}, "archshift:cost.region is not set"),
        ({"node_groups": GROUPS, "cost": {"region": "xx-nowhere-1"}}, "the price of m6i.xlarge in"),
    ):
        found = cost("0.5", **config)
        assert (found["before"], found["after"], found["saving"]) == (None, None, "")
        assert found["unknown"][0].startswith(reason)
