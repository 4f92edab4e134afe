"""What the commands print where the API server places pods."""

import json
from typing import Any

import pytest

from archshift.cluster.entries import PLACED_ANNOTATION
from archshift.cluster.live_placement import BINDINGS, POLICIES
from archshift.plan import admission
from tests.build import shop
from tests.fakes import FakeCluster, FakePulumi, Run


def live(manifest: dict[str, Any]) -> dict[str, Any]:
    """A policy or its binding, as the API server returns it."""
    return {**manifest, "metadata": {**manifest["metadata"], "creationTimestamp": "2026-01-02T00:00:00Z"}}


def placing(on_graviton: int = 0, *, policy: bool = True, age: str = "2026-01-01T00:00:00Z") -> FakeCluster:
    """The shop, whose API server places pods; its pods were made then, and the policy placed none."""
    cluster = shop(on_graviton)
    for pod in cluster.objects["/api/v1/pods"]:
        pod["metadata"]["creationTimestamp"] = age
    cluster.objects |= {
        POLICIES.collection(): [live(admission.policy("dev", "shop", {}))] if policy else [],
        BINDINGS.collection(): [live(admission.binding("dev", "shop"))] if policy else [],
        "/api/v1/namespaces": [{"metadata": {"name": "shop"}}],
    }
    return cluster


def lines_of(text: str) -> list[str]:
    """The lines without the blanks of a table."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_plan_says_what_moves(run: Run, pulumi: FakePulumi) -> None:
    """Also the workload whose fields Helm owns, and no conflict."""
    pulumi.configure(arm_ratio="0.5", placement="admission")
    _, out, _ = run("plan", cluster=placing())
    lines = lines_of(out)
    assert "shop/Deployment/cart 4 0 2 moves 2 pods" in lines
    assert not any("conflict" in line for line in lines)
    assert lines[-1].startswith("fleet at 0.5: 0 of 7 movable pods are on Graviton, 4 belong there; ")
    assert "pods change sides" in lines[-1]


def test_plan_as_json_has_the_entries(run: Run, pulumi: FakePulumi) -> None:
    """A row's entry is the text that the ConfigMap gets."""
    pulumi.configure(arm_ratio="0.5", placement="admission")
    plan = json.loads(run("plan", "--json", cluster=placing(2))[1])
    rows = {row["workload"]: row for row in plan["workloads"]}
    assert plan["placement"] == "admission"
    assert rows["shop/Deployment/cart"]["entry"] == "2 of 4 on arm64"
    assert (rows["shop/Deployment/cart"]["moves"], rows["shop/Deployment/cart"]["restarted_pods"]) == (0, 0)
    assert rows["shop/DaemonSet/log"]["entry"] == ""
    assert plan["restarted_pods"] == sum(row["restarted_pods"] for row in plan["workloads"])


def test_status_after_the_first_update_is_fine(run: Run, pulumi: FakePulumi) -> None:
    """All pods are older than the policy, and where they belong: there is nothing to do."""
    pulumi.configure(arm_ratio="0", placement="admission")
    code, out, _ = run("status", cluster=placing())
    assert code == 0
    assert "4 pods were made before archshift's policy; it places their successors" in lines_of(out)
    assert "did not place" not in out


def test_status_names_new_pods_that_nobody_placed(run: Run, pulumi: FakePulumi) -> None:
    """The policy was away for a while; this is a note, and the exit code says what is exact."""
    pulumi.configure(arm_ratio="0", placement="admission")
    cluster = placing(age="2026-01-03T00:00:00Z")
    cluster.objects["/api/v1/pods"][1]["metadata"]["annotations"] = {PLACED_ANNOTATION: "all on amd64"}
    code, out, _ = run("status", cluster=cluster)
    assert code == 0
    assert (
        "archshift's policy did not place 3 new pods of shop/Deployment/cart: the policy was away, or the "
        "workload had no entry yet"
    ) in lines_of(out)
    status = json.loads(run("status", "--json", cluster=cluster)[1])
    assert status["placement"] == {
        "by": "admission",
        "without_policy": [],
        "unplaced": {"shop/Deployment/cart": 3},
        "older": 0,
    }


AWAY = "archshift's policy is not in effect as made in shop: {}; the next pulumi up repairs it"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("policy", "its policy was deleted"),
        ("binding", "its binding was deleted"),
        ("mutation", "somebody changed spec.mutations of its policy"),
        ("condition", "somebody changed spec.matchConditions of its policy"),
        ("bound to another", "somebody changed spec.policyName of its binding"),
    ],
)
def test_status_and_plan_say_that_the_policy_is_away(
    run: Run, pulumi: FakePulumi, what: str, why: str
) -> None:
    """Somebody deleted or edited it. Other entries than planned are no such change."""
    pulumi.configure(arm_ratio="0", placement="admission")
    cluster = placing()
    policies, bindings = ([*cluster.objects[kind.collection()]] for kind in (POLICIES, BINDINGS))
    assert "not in effect" not in run("status", cluster=cluster)[1]
    if what == "condition":
        policies[0]["spec"]["matchConditions"] = [{"name": "none", "expression": "false"}]
    elif what == "mutation":
        policies[0]["spec"]["mutations"][0]["jsonPatch"]["expression"] = "[]"
    elif what == "bound to another":
        bindings[0]["spec"]["policyName"] = "another"
    else:
        (policies if what == "policy" else bindings).clear()
    cluster.objects |= {POLICIES.collection(): policies, BINDINGS.collection(): bindings}
    code, out, _ = run("status", cluster=cluster)
    assert AWAY.format(why) in lines_of(out)
    assert code == 0
    assert AWAY.format(why) in lines_of(run("plan", cluster=cluster)[1])
    assert AWAY.format(why) in json.loads(run("plan", "--json", cluster=cluster)[1])["notes"]
    assert AWAY.format(why) in json.loads(run("report", "--json", cluster=cluster)[1])["troubles"]
    status = json.loads(run("status", "--json", cluster=cluster)[1])
    assert status["placement"]["without_policy"] == ["shop"]


def test_an_api_server_without_the_kind_is_one_sentence(run: Run, pulumi: FakePulumi) -> None:
    """It names the value that works there."""
    pulumi.configure(arm_ratio="0.5", placement="admission")

    class Old(FakeCluster):
        def get(self, path: str) -> Any:
            return {"gitVersion": "v1.34.0"} if path == "/version" else super().get(path)

    code, out, err = run("plan", cluster=Old())
    assert (code, out) == (1, "")
    assert err.endswith("set archshift:placement: patches, or upgrade the cluster\n")


def test_plan_says_how_many_restarts_admission_would_save(run: Run, pulumi: FakePulumi) -> None:
    """Only where the API server can do it. The number is from a plan of the same cluster."""
    pulumi.configure(arm_ratio="0.5")
    # There, the workload whose fields Helm owns is part of the fleet. It lends no pod, so it rolls out.
    advice = "this step restarts 4 pods to move 2; with placement: admission it would restart 5 to move 4"
    assert advice in lines_of(run("plan", cluster=placing(policy=False))[1])
    assert json.loads(run("plan", "--json", cluster=placing(policy=False))[1])["advice"] == advice
    assert json.loads(run("plan", "--json", cluster=shop())[1])["advice"] == ""
