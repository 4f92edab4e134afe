"""Prepares the lab's stack and its sample workloads, for `lab up`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab.control_plane import PROJECT, Lab, LabError, Say

WORKLOADS = Path(__file__).resolve().parent / "workloads"
# Files with this suffix are applied server-side under this field manager, as Helm does.
_HELM = "helm"


def prepare_stack(lab: Lab, say: Say) -> None:
    """Creates the stack in the lab's own backend, if it is missing."""
    if any((lab.directory / "state").glob(f".pulumi/stacks/*/{lab.stack}.json")):
        return
    say(f"creating the stack {lab.stack}")
    # `stack init` rewrites the stack's configuration file, which is tracked. So run it on a copy: the stack
    # then has the same project and the same encryption salt.
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Pulumi.yaml", f"Pulumi.{lab.stack}.yaml"):
            shutil.copy(PROJECT / name, folder)
        made = lab.run("pulumi", "stack", "init", lab.stack, "--non-interactive", cwd=Path(folder))
    if made.returncode != 0:
        raise LabError(f"pulumi could not create the stack {lab.stack}: {made.stderr.strip()}")


def load_workloads(lab: Lab, say: Say, *, again: bool = False) -> None:
    """Applies the sample workloads only once, so that a user's changes in the lab stay."""
    loaded = lab.directory / "run" / "workloads-loaded"
    if loaded.exists() and not again:
        return
    say("loading the sample workloads")
    lab.kubectl("apply", f"--filename={WORKLOADS / 'namespaces.yaml'}")
    others = sorted(path for path in WORKLOADS.glob("*.yaml") if path.name != "namespaces.yaml")
    for path in others:
        by_helm = path.suffixes[:1] == [f".{_HELM}"]
        manager = ["--server-side", f"--field-manager={_HELM}"] if by_helm else []
        lab.kubectl("apply", *manager, f"--filename={path}")
    loaded.touch()
