"""Node groups as EKS describes them: boto3 over HTTP against the stand-in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes import live_groups
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import Taint
from archshift.nodes.launch_templates import TemplateVersion
from archshift.nodes.live_groups import LiveGroup, from_description, read_groups
from tests.standins.aws import CLUSTER, NODE_GROUP, Account
from tests.standins.eks_api import serve
from tests.standins.node_groups import describe, live_group

PROD = EksCluster(name="prod", region="eu-west-1")


class Groups:
    """An account whose groups a test sets."""

    def __init__(self, path: Path) -> None:
        self.account = Account(path)
        self._path = path
        self.set()

    def set(self, *groups: dict[str, Any], **content: Any) -> None:
        objects = {CLUSTER: {"prod": {}}, NODE_GROUP: {f"prod:{one['nodeGroupName']}": one for one in groups}}
        self._path.write_text(json.dumps({"objects": objects, "done": [], **content}))


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    groups = Groups(tmp_path / "account.json")
    with serve(groups.account) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield groups


def test_a_group_of_terraform_is_read_as_it_is(groups: Groups) -> None:
    """Spot, a share, a template by ID and name, and no disk size, because the template has it."""
    groups.set(live_group("terraform", "prod", "general-20250101", "m5.xlarge", "m5a.xlarge"))
    assert read_groups(PROD, {"x86": "general-20250101"}, (), "prod") == {
        "x86": LiveGroup(
            name="general-20250101",
            role="arn:aws:iam::123456789012:role/terraform-nodes",
            subnets=("subnet-0z",),
            min_size=3,
            desired_size=8,
            max_size=20,
            capacity_type="SPOT",
            ami_type="AL2023_x86_64_STANDARD",
            instance_types=("m5.xlarge", "m5a.xlarge"),
            labels={"team": "shop"},
            taints=(Taint(key="spot", value="true", effect="PreferNoSchedule"),),
            tags={"Terraform": "true", "Environment": "prod"},
            max_unavailable="33%",
            launch_template=TemplateVersion(
                id="lt-0123456789abcdef0", name="general-20250101-2025", version="4"
            ),
            node_repair=True,
            version="1.33",
            scaling_groups=("eks-general-20250101",),
        )
    }


def test_what_eks_does_not_tell_is_none(groups: Groups) -> None:
    """An image of one's own: type, disk and version are in the launch template."""
    groups.set(live_group("image", "prod", "golden"), live_group("old-eksctl", "prod", "old", "m5.large"))
    found = read_groups(PROD, {"golden": "golden", "old": "old"}, (), "prod")
    golden, old = found["golden"], found["old"]
    assert (golden.ami_type, golden.instance_types, golden.disk_gib, golden.version) == (
        "CUSTOM",
        None,
        None,
        None,
    )
    assert (golden.labels, golden.taints, golden.tags) == ({}, (), {})
    assert (old.disk_gib, old.remote_access, old.launch_template) == (80, True, None)


def test_a_group_of_an_earlier_update_is_found_by_its_tag_and_stack(groups: Groups) -> None:
    """Also without nodes; a group that goes, of another stack or of another name is not it."""
    ours = {"tags": {"archshift/node-group": "graviton"}, "labels": {"archshift/stack": "prod"}}

    def made(number: int, group: str = "graviton", **more: Any) -> dict[str, Any]:
        return live_group("console", "prod", f"{group}-{number:026}", "m7g.large", **{**ours, **more})

    groups.set(
        made(1, status="DELETING"),
        made(2),
        made(3, labels={"archshift/stack": "staging"}),
        made(4, "graviton-memory", tags={"archshift/node-group": "graviton-memory"}),
    )
    assert read_groups(PROD, {}, ["graviton", "more"], "prod").keys() == {"graviton"}
    assert read_groups(PROD, {}, ["graviton"], "prod")["graviton"].name == f"graviton-{2:026}"


@pytest.mark.parametrize(
    ("there", "imports", "sentence"),
    [
        (
            "graviton-old",
            {},
            "'graviton-old', and a new group would delete it; give the other group a name of its own, or "
            "first hand 'graviton-old' back with release: true (docs/runbook.md)",
        ),
        (
            "graviton-old",
            {"graviton": "graviton-new"},
            "'graviton-old', and importing 'graviton-new' would delete it; give the other group a name of "
            "its own, or first hand 'graviton-old' back with release: true (docs/runbook.md)",
        ),
        (
            f"graviton-{1:026}",
            {"graviton": "graviton-new"},
            f"'graviton-{1:026}', and importing 'graviton-new' would delete it; give the other group a name "
            "of its own",
        ),
    ],
    ids=["import removed", "another import", "import in place of our own"],
)
def test_a_group_that_another_would_replace_is_named(
    groups: Groups, there: str, imports: dict[str, str], sentence: str
) -> None:
    """Also if its name at EKS begins with ours, as the names do that the engine makes up."""
    tags = {"archshift/node-group": "graviton"}
    groups.set(
        live_group("console", "prod", there, "m7g.large", tags=tags),
        live_group("console", "prod", "graviton-new", "m7g.large"),
    )
    with pytest.raises(ArchshiftError) as error:
        read_groups(PROD, imports, () if imports else ["graviton"], "prod")
    assert str(error.value) == (
        f"archshift:node_groups.graviton: under this name the stack manages the node group {sentence}"
    )


@pytest.mark.parametrize(
    ("cluster", "content", "sentence"),
    [
        (
            EksCluster(name="stagin", region="eu-west-1"),
            {},
            "archshift:cluster.name: there is no EKS cluster 'stagin' in the region of aws:region; correct "
            "the name or the region, or set archshift:cluster.create to create the cluster",
        ),
        (
            PROD,
            {},
            "archshift:node_groups.x86.import: the cluster 'prod' has no node group 'general'; correct the "
            "name, or remove the key to create a new group",
        ),
        (
            PROD,
            {
                "refusal": "api error ExpiredTokenException: The security token included in the request is "
                "expired"
            },
            "archshift:cluster.name: 'prod' cannot be read: the AWS credentials have expired; log in again, "
            "for example with `aws sso login`",
        ),
        (
            PROD,
            {
                "refusal": "api error AccessDeniedException: User: arn:aws:iam::1:user/me is not authorized "
                "to perform: eks:ListNodegroups on resource: x"
            },
            "archshift:cluster.name: 'prod' cannot be read: AccessDeniedException: User: "
            "arn:aws:iam::1:user/me is not authorized to perform: eks:ListNodegroups on resource: x; "
            "docs/iam.md lists the permissions that archshift needs",
        ),
    ],
    ids=["no cluster", "no group", "expired", "denied"],
)
def test_what_cannot_be_read_is_one_sentence(
    groups: Groups, cluster: EksCluster, content: dict[str, Any], sentence: str
) -> None:
    groups.set(**content)
    with pytest.raises(ArchshiftError) as error:
        read_groups(cluster, {"x86": "general"}, (), "prod")
    assert str(error.value) == sentence


def test_a_group_that_eks_is_deleting_is_not_imported(groups: Groups) -> None:
    """The update would fail halfway, or find the group gone."""
    groups.set(live_group("console", "prod", "general", "m5.large", status="DELETING"))
    with pytest.raises(ArchshiftError) as error:
        read_groups(PROD, {"x86": "general"}, (), "prod")
    assert str(error.value) == (
        "archshift:node_groups.x86.import: EKS is deleting the node group 'general'; correct the name, or "
        "remove the key to create a new group"
    )


class DeniedError(Exception):
    """An error of botocore."""

    response: ClassVar = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}


class NobodyMayDescribe:
    """A client that may list groups and describe none."""

    def get_paginator(self, _: str) -> "NobodyMayDescribe":
        return self

    def paginate(self, **_: str) -> list[dict[str, list[str]]]:
        return [{"nodegroups": ["theirs", f"graviton-{1:026}"]}]

    def describe_nodegroup(self, **_: str) -> None:
        raise DeniedError


def test_a_group_of_our_own_that_nobody_may_read_is_not_taken_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With an autoscaler, it would get the size of its beginning again. Groups of others do not matter."""
    monkeypatch.setattr(live_groups, "aws_client", lambda *_: NobodyMayDescribe())
    assert read_groups(PROD, {}, ["graviton-memory"], "prod") == {}
    with pytest.raises(ArchshiftError) as error:
        read_groups(PROD, {}, ["graviton"], "prod")
    assert str(error.value) == (
        f"archshift:cluster.name: 'graviton-{1:026}' cannot be read: AccessDeniedException: no; docs/iam.md "
        "lists the permissions that archshift needs"
    )


def test_a_label_with_the_architecture_that_the_owner_had_stays_the_owners() -> None:
    """On the first import and later, when it looks like ours; ours on a group that we made goes."""
    own = {"team": "shop", "architecture": "amd64"}
    before = from_description(describe(live_group("console", "prod", "old", "m5.large", labels=own)))
    assert before.own_labels == own
    marks = before.marks({**own, "archshift/node-group": "x86"}, ())
    assert marks == {"archshift/label/architecture": "=amd64"}
    tags = {"archshift/node-group": "x86", **marks}
    taken = live_group("console", "prod", "old", "m5.large", labels=own, tags=tags)
    later = from_description(describe(taken))
    assert (later.own_labels, later.marks(own, ())) == (own, marks)
    made = from_description(describe({**taken, "tags": {"archshift/node-group": "x86"}}))
    assert (made.own_labels, made.marks(own, ())) == ({"team": "shop"}, {})


def test_what_is_not_read_of_a_group_is_named() -> None:
    """So that a twin's preview can say what stays behind."""
    repair = {"enabled": True, "maxParallelNodesRepairedCount": 2}
    update = {"maxUnavailable": 2, "updateStrategy": "MINIMAL"}
    made = describe(live_group("console", "prod", "old", "m5.large", nodeRepairConfig=repair))
    described = {**made, "updateConfig": update, "warmPoolConfig": {"enabled": True}}
    found = from_description(described)
    assert (found.max_unavailable, found.update_strategy, found.node_repair) == (2, "MINIMAL", True)
    assert found.others == ("warmPoolConfig", "nodeRepairConfig.maxParallelNodesRepairedCount")
