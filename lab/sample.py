"""The lab's stack and its sample workloads, as `lab up` prepares them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab.control_plane import PROJECT, Lab, LabError, Say

WORKLOADS = Path(__file__).resolve().parent / "workloads"
# Files that end so are applied server-side by this field manager, as its client would.
_HELM = "helm"


def prepare_stack(lab: Lab, say: Say) -> None:
    """Makes the stack in the lab's own backend, where it is absent."""
    if any((lab.directory / "state").glob(f".pulumi/stacks/*/{lab.stack}.json")):
        return
    say(f"making the stack {lab.stack}")
    # `stack init` rewrites the stack's configuration file, which is tracked: a copy is enough
    # to make a stack of the same project and the same encryption salt.
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Pulumi.yaml", f"Pulumi.{lab.stack}.yaml"):
            shutil.copy(PROJECT / name, folder)
        made = lab.run("pulumi", "stack", "init", lab.stack, "--non-interactive", cwd=Path(folder))
    if made.returncode != 0:
        raise LabError(f"The stack {lab.stack} could not be made: {made.stderr.strip()}")


def load_workloads(lab: Lab, say: Say, *, again: bool = False) -> None:
    """Applies the sample workloads once, so that what a user changed in the lab stays changed."""
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
