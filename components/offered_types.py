"""Whether EC2 offers the instance types of new node groups in the zones where their nodes start."""

from collections.abc import Iterable, Mapping
from typing import Final

import pulumi_aws as aws

from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import EksNodeGroup
from components import engine_text
from components.cluster import explain, is_missing

_KEY: Final = "archshift:node_groups"
_WAY_OUT: Final = (
    "change the group's instance_types or subnets, or archshift:graviton_families if the group is a twin"
)


def check_offered(groups: Mapping[str, EksNodeGroup]) -> None:
    """Check that the zones of the groups' subnets offer their instance types.

    A region may offer a type that one of its zones lacks, most often a new type. EKS says so only after
    minutes, when no node starts there. An imported group has the types that it has. For a group that an
    earlier update made, a zone without its types is a warning, and so is a type that it has already.

    Raises:
        ArchshiftError: No zone of a group offers a type that is new to it; a zone offers no type of a new
            group; a subnet does not exist; or AWS refuses.
    """
    made = [group for group in groups.values() if not group.import_name and group.instance_types]
    zones = _zones(made)
    if not zones:
        return
    offered = _offered({kind.name for group in made for kind in group.instance_types}, set(zones.values()))
    for group in made:
        types = [kind.name for kind in group.instance_types]
        subnets = [subnet for subnet in group.subnets if subnet in zones]
        nowhere = [
            kind for kind in types if subnets and not any((kind, zones[one]) in offered for one in subnets)
        ]
        without = [
            subnet for subnet in subnets if not any((kind, zones[subnet]) in offered for kind in types)
        ]
        problem = ""
        if nowhere:
            problem = _problem(group, [zones[subnet] for subnet in subnets], nowhere)
        elif without:
            places = [f"{zones[subnet]} of {subnet}" for subnet in without]
            problem = f"{_problem(group, places, types)}, so no node of the group starts there"
        # Its nodes run, and other types would replace it.
        as_it_is = group.live is not None and {*(group.live.instance_types or ())} == {*types}
        if problem and (not group.live or (nowhere and not as_it_is)):
            raise ArchshiftError(problem, _WAY_OUT)
        if problem:
            engine_text.warn(problem)


def _problem(group: EksNodeGroup, places: Iterable[str], types: Iterable[str]) -> str:
    where, what = " and ".join(dict.fromkeys(places)), " and ".join(types)
    return f"{_KEY}.{group.name}: EC2 does not offer {what} in {where}"


def _zones(groups: Iterable[EksNodeGroup]) -> dict[str, str]:
    """Return the zone of each subnet, by ID; without subnets on an Outpost, whose hardware decides."""
    zones = {}
    asked = {subnet: group.name for group in groups for subnet in group.subnets}
    for subnet, group in asked.items():
        try:
            described = aws.ec2.get_subnet(id=subnet)
        except Exception as error:  # the SDK raises nothing narrower
            if is_missing(error) or "no matching EC2 Subnet found" in str(error):
                raise ArchshiftError(
                    f"{_KEY}.{group}: there is no subnet {subnet!r} in the region of aws:region",
                    "correct archshift:cluster.subnets, the group's subnets or the region",
                ) from None
            raise explain(error, f"{_KEY}.{group}: the subnet {subnet!r} cannot be read") from None
        if not described.outpost_arn:
            zones[subnet] = described.availability_zone
    return zones


def _offered(types: set[str], zones: set[str]) -> set[tuple[str, str]]:
    """Return each pair of an instance type and a zone that offers it."""
    only = [
        aws.ec2.GetInstanceTypeOfferingsFilterArgs(name="instance-type", values=sorted(types)),
        aws.ec2.GetInstanceTypeOfferingsFilterArgs(name="location", values=sorted(zones)),
    ]
    try:
        found = aws.ec2.get_instance_type_offerings(filters=only, location_type="availability-zone")
    except Exception as error:  # the SDK raises nothing narrower
        raise explain(error, f"{_KEY}: the instance types of the zones cannot be read") from None
    return set(zip(found.instance_types, found.locations, strict=True))
