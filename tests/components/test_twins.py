"""Twins through their life, without an engine: what is registered, update after update.

The stand-in's API answers for EKS and EC2, and its checks judge what is registered. As mocks stand in for the
engine, what differs between two runs is what an update would change.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archshift.nodes.live_groups import read_groups
from archshift.settings import stack as stack_settings
from tests.build import Json, configuration
from tests.components.eks import NODE_GROUP, TEMPLATE, registered
from tests.standins import launch_templates
from tests.standins.aws import CLUSTER, Account
from tests.standins.eks_api import serve
from tests.standins.node_groups import created, live_group

SIZES = {"minSize": 1, "desiredSize": 1, "maxSize": 3}
GROUPS: dict[str, Json] = {
    "x86": {"import": "general"},
    "x86-memory": {"import": "memory"},
    "x86-golden": {"import": "golden", "instance_types": ["t3.xlarge"]},
    "graviton": {"twin_of": "x86", "desired_size": 1},
    "graviton-memory": {
        "twin_of": "x86-memory",
        "desired_size": 1,
        "hop_limit": 2,
        "labels": {"pool": "big"},
    },
    "graviton-golden": {"twin_of": "x86-golden", "desired_size": 1, "ami_family": "AL2023"},
}
THEIRS = "lt-0123456789abcdef0"

Inputs = dict[tuple[str, str], Json]


class Life:
    """An account with groups of Terraform, the console and an image of one's own, and a stack's updates."""

    def __init__(self, path: Path) -> None:
        """Begin with three x86 groups."""
        made = {
            "general": live_group("terraform", "prod", "general", "t3.xlarge", scalingConfig=SIZES),
            "memory": live_group("console", "prod", "memory", "r5.2xlarge", scalingConfig=SIZES),
            "golden": live_group("image", "prod", "golden", scalingConfig=SIZES),
        }
        self.groups: Json = {f"prod:{name}": group for name, group in made.items()}
        self.templates: Json = {}
        self.newer: Json = {}
        self._path = path
        self.account = Account(path)
        self.write()

    def write(self) -> None:
        objects = {CLUSTER: {"prod": {}}, NODE_GROUP: self.groups, TEMPLATE: self.templates}
        self._path.write_text(json.dumps({"objects": objects, "done": [], "templates": self.newer}))

    def plan(self, groups: Json) -> tuple[Inputs, dict[str, tuple[str, ...]]]:
        """What an update registers for the Graviton groups, and what it says about them."""
        config = configuration(
            arm_ratio="0.0", cluster={"name": "prod", "subnets": ["subnet-cluster"]}, node_groups=groups
        )
        settings = stack_settings.load("prod", config, describe=read_groups)
        assert settings.cluster
        done = registered(*settings.eks_node_groups.values(), cluster=settings.cluster)
        inputs = {
            (one.type, one.name): json.loads(json.dumps(one.inputs))
            for one in done.of(NODE_GROUP) + done.of(TEMPLATE)
            if one.name.startswith("graviton")
        }
        return inputs, {
            name: group.notes for name, group in settings.eks_node_groups.items() if group.twin_of
        }

    def update(self, inputs: Inputs) -> None:
        """Make the groups and templates, if EKS and EC2 accept them."""
        for (kind, name), values in inputs.items():
            if kind == TEMPLATE:
                data = values.get("userData")
                plain = {**values, "userData": data["value"] if data else None}
                launch_templates.check(plain)
                self.templates[f"{name}-id"] = {**plain, "latestVersion": 3}
            else:
                # A name as the engine makes it up.
                self.groups[f"prod:{name}"] = created(values, f"{name}-{1:026}")
        self.write()


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    life = Life(tmp_path / "account.json")
    with serve(life.account) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield life


def changed(before: Inputs, after: Inputs) -> dict[tuple[str, str], Any]:
    """Which properties two updates register differently."""
    assert before.keys() == after.keys()
    return {
        key: {name for name in before[key] | after[key] if before[key].get(name) != after[key].get(name)}
        for key in before
        if before[key] != after[key]
    }


def test_a_twin_stays_as_it_was_made(life: Life) -> None:
    """A second update changes nothing, and neither does the last step of a migration: the x86 groups leave
    the settings, and each twin has only its types.
    """
    first, notes = life.plan(GROUPS)
    assert all(notes.values())
    life.update(first)
    second, notes = life.plan(GROUPS)
    assert changed(first, second) == {}
    assert not any(notes.values())
    alone = {
        name: {
            **{key: value for key, value in group.items() if key != "twin_of"},
            "instance_types": first[NODE_GROUP, name]["instanceTypes"],
        }
        for name, group in GROUPS.items()
        if "twin_of" in group
    }
    last, _ = life.plan(alone)
    assert changed(first, last) == {}
    # What its own settings say can go, also then.
    del alone["graviton-memory"]["labels"]
    later, _ = life.plan(alone)
    assert "pool" not in later[NODE_GROUP, "graviton-memory"]["labels"]


def test_the_owner_of_the_original_replaces_no_twin(life: Life) -> None:
    """Bought another way, in other subnets, with another role, a hard taint and another template: only what
    the twin's own template can follow changes, and each difference is said.
    """
    first, _ = life.plan(GROUPS)
    life.update(first)
    theirs = launch_templates.MADE[THEIRS]["4"]
    life.newer = {THEIRS: {"5": {**theirs, "SecurityGroupIds": ["sg-0other"]}}}
    general = life.groups["prod:general"]
    general |= {
        "capacityType": "ON_DEMAND",
        "subnetIds": ["subnet-0new"],
        "nodeRoleArn": "arn:aws:iam::123456789012:role/new-nodes",
        "launchTemplate": {"id": THEIRS, "name": "general", "version": "5"},
        "taints": [*general["taints"], {"key": "maintenance", "effect": "NO_SCHEDULE"}],
    }
    life.write()
    second, notes = life.plan(GROUPS)
    assert changed(first, second) == {(TEMPLATE, "graviton"): {"vpcSecurityGroupIds"}}
    assert [note.partition(",")[0] for note in notes["graviton"]] == [
        "it keeps capacity_type SPOT",
        "it keeps subnets subnet-0z",
        "it keeps node_role arn:aws:iam::123456789012:role/terraform-nodes",
        "it does not get the new taint maintenance (NoSchedule) of general; to have it",
        "its security_groups changes from sg-0node",
    ]
