"""``archshift capacity``: what every step needs, for people and for programs."""

import json
from typing import Any

import pytest

from tests.build import GROUPS, shop
from tests.fakes import FakePulumi, Run


def test_every_step_is_sized_for_programs(run: Run, pulumi: FakePulumi) -> None:
    """Scripts read exactly these keys; by default for the four steps of the ramp."""
    pulumi.configure(arm_ratio="0.2", platform="lab", node_groups=GROUPS)
    code, out, err = run("capacity", "--json", cluster=shop())
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert [step["arm_ratio"] for step in answer["steps"]] == [0.2, 0.5, 0.8, 1.0]
    assert answer["headroom"] == 0.15
    assert answer["steps"][-1] == {
        "arm_ratio": 1.0,
        "groups": [
            {
                "group": "x86",
                "architecture": "amd64",
                "instance_type": "m6i.xlarge",
                "pods": 1,
                "vcpu": 0.25,
                "gib": 0.12,
                "nodes": 1,
                "limit": "CPU",
                "desired": 1,
                "most": 1,
                "advice": "",
            },
            {
                "group": "graviton",
                "architecture": "arm64",
                "instance_type": "m7g.xlarge",
                "pods": 4,
                "vcpu": 1.0,
                "gib": 0.5,
                "nodes": 1,
                "limit": "CPU",
                "desired": 0,
                "most": 0,
                "advice": "raise its size to 1",
            },
        ],
        "without_group": {},
    }


def test_the_table_says_what_to_set(run: Run, pulumi: FakePulumi) -> None:
    """A line a step and group, with the number and the words."""
    pulumi.configure(arm_ratio="0.2", platform="lab", node_groups=GROUPS)
    code, out, _ = run("capacity", "--steps", "1.0", "--headroom", "50", cluster=shop())
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["STEP", "GROUP", "TYPE", "PODS", "VCPU", "GIB", "NODES", "NOW", "WHAT", "TO", "DO"]
    assert ["1", "x86", "m6i.xlarge", "1", "0.2", "0.1", "1", "(CPU)", "1", "enough"] in lines
    expected = [
        "1",
        "graviton",
        "m7g.xlarge",
        "4",
        "1.0",
        "0.5",
        "1",
        "(CPU)",
        "0",
        "raise",
        "its",
        "size",
        "to",
        "1",
    ]
    assert expected in lines


def test_autoscalers_to_look_at_are_named(run: Run, pulumi: FakePulumi) -> None:
    """A target of CPU means something else where a vCPU is a core; one of another metric does not."""
    pulumi.configure(arm_ratio="0.2", platform="lab", node_groups=GROUPS)
    cluster = shop()
    target = {"kind": "Deployment", "name": "cart", "apiVersion": "apps/v1"}
    spec: dict[str, Any] = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
    scaler: dict[str, Any] = {"metadata": {"name": "cart", "namespace": "shop"}, "spec": spec}
    cluster.objects["/apis/autoscaling/v2/horizontalpodautoscalers"] = [scaler]
    _, out, _ = run("capacity", cluster=cluster)
    assert "autoscalers" not in out
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    spec["metrics"] = [{"type": "Resource", "resource": cpu}]
    _, out, _ = run("capacity", cluster=cluster)
    assert out.endswith("  shop/Deployment/cart: 70 % of the request\n")
    _, out, _ = run("capacity", "--json", cluster=cluster)
    answer = json.loads(out)
    assert answer["autoscaled"] == ["shop/Deployment/cart"]
    assert answer["cpu_targets"] == {"shop/Deployment/cart": ["70 % of the request"]}


def test_without_groups_there_is_nothing_to_size(run: Run) -> None:
    """The sentence says which key to set."""
    code, out, err = run("capacity", cluster=shop())
    assert (code, out) == (1, "")
    assert err == (
        "archshift: archshift:node_groups is not set; set the node groups for the pods, and archshift "
        "counts their nodes\n"
    )


def test_steps_that_are_no_ratios_are_a_mistake_in_the_command(run: Run) -> None:
    """Said before anything is read."""
    for arguments in (["--steps", "0.2,2"], ["--steps", "half"], ["--headroom", "-1"], ["--headroom", "x"]):
        with pytest.raises(SystemExit) as error:
            run("capacity", *arguments)
        assert error.value.code == 4, arguments
