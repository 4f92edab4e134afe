"""Where volumes bind pods, and who can use them at the same time."""

from typing import Any

import pytest

from archshift.cluster.scheduling import Unmet
from archshift.cluster.volumes import Claims, Volumes, read_volumes
from archshift.common.kubernetes import ZONE_LABEL
from tests.build import Json, plan_node

ZONE_A, ZONE_C = (plan_node(f"node-{zone}", labels={ZONE_LABEL: zone}) for zone in ("a", "c"))


def claim(name: str, volume: str = "", *modes: str, storage_class: str | None = "gp3") -> Json:
    spec = {"volumeName": volume, "storageClassName": storage_class, "accessModes": list(modes)}
    return {"metadata": {"namespace": "shop", "name": name}, "spec": spec}


def volume(name: str = "pv", *, zone_key: str = "", labels: Json | None = None, **spec: Any) -> Json:
    if zone_key:
        expression = {"key": zone_key, "operator": "In", "values": ["c"]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"storageClassName": "gp3", **spec}}


def storage_class(name: str = "gp3", *, default: bool = False, **fields: Any) -> Json:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": "ebs.csi.aws.com",
        **fields,
    }


def topology(*values: str, key: str = ZONE_LABEL) -> Json:
    return {"matchLabelExpressions": [{"key": key, "values": list(values)}]}


def takes(volumes: Volumes, *names: str) -> list[bool]:
    """Say whether a node of zone a and a node of zone c can use these claims."""
    conditions = volumes.of_claims("shop", names)
    return [not any(condition.unmet_by(node) for condition in conditions) for node in (ZONE_A, ZONE_C)]


@pytest.mark.parametrize(
    "bound",
    [
        volume(zone_key=ZONE_LABEL),
        volume(zone_key="topology.ebs.csi.aws.com/zone"),
        volume(zone_key="failure-domain.beta.kubernetes.io/zone"),
        volume(labels={ZONE_LABEL: "b__c"}, awsElasticBlockStore={}),
        volume(labels={"failure-domain.beta.kubernetes.io/zone": "c"}),
    ],
    ids=["standard", "csi-driver", "old-label", "labels", "one-old-label"],
)
def test_a_bound_claim_follows_its_volume(bound: Json) -> None:
    """Whatever the driver calls the zone."""
    volumes = read_volumes([claim("data", "pv")], [bound], [], [])
    assert takes(volumes, "data") == [False, True]


def test_a_local_volume_is_on_one_node() -> None:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["x-0"]}
    local = volume(
        local={"path": "/mnt"},
        nodeAffinity={"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
    )
    (condition,) = read_volumes([claim("data", "pv")], [local], [], []).of_claims("shop", ["data"])
    assert condition.unmet == Unmet("volume", "data", "x-0")
    assert condition.unmet_by(plan_node("x-1")) == condition.unmet
    assert condition.unmet_by(plan_node("x-0", labels={"kubernetes.io/hostname": "x-0"})) is None


@pytest.mark.parametrize(
    ("claims", "volumes", "classes"),
    [
        ([claim("data", "pv")], [volume(hostPath={"path": "/mnt"})], []),
        ([claim("data", "pv")], [volume(nodeAffinity={})], []),
        ([claim("data", "gone")], [], [storage_class()]),
        ([claim("data")], [], [storage_class()]),
        ([claim("data", storage_class=None)], [], []),
        ([], [], []),
    ],
    ids=["host-path", "no-affinity", "lost", "unbound", "no-class", "missing"],
)
def test_what_binds_nothing(claims: list[Json], volumes: list[Json], classes: list[Json]) -> None:
    assert takes(read_volumes(claims, volumes, classes, []), "data") == [True, True]


def test_an_unbound_claim_follows_its_class() -> None:
    """The default class, too, if the claim names none. An empty name means no class."""
    classes = [
        storage_class("zonal", default=True, allowedTopologies=[topology("c", "d"), topology("e")]),
        storage_class("ebs", allowedTopologies=[topology("c", key="topology.ebs.csi.aws.com/zone")]),
        storage_class("anywhere"),
    ]
    claims = [
        claim("named", storage_class="zonal"),
        claim("default", storage_class=None),
        claim("ebs", storage_class="ebs"),
        claim("anywhere", storage_class="anywhere"),
        claim("none", storage_class=""),
    ]
    volumes = read_volumes(claims, [], classes, [])
    assert [takes(volumes, name) for name in ("named", "default", "ebs")] == [[False, True]] * 3
    assert [takes(volumes, name) for name in ("anywhere", "none")] == [[True, True]] * 2


def test_a_class_without_provisioner_offers_its_free_volumes() -> None:
    local = storage_class("local", provisioner="kubernetes.io/no-provisioner")
    free = volume("free", zone_key=ZONE_LABEL, storageClassName="local")
    free["status"] = {"phase": "Available"}
    used = {**volume("used", storageClassName="local", claimRef={"name": "x"}), "status": {"phase": "Bound"}}
    wanted = [claim("data", storage_class="local")]
    assert takes(read_volumes(wanted, [free, used], [local], []), "data") == [False, True]
    anywhere = {**volume("other", storageClassName="local"), "status": {"phase": "Available"}}
    assert takes(read_volumes(wanted, [free, anywhere], [local], []), "data") == [True, True]
    assert takes(read_volumes(wanted, [used], [local], []), "data") == [True, True]


def test_each_pod_of_a_stateful_set_has_its_own_claims() -> None:
    """By its number; a claim that does not exist yet follows its class."""
    volumes = read_volumes(
        [claim("data-db-1", "pv"), claim("data-db-2", "free")],
        [volume(zone_key=ZONE_LABEL), volume("free")],
        [storage_class("zonal", allowedTopologies=[topology("a")])],
        [],
    )
    claims = Claims(own=(("data", "gp3"), ("log", None)))
    each = volumes.of_each_pod("shop", "db", claims, 3)
    assert [[condition.unmet.name for condition in pod] for pod in each] == [[], ["data-db-1"], []]
    later = Claims(own=(("data", "zonal"),), first=1)
    each = volumes.of_each_pod("shop", "db", later, 3)
    assert [[condition.unmet for condition in pod] for pod in each] == [
        [Unmet("volume", "data-db-1", "c")],
        [],
        [Unmet("volume", "data-db-3", "a")],
    ]
    assert volumes.of_each_pod("shop", "other", claims, 3) == ()
    assert volumes.of_each_pod("shop", "db", Claims(), 3) == ()
    parked = volumes.of_each_pod("shop", "db", later, 0)
    assert [[condition.unmet.name for condition in pod] for pod in parked] == [["data-db-1"]]


def test_a_volume_that_is_made_with_its_pod_follows_its_class() -> None:
    volumes = read_volumes([], [], [storage_class("zonal", allowedTopologies=[topology("c")])], [])
    (condition,) = volumes.of_all_pods("shop", Claims(generic=(("cache", "zonal"), ("tmp", "gone"))))
    assert condition.unmet == Unmet("volume", "cache", "c")


@pytest.mark.parametrize(
    ("modes", "spec", "sharing"),
    [
        (["ReadWriteOncePod"], {"csi": {"driver": "ebs.csi.aws.com"}}, "pod"),
        (["ReadWriteOncePod"], {"csi": {"driver": "efs.csi.aws.com"}}, "pod"),
        (["ReadWriteOnce"], {"csi": {"driver": "ebs.csi.aws.com"}}, "node"),
        (["ReadWriteOnce"], {"awsElasticBlockStore": {"volumeID": "vol-1"}}, "node"),
        (["ReadWriteOnce"], {"csi": {"driver": "efs.csi.aws.com"}}, "all"),
        (["ReadWriteOnce"], {"nfs": {"server": "nfs"}}, "all"),
        (["ReadWriteOnce", "ReadWriteMany"], {"csi": {"driver": "ebs.csi.aws.com"}}, "all"),
        (["ReadOnlyMany"], {"csi": {"driver": "ebs.csi.aws.com"}}, "all"),
        (["ReadWriteMany"], {"csi": {"driver": "efs.csi.aws.com"}}, "all"),
    ],
)
def test_who_can_use_a_volume_at_the_same_time(modes: list[str], spec: Json, sharing: str) -> None:
    """A driver without attachment lets every node use a volume, whatever its mode says."""
    drivers = [
        {"metadata": {"name": "efs.csi.aws.com"}, "spec": {"attachRequired": False}},
        {"metadata": {"name": "ebs.csi.aws.com"}, "spec": {"attachRequired": True}},
    ]
    volumes = read_volumes([claim("data", "pv", *modes)], [volume(**spec)], [], drivers)
    assert volumes.sharing("shop", "data") == sharing
    assert volumes.sharing("shop", "missing") == "all"
