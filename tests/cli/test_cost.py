"""``archshift cost``: what the nodes cost and what a step saves, for people and for programs."""

import json

import pytest

from tests.build import GROUPS, priced_shop, shop
from tests.fakes import FakePulumi, Run


def test_costs_for_programs(run: Run, pulumi: FakePulumi) -> None:
    """Scripts and the report read exactly these keys; money is USD a month."""
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    code, out, err = run("cost", "--json", "--steps", "1.0", cluster=priced_shop())
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert list(answer) == [
        "region",
        "now",
        "at_zero",
        "today",
        "steps",
        "next_step",
        "without_commitments",
        "claimed",
        "assumptions",
        "note",
    ]
    assert answer["now"] == {
        "usd_per_month": 445.23,
        "at_least": 445.23,
        "unknown": [],
        "groups": [
            {
                "group": "x86",
                "architecture": "amd64",
                "instance_type": "m6i.xlarge",
                "spot": False,
                "nodes": {"least": 2, "most": 2},
                "usd_per_hour": 0.214,
                "price_source": "table of 2025 or later, by size from m6i.large",
                "usd_per_month": {"least": 312.44, "most": 312.44},
            },
            {
                "group": "",
                "architecture": "arm64",
                "instance_type": "m7g.xlarge",
                "spot": False,
                "nodes": {"least": 1, "most": 1},
                "usd_per_hour": 0.1819,
                "price_source": "table of 2025 or later, by size from m7g.2xlarge",
                "usd_per_month": {"least": 132.79, "most": 132.79},
            },
        ],
        "stranded": [],
    }
    (step,) = answer["steps"]
    # One node of each side: what must stay on x86 keeps one, so the fleet pays more than before.
    assert {key: step[key] for key in ("arm_ratio", "saving", "saving_share", "overlap", "unknown")} == {
        "arm_ratio": 1.0,
        "saving": {"least": -132.79, "most": -132.79},
        "saving_share": {"least": -0.85, "most": -0.85},
        "overlap": 132.79,
        "unknown": [],
    }
    assert answer["next_step"]["arm_ratio"] == 0.8
    assert answer["claimed"] == {"least": 0.2, "most": 0.4}


def test_costs_for_people(run: Run, pulumi: FakePulumi) -> None:
    """A line a step and group, the sum of each, and the sentences that go with them."""
    pulumi.configure(
        arm_ratio="0.5",
        platform="lab",
        node_groups=GROUPS,
        cost={
            "commitments": [
                {"kind": "reserved-instances", "family": "m6i", "usd_per_hour": 1, "discount": 0.4}
            ]
        },
    )
    code, out, _ = run("cost", cluster=priced_shop())
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "STEP GROUP SIDE TYPE NODES USD/H EACH USD/MONTH"
    assert "now x86 x86 m6i.xlarge 2 0.2140 312" in lines
    assert "now (none) Graviton m7g.xlarge 1 0.1819 133" in lines
    assert "now all 863" in lines
    assert "The sums include commitments, and exclude the usage that commitments cover." in lines
    assert "Prices of m6i.xlarge: table of 2025 or later, by size from m6i.large." in lines
    assert "arm_ratio 1 against 0: 133 USD a month more." in lines
    assert (
        "At 1, 636 USD a month of a commitment are unused: reserved-instances of m6i, 1 USD an hour, which "
        "only covers m6i."
    ) in lines
    assert "Without commitments, 1 would cost 133 USD a month more." in lines
    assert "People often claim savings of 20 to 40 %; this fleet pays 18 % more at 1" in out
    assert "Assumptions:" in lines
    assert "- paid in advance: reserved-instances of m6i, 1 USD an hour" in lines


def test_a_price_that_is_not_known_is_said(run: Run, pulumi: FakePulumi) -> None:
    """No total that looks complete, and the way out."""
    groups = {**GROUPS, "graviton": {"instance_type": "m8g.xlarge", "size": 0}}
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=groups)
    code, out, _ = run("cost", cluster=priced_shop())
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "1 graviton Graviton m8g.xlarge 1 ? ?" in lines
    assert "1 all at least 156" in lines
    assert (
        "arm_ratio 1 against 0: unknown: the price of m8g.xlarge in eu-west-1 is "
        "unknown; run with AWS credentials, or set archshift:cost.prices.m8g.xlarge."
    ) in lines


def test_without_groups_there_is_nothing_to_price(run: Run) -> None:
    """The sentence says which key to set."""
    code, out, err = run("cost", cluster=priced_shop())
    assert (code, out) == (1, "")
    assert err == (
        "archshift: archshift:node_groups is not set; set the node groups for the pods, and archshift "
        "prices their nodes\n"
    )


def test_without_a_region_there_are_no_prices(run: Run, pulumi: FakePulumi) -> None:
    """Nodes without zones, and no region in the configuration."""
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    code, _, err = run("cost", cluster=shop())
    assert code == 1
    assert err.startswith(
        "archshift: archshift:cost.region is not set, and neither aws:region nor the nodes'"
    )


def test_aws_alone_that_cannot_be_asked_is_an_error(
    run: Run, pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by name, no other list stands in."""
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    code, _, err = run("cost", "--prices", "aws", cluster=priced_shop())
    assert (code, err) == (
        1,
        "archshift: boto3 is not installed, and archshift needs it to read the AWS price list; "
        "install archshift again\n",
    )


def test_steps_that_are_no_ratios_are_a_mistake_in_the_command(run: Run) -> None:
    """Said before anything is read."""
    for arguments in (["--steps", "2"], ["--headroom", "-1"], ["--prices", "guess"]):
        with pytest.raises(SystemExit) as error:
            run("cost", *arguments)
        assert error.value.code == 4, arguments
