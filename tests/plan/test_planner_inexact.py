"""A rollout that left pods on the wrong side is not repeated for nothing."""

from dataclasses import replace

import pytest

from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import Inexact
from archshift.nodes.groups import Node
from archshift.plan.model import PlannedWorkload
from archshift.plan.planner import make_plan
from tests.build import BOTH_SIDES, MANAGER, big_node, workload
from tests.fakes import Live

MORE = (*BOTH_SIDES, big_node("arm-1", "arm64", zone="a"))


def row_of(
    live: Live, ratio: float, graviton: int, note: Inexact | None = None, nodes: tuple[Node, ...] = BOTH_SIDES
) -> PlannedWorkload:
    one = read_workload("Deployment", live.json(), MANAGER)
    one = replace(one, template=replace(one.template, inexact=note))
    pods = {(one.key, "arm64"): graviton, (one.key, "amd64"): one.replicas - graviton}
    return make_plan(
        arm_ratio=ratio, inventory=Inventory(workloads={one.key: one}, nodes=nodes, pods=pods)
    ).workloads[0]


@pytest.fixture
def live() -> Live:
    """Six pods after a step to 0.5."""
    live = Live("Deployment", workload(replicas=6))
    row = row_of(live, 0.5, 0)
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    return live


def revision(live: Live) -> str:
    return read_workload("Deployment", live.json(), MANAGER).template.revision


def test_an_outcome_that_was_noted_is_not_tried_again(live: Live) -> None:
    """The row stays inexact and says why; the patch is the same, so the update changes nothing."""
    exact = row_of(live, 0.5, 3)
    row = row_of(live, 0.5, 2, Inexact(revision(live), 2, 1))
    assert (row.restarts, row.exact, row.patch) == (False, False, exact.patch)
    assert row.reason == (
        "the last rollout could not place 1 of its pods on Graviton; archshift tries again when there are "
        "more Graviton nodes"
    )


@pytest.mark.parametrize(
    ("graviton", "noted", "nodes"),
    [(2, 2, MORE), (1, 2, BOTH_SIDES), (4, 2, BOTH_SIDES)],
    ids=["another node", "a pod was lost", "too many now"],
)
def test_another_situation_is_tried(live: Live, graviton: int, noted: int, nodes: tuple[Node, ...]) -> None:
    row = row_of(live, 0.5, graviton, Inexact(revision(live), noted, 1), nodes)
    assert (row.restarts, row.reason) == (True, "")


def test_a_node_that_was_cordoned_then_is_another_node(live: Live) -> None:
    """The rollout ended while no Graviton node accepted pods."""
    assert row_of(live, 0.5, 2, Inexact(revision(live), 2, 0)).restarts
    cordoned = (BOTH_SIDES[0], replace(BOTH_SIDES[1], schedulable=False))
    assert not row_of(live, 0.5, 2, Inexact(revision(live), 2, 0), cordoned).restarts


def test_the_note_of_an_older_revision_means_nothing(live: Live) -> None:
    assert row_of(live, 0.5, 2, Inexact("another.1", 2, 1)).restarts
    assert row_of(live, 0.5, 2).restarts


def test_another_ratio_is_a_new_placement(live: Live) -> None:
    row = row_of(live, 1.0, 2, Inexact(revision(live), 2, 1))
    assert (row.restarts, row.wanted) == (True, 6)


@pytest.mark.parametrize("text", ["", "a.1", "a.1;2", "a.1;2;x", "a.1;2;3;4", "a.1;-2;3"])
def test_a_note_that_is_not_archshifts_is_no_note(text: str) -> None:
    assert Inexact.parse(text) is None


def test_a_note_reads_as_it_was_written() -> None:
    note = Inexact("0a1b2c3d.4+", 2, 3)
    assert Inexact.parse(str(note)) == note
