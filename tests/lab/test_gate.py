"""A step up and the gate: the program warns, the policy pack refuses, and a pass lets both be silent."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import PROJECT
from lab.stack import copy_project_file
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups

FILE = "gates/proof.json"
WARNING = "arm_ratio 0.5 is a step up, and the gate has no pass for 0.2: "
RULE = "but it needs a pass of the gate for step 0.2: "


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program with a folder for the gate's evidence."""
    folder = tmp_path / "program"
    (folder / "gates").mkdir(parents=True)
    shutil.copy(PROJECT / "__main__.py", folder)
    copy_project_file(folder)
    return folder


def keep_evidence(program: Path, name: str, **change: Any) -> None:
    """Write the evidence as the gate does; a pass of a minute ago for 0.2."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    value = {"stack": name, "arm_ratio": 0.2, "verdict": "pass", "at": at.isoformat(), "reasons": []}
    (program / FILE).write_text(json.dumps({**value, **change}))


def test_a_step_up_waits_for_the_gates_pass(
    cluster: Cluster, stack: Stack, namespace: str, program: Path, tmp_path: Path
) -> None:
    """From 0.2 to 0.5 without evidence, on a hold, on evidence of another ratio: the program warns and goes
    on, the pack stops the update before a pod moves. On a pass the step is taken, and a hold of what is
    reached stops no later update.
    """
    settings = tmp_path / "pack.json"
    # The stack's images are names that nobody audits; this is about the step.
    settings.write_text(json.dumps({"all": "disabled", "arm-ratio-step": "mandatory"}))
    pack = [f"--policy-pack={PROJECT / 'policies'}", f"--policy-pack-config={settings}"]
    here = f"--cwd={program}"
    cluster.apply(deployment("web", 10, namespace))
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.2"})
    stack.config({"gate": {"evidence": FILE}})
    first = stack.up(here, *pack)
    assert first.succeeded, first.output
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 2}

    stack.config({"arm_ratio": "0.5"})
    for evidence, why in (
        (None, f"there is no {FILE}"),
        ({"verdict": "hold", "reasons": ["p95 is 1.4x"]}, "it says hold"),
        ({"arm_ratio": 0.5}, "it is about arm_ratio 0.5"),
        ({"stack": "other"}, "it is about the stack"),
    ):
        if evidence is not None:
            keep_evidence(program, stack.name, **evidence)
        refused = stack.preview(here, *pack)
        assert refused.exit_code != 0
        said = " ".join(refused.output.split())
        assert WARNING + why in said
        assert RULE + why in said
    warned = stack.preview(here)
    assert warned.succeeded, warned.output
    assert WARNING in " ".join(warned.output.split())
    # As a person runs it: the preview stops the update.
    update = ["pulumi", "up", "--yes", "--non-interactive", f"--stack={stack.name}"]
    stopped = cluster.lab.run(*update, f"--config-file={stack.config_file}", *pack, cwd=program)
    assert stopped.returncode != 0
    assert RULE + why in " ".join((stopped.stdout + stopped.stderr).split())
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 2}

    keep_evidence(program, stack.name)
    allowed = stack.preview(here, *pack)
    assert allowed.succeeded, allowed.output
    passed = stack.up(here, *pack)
    assert passed.succeeded, passed.output
    assert "the gate has no pass" not in passed.output
    assert "needs a pass of the gate" not in passed.output
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 5}

    keep_evidence(program, stack.name, arm_ratio=0.5, verdict="hold")
    held = stack.preview(here, *pack)
    assert held.succeeded, held.output
    assert "the gate has no pass" not in held.output
    assert "needs a pass of the gate" not in held.output
