"""Whether EC2 offers a group's instance types where its nodes start; mocks stand in for AWS."""

from collections.abc import Iterable
from typing import Any

import pulumi
import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import EksNodeGroup
from archshift.nodes.live_groups import LiveGroup
from components.offered_types import check_offered
from tests.build import live_group
from tests.components.eks import GET_OFFERINGS, GET_SUBNET, Aws, Refused, group
from tests.components.recorder import Recorder, record

ZONES = {"subnet-a": "eu-west-1a", "subnet-b": "eu-west-1b", "subnet-c": "eu-west-1c"}
BOTH = {("m7g.large", "eu-west-1a"), ("m7g.large", "eu-west-1b")}
WAY_OUT = (
    "; change the group's instance_types or subnets, or archshift:graviton_families if the group is a twin"
)


def ec2(offered: Iterable[tuple[str, str]], refusal: str = "") -> Recorder:
    """An EC2 whose zones offer some types; it lists pairs, as the provider does."""

    def subnet(arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["id"] == "subnet-outpost":
            outpost = "arn:aws:outposts:eu-west-1:1:outpost/op-1"
            return {"availabilityZone": "eu-west-1a", "outpostArn": outpost}
        if arguments["id"] not in ZONES:
            raise Refused("1 error occurred:\n\t* no matching EC2 Subnet found\n\n")
        return {"availabilityZone": ZONES[arguments["id"]], "outpostArn": ""}

    def offerings(arguments: dict[str, Any]) -> dict[str, Any]:
        if refusal:
            raise Refused(refusal)
        assert arguments["locationType"] == "availability-zone"
        only = {one["name"]: one["values"] for one in arguments["filters"]}
        pairs = [
            pair
            for pair in sorted(offered)
            if pair[0] in only["instance-type"] and pair[1] in only["location"]
        ]
        return {"instanceTypes": [kind for kind, _ in pairs], "locations": [zone for _, zone in pairs]}

    return Aws({GET_SUBNET: subnet, GET_OFFERINGS: offerings})


def check(one: EksNodeGroup, there: Recorder) -> None:
    record(lambda: check_offered({one.name: one}), there)


def refused(one: EksNodeGroup, there: Recorder) -> str:
    with pytest.raises(ArchshiftError) as error:
        check(one, there)
    assert "\n" not in str(error.value)
    return str(error.value)


def graviton(*types: str, subnets: Iterable[str] = ("subnet-a", "subnet-b"), **more: Any) -> EksNodeGroup:
    return group("graviton", *(types or ("m7g.large",)), subnets=tuple(subnets), **more)


def test_a_type_that_every_zone_offers_is_fine() -> None:
    check(graviton(), ec2(BOTH))


def test_several_types_may_complete_each_other() -> None:
    """EKS starts the first type that a zone has."""
    offered = {("m7g.large", "eu-west-1a"), ("m8g.large", "eu-west-1b")}
    check(graviton("m7g.large", "m8g.large"), ec2(offered))


def test_a_zone_without_the_type_is_told_before_anything_is_made() -> None:
    """The region has the type, so only the zones of the subnets tell it."""
    one = graviton(subnets=("subnet-a", "subnet-b", "subnet-c"))
    assert refused(one, ec2(BOTH)) == (
        "archshift:node_groups.graviton: EC2 does not offer m7g.large in eu-west-1c of subnet-c, so no node "
        f"of the group starts there{WAY_OUT}"
    )


def test_a_group_that_runs_is_warned_of_such_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other zones have nodes, and other subnets would replace it."""
    warnings: list[str] = []
    monkeypatch.setattr(pulumi, "warn", warnings.append)
    check(graviton(subnets=("subnet-a", "subnet-c"), live=live_group()), ec2(BOTH))
    (warning,) = warnings
    assert warning.startswith("archshift:node_groups.graviton: EC2 does not offer m7g.large in eu-west-1c")


def test_a_type_that_a_group_has_already_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS may retire a type; without it in the settings, the group would be replaced."""
    warnings: list[str] = []
    monkeypatch.setattr(pulumi, "warn", warnings.append)
    has = live_group("graviton", "c7gn.large", "m7g.large")
    check(graviton("m7g.large", "c7gn.large", live=has), ec2(BOTH))
    (warning,) = warnings
    assert warning == (
        "archshift:node_groups.graviton: EC2 does not offer c7gn.large in eu-west-1a and eu-west-1b"
    )


@pytest.mark.parametrize("live", [None, live_group()], ids=["new", "made"])
def test_a_type_that_no_zone_offers_is_refused(live: LiveGroup | None) -> None:
    assert refused(graviton("m7g.large", "c7gn.large", live=live), ec2(BOTH)) == (
        f"archshift:node_groups.graviton: EC2 does not offer c7gn.large in eu-west-1a and eu-west-1b{WAY_OUT}"
    )


def test_an_imported_group_and_a_subnet_on_an_outpost_are_not_asked_about() -> None:
    """The one has what it has; the other has the types of its own hardware."""
    nothing = ec2(())
    check(graviton(import_name="old"), nothing)
    check(graviton(subnets=("subnet-outpost",)), nothing)
    assert [token for token, _ in nothing.calls] == [GET_SUBNET]


def test_a_subnet_that_is_not_there_is_named() -> None:
    assert refused(graviton(subnets=("subnet-z",)), ec2(BOTH)) == (
        "archshift:node_groups.graviton: there is no subnet 'subnet-z' in the region of aws:region; correct "
        "archshift:cluster.subnets, the group's subnets or the region"
    )


def test_zones_that_cannot_be_asked_stop_the_run() -> None:
    """Unknown is not offered."""
    words = "api error UnauthorizedOperation: You are not authorized to perform this operation."
    assert refused(graviton(), ec2((), words)) == (
        "archshift:node_groups: the instance types of the zones cannot be read: UnauthorizedOperation: You "
        "are not authorized to perform this operation.; docs/iam.md lists the permissions that archshift "
        "needs"
    )
