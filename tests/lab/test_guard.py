"""The matrix: no way to take x86 away while something needs it gets through.

One cluster and one stack serve the whole file, since nothing may change in it: after each attempt all
x86 nodes and the pods that need them are the same as before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import PROJECT, Lab
from lab.engine import engine_environment
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import (
    NO_CAPACITY,
    NO_CHECK,
    NO_COMPONENT,
    NO_HOOK,
    NO_PROTECT,
    Guarded,
    changed,
    check_row,
    edited,
    guarded_cluster,
    legacy,
    stopped_by,
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def guarded(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The cluster and its stack, up: web on Graviton, legacy (amd64-only) on two x86 nodes."""
    with guarded_cluster(control_plane, registry, push, tmp_path_factory.mktemp("guarded")) as guarded:
        guarded.up()
        # Of three nodes the first two carry it, so that the third is empty.
        guarded.cluster.lab.kubectl("cordon", "x86-2")
        guarded.cluster.apply(legacy(guarded))
        guarded.cluster.wait_until_settled(guarded.namespace)
        guarded.cluster.lab.kubectl("uncordon", "x86-2")
        guarded.up()
        yield guarded


@pytest.fixture(autouse=True)
def unchanged(guarded: Guarded) -> Iterator[None]:
    """Start every attempt from the same place, and assert that it changed nothing of x86."""
    guarded.restore()
    before = guarded.alive()
    assert len(before["nodes"]) == 3
    assert list(before["pods"].values()) == ["Running", "Running"]
    yield
    assert guarded.alive() == before


CHANGES: dict[str, dict[str, Any]] = {
    "remove the group from the config": {"x86": None},
    "rename the group": {"x86": None, "intel": {"instance_type": "m6i.xlarge", "size": 3}},
    "swap its instance type to Graviton": {"x86": {"instance_type": "m7g.xlarge"}},
    "scale it to 0": {"x86": {"size": 0}},
    "scale it to less than what is needed": {"x86": {"size": 1}},
    "taint it": {"x86": {"taints": [{"key": "retired", "effect": "NoSchedule"}]}},
    "relabel it": {"x86": {"labels": {"pool": "other"}}},
}


@pytest.mark.parametrize("attempt", CHANGES)
def test_a_change_of_the_config(guarded: Guarded, attempt: str) -> None:
    """Stopped in the preview and in `up --yes --skip-preview`, with no pack given."""
    guarded.stack.config({"node_groups": changed(guarded, CHANGES[attempt])})
    guarded.record(attempt, guarded.stack.preview(), guarded.stack.up())


def test_the_sentence_says_who_and_what_to_do(guarded: Guarded) -> None:
    """Workload, image, reason and the way out, in one sentence."""
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    run = guarded.stack.preview()
    assert (
        f"x86 capacity stays: 1 workload needs x86: {guarded.namespace}/Deployment/legacy "
        f"({guarded.images['legacy']} is amd64-only: container app: its image has linux/amd64): no x86 node "
        "is left where they can run; give these workloads images for arm64 and what else they need on "
        "Graviton nodes, or remove them (archshift report lists them)"
    ) in run.output


def test_scaling_down_to_what_is_needed_is_no_removal(guarded: Guarded) -> None:
    """Two nodes carry legacy: three to two is the user's business, and only the third is unprotected."""
    protected = {
        one["urn"].rsplit("::", 1)[1]: bool(one.get("protect"))
        for one in guarded.stack.resources()
        if one["type"] == "kubernetes:core/v1:Node"
    }
    assert protected == {
        "x86-0": True,
        "x86-1": True,
        "x86-2": False,
        "graviton-0": False,
        "graviton-1": False,
    }
    fine = guarded.stack.config({"node_groups": changed(guarded, {"x86": {"size": 2}})}).preview()
    assert fine.succeeded, fine.output
    assert fine.changes == {"delete": 1}


def test_by_target(guarded: Guarded) -> None:
    """Deleting one node by its URN, with the config changed to match."""
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    target = f"--target={guarded.urn('x86-0')}"
    guarded.record("delete a node through --target", guarded.stack.up(target), guarded.stack.destroy(target))


def test_with_refresh(guarded: Guarded) -> None:
    """A refresh before the update changes nothing of it."""
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    guarded.record("up --refresh after removing it", guarded.stack.up("--refresh"))


def test_by_the_automation_api(guarded: Guarded) -> None:
    """A program that drives the engine gets the same answer."""
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    script = (
        "import sys; from pulumi import automation as auto\n"
        "stack = auto.select_stack(sys.argv[1], work_dir=sys.argv[2])\n"
        "stack.up(config_file=sys.argv[3], color='never')\n"
    )
    lab = guarded.cluster.lab
    done = subprocess.run(
        [sys.executable, "-c", script, guarded.stack.name, str(PROJECT), str(guarded.stack.config_file)],
        env=engine_environment(lab, guarded.stack.name),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    found = stopped_by(done.stdout + done.stderr)
    assert found, done.stderr
    check_row("Automation API up after removing it", [found])


def test_destroy(guarded: Guarded) -> None:
    guarded.record("destroy", guarded.stack.destroy())
    guarded.record("destroy --run-program", guarded.stack.destroy("--run-program"))


def test_giving_the_workloads_back_keeps_every_node(guarded: Guarded) -> None:
    """The command of docs/guard.md takes the patches alone: no rule of ours is left in a template."""
    gone = guarded.stack.destroy("--run-program", "--target=**WorkloadPatches**")
    assert gone.succeeded, gone.output
    guarded.cluster.wait_until_settled(guarded.namespace)
    spec = guarded.cluster.get("deployment", "web", guarded.namespace)["spec"]["template"]["spec"]
    assert "affinity" not in spec
    guarded.up()


def test_without_protection(guarded: Guarded) -> None:
    """Somebody takes the protection off by hand first; the next update puts it back."""
    guarded.unprotect()
    try:
        guarded.record("state unprotect, then destroy", guarded.stack.destroy())
        guarded.record("state unprotect, then destroy --run-program", guarded.stack.destroy("--run-program"))
        guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
        guarded.record("state unprotect, then remove it", guarded.stack.up())
    finally:
        guarded.restore()
        guarded.up()
    assert "x86-0" in {
        one["urn"].rsplit("::", 1)[1] for one in guarded.stack.resources() if one.get("protect")
    }


def test_an_edited_program(guarded: Guarded) -> None:
    """The program's own check, and the component, are edited away."""
    dropped = edited(guarded, NO_CHECK, NO_COMPONENT)
    guarded.record("edit the program: drop the component", guarded.stack.up(f"--cwd={dropped}"))
    guarded.unprotect()
    try:
        guarded.record(
            "edit the program: drop the component, after state unprotect",
            guarded.stack.up(f"--cwd={dropped}"),
        )
    finally:
        guarded.restore()
        guarded.up()


def test_the_hook_alone(guarded: Guarded) -> None:
    """Without the program's checks, without protection and without a pack, the hook stops every preview."""
    program = edited(guarded, NO_CHECK, NO_CAPACITY, NO_PROTECT)
    guarded.unprotect()
    try:
        for attempt, change in CHANGES.items():
            guarded.stack.config({"node_groups": changed(guarded, change)})
            run = guarded.stack.preview(f"--cwd={program}")
            assert stopped_by(run.output) == "hook", run.output
            guarded.record(f"{attempt} (hook alone)", run)
    finally:
        guarded.restore()
        guarded.up()


def test_protection_alone(guarded: Guarded) -> None:
    """Without the program's checks, without hooks and without a pack, the engine refuses whatever would
    delete or replace a node that is needed. Taints and labels are updates, which protection allows.
    """
    program = edited(guarded, NO_CHECK, NO_CAPACITY, NO_HOOK)
    unhooked = guarded.stack.up(f"--cwd={program}")
    assert unhooked.succeeded, unhooked.output
    try:
        for attempt in [name for name in CHANGES if name not in ("taint it", "relabel it")]:
            guarded.stack.config({"node_groups": changed(guarded, CHANGES[attempt])})
            run = guarded.stack.preview(f"--cwd={program}")
            assert stopped_by(run.output) == "protect", run.output
            guarded.record(f"{attempt} (protection alone)", run)
    finally:
        guarded.restore()
        guarded.up()


def test_the_policy_pack_alone(guarded: Guarded, tmp_path: Path) -> None:
    """Without the program's checks, hooks and protection, and with the rule about protection off, the rule
    about capacity fails every preview that would leave too little. It counts what the update makes too, so
    a renamed group passes it, and it knows nothing of a workload's own selectors.
    """
    program = edited(guarded, NO_CHECK, NO_CAPACITY, NO_PROTECT, NO_HOOK)
    bare = guarded.stack.up(f"--cwd={program}")
    assert bare.succeeded, bare.output
    settings = tmp_path / "pack.json"
    settings.write_text(json.dumps({"x86-node-group-protected": "disabled"}))
    pack = [f"--policy-pack={PROJECT / 'policies'}", f"--policy-pack-config={settings}"]
    try:
        unchanged = guarded.stack.preview(f"--cwd={program}", *pack)
        assert unchanged.succeeded, unchanged.output
        for attempt in [name for name in CHANGES if name not in ("rename the group", "relabel it")]:
            guarded.stack.config({"node_groups": changed(guarded, CHANGES[attempt])})
            run = guarded.stack.preview(f"--cwd={program}", *pack)
            assert stopped_by(run.output) == "policy pack", run.output
            assert "x86-capacity-for-amd64-images" in run.output
            guarded.record(f"{attempt} (policy pack alone)", run)
    finally:
        guarded.restore()
        guarded.up()
