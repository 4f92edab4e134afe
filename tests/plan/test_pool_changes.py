"""What an update does to existing NodePools: the nodes that Karpenter replaces, and the owners of fields."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import NodePool
from archshift.nodes.node_pools import LivePool, from_manifest
from archshift.plan.pool_changes import check_owners, replaced, sentence
from tests.build import ARCH, karpenter_node, live_pool

NODES = (
    karpenter_node("x1", "default", "m6i.xlarge"),
    karpenter_node("x2", "default", "m6i.2xlarge"),
    karpenter_node("a1", "default", "m6g.xlarge"),
    karpenter_node("other", "elsewhere", "m6g.xlarge"),
)
OURS = "archshift/prod/pools"


def after(live: LivePool, change: Any = None, **more: Any) -> NodePool:
    """The pool after a change of the live spec."""
    spec = deepcopy(dict(live.spec))
    if change:
        change(spec)
    pool = from_manifest("x86", spec, "amd64", import_name=live.name, **more)
    assert pool is not None
    return pool


def set_requirement(key: str, operator: str, *values: str) -> Any:
    """A change of one requirement."""

    def change(spec: dict[str, Any]) -> None:
        inner = spec["template"]["spec"]
        kept = [entry for entry in inner["requirements"] if entry["key"] != key]
        inner["requirements"] = [*kept, {"key": key, "operator": operator, "values": list(values)}]

    return change


def set_template(part: str, name: str, value: Any) -> Any:
    """A change of one field of the template."""

    def change(spec: dict[str, Any]) -> None:
        spec["template"].setdefault(part, {})[name] = value

    return change


def set_field(name: str, value: Any) -> Any:
    """A change of one field of the spec."""

    def change(spec: dict[str, Any]) -> None:
        spec[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (None, ()),
        (set_requirement(ARCH, "In", "amd64"), ("a1",)),
        (set_requirement(ARCH, "NotIn", "arm64"), ("a1",)),
        (set_requirement("node.kubernetes.io/instance-type", "In", "m6i.xlarge", "m6g.xlarge"), ("x2",)),
        (set_requirement("node.kubernetes.io/instance-type", "NotIn", "m5.large"), ()),
        # A label that no node has: only a new node gets it.
        (set_requirement("example.com/spread", "In", "1", "2"), ("x1", "x2", "a1")),
        (set_requirement("example.com/spread", "NotIn", "1"), ()),
        (set_field("limits", {"cpu": "1"}), ()),
        (set_field("weight", 99), ()),
        (set_field("disruption", {"consolidateAfter": "0s"}), ()),
        (set_template("spec", "expireAfter", "24h"), ("x1", "x2", "a1")),
        (set_template("spec", "terminationGracePeriod", "1h"), ("x1", "x2", "a1")),
        (set_template("spec", "taints", []), ("x1", "x2", "a1")),
        (set_template("spec", "startupTaints", []), ("x1", "x2", "a1")),
        (set_template("metadata", "labels", {"team": "bank"}), ("x1", "x2", "a1")),
        (set_template("metadata", "annotations", {"a": "b"}), ("x1", "x2", "a1")),
        (set_template("metadata", "annotations", {}), ()),
    ],
)
def test_the_nodes_that_karpenter_replaces_are_counted(change: Any, names: tuple[str, ...]) -> None:
    """Each field of the template but the requirements replaces all nodes of the pool; a requirement those
    that do not meet it; limits, weight and disruption none.
    """
    live = live_pool("default", (ARCH, "In", ["amd64", "arm64"]))
    found = replaced(after(live, change), live, NODES)
    assert (found.nodes, found.of) == (names, 3)


@pytest.mark.parametrize("default", ["720h", "336h"])
def test_what_the_api_adds_to_a_spec_is_no_change(default: str) -> None:
    """It writes expireAfter into a spec that does not say it: Karpenter's API and that of Auto Mode their
    own; and an empty list is as none.
    """
    live = live_pool("default", (ARCH, "In", ["amd64"]))
    spec = deepcopy(dict(live.spec))
    spec["template"]["spec"] |= {"expireAfter": default, "taints": []}
    now = replace(live, spec=spec)
    without = deepcopy(spec)
    del without["template"]["spec"]["expireAfter"], without["template"]["spec"]["taints"]
    pool = from_manifest("x86", without)
    assert pool is not None
    assert replaced(pool, now, NODES).nodes == ()
    assert replaced(pool, live, NODES).of == 3
    assert len(replaced(pool, live, NODES).nodes) == 3, "it took Never away"


def test_a_node_that_has_drifted_before_is_not_counted_again() -> None:
    """Karpenter replaces it anyway."""
    live = live_pool("default", ("node.kubernetes.io/instance-type", "In", ["m6i.xlarge", "m6i.2xlarge"]))
    change = set_requirement("node.kubernetes.io/instance-type", "In", "m6i.xlarge")
    assert replaced(after(live, change), live, NODES).nodes == ("x2",)


def test_the_preview_says_numbers_and_reasons() -> None:
    """How many of how many, how many at once, and why; at the takeover also that it replaces none."""
    live = live_pool("default", (ARCH, "In", ["amd64", "arm64"]))
    assert sentence(after(live), live, NODES, OURS) == (
        "x86: archshift takes over the NodePool default and replaces none of its 3 nodes",
        False,
    )
    narrowed = after(live, set_requirement(ARCH, "In", "amd64"))
    assert sentence(narrowed, live, NODES, OURS) == (
        "x86: Karpenter replaces 1 of 3 nodes of the NodePool default (20% at once), because they do not "
        "meet kubernetes.io/arch In amd64",
        True,
    )
    labelled = after(live, set_template("metadata", "labels", {"team": "bank"}))
    said, warns = sentence(labelled, live, NODES, OURS)
    assert said.startswith("x86: Karpenter replaces 3 of 3 nodes of the NodePool default")
    assert said.endswith("because its template has other labels")
    assert warns
    taken = replace(live, managed_fields=({"manager": OURS, "operation": "Apply", "fieldsV1": {}},))
    assert sentence(after(live), taken, NODES, OURS) == ("", False)
    assert (
        "the NodePool default and its 3 nodes stay"
        in sentence(after(live, released=True), taken, NODES, OURS)[0]
    )


def test_fields_of_other_owners_are_named_with_them() -> None:
    """Before anything changes. With force it goes through; what does not change needs no owner."""
    live = live_pool("default", (ARCH, "In", ["amd64", "arm64"]))
    check_owners(after(live), live, OURS)

    def change(spec: dict[str, Any]) -> None:
        set_requirement(ARCH, "In", "amd64")(spec)
        spec["weight"] = 3
        spec["limits"] = {"cpu": "2000", "memory": "1Gi"}
        spec["disruption"]["consolidateAfter"] = "5m"

    with pytest.raises(ArchshiftError) as error:
        check_owners(after(live, change), live, OURS)
    assert str(error.value) == (
        "archshift:node_groups.x86: it changes fields of the NodePool default that belong to others: helm "
        "owns limits.cpu, weight, disruption.consolidateAfter, requirements; change them where the NodePool "
        "is defined, or set force: true for the group"
    )
    check_owners(after(live, change, force=True), live, OURS)
    ours = replace(live, managed_fields=({**live.managed_fields[0], "manager": OURS},))
    check_owners(after(ours, change), ours, OURS)


def test_only_its_owner_removes_a_limit() -> None:
    """Server-side apply never removes it, also with force; the engine takes over what kubectl owns."""
    live = live_pool("default", (ARCH, "In", ["amd64"]))
    without = set_field("limits", {})
    for force in (False, True):
        with pytest.raises(
            ArchshiftError, match=r"only its owner can remove a limit of the NodePool default: helm"
        ):
            check_owners(after(live, without, force=force), live, OURS)
    by_hand = replace(live, managed_fields=({**live.managed_fields[0], "manager": "kubectl-edit"},))
    check_owners(after(by_hand, without, force=True), by_hand, OURS)
    with pytest.raises(ArchshiftError, match=r"kubectl-edit owns limits\.cpu"):
        check_owners(after(by_hand, without), by_hand, OURS)
