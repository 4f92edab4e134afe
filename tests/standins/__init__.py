"""Stand-ins for the plugins of AWS, which cannot be built here; the real engine talks to them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

_PROJECT = Path(__file__).parent.parent.parent


def install_plugins(folder: Path, *names: str) -> Path:
    """Write the plugins' commands into a folder, for PATH; returns it.

    Args:
        folder: Made if it is not there.
        names: Modules of this package: ``aws``, ``eks``.
    """
    # Imported here: the plugins import this package too.
    from tests.standins.aws import INPUTS, declared_inputs

    folder.mkdir(exist_ok=True)
    inputs = folder / "aws-inputs.json"
    inputs.write_text(json.dumps(asdict(declared_inputs())))
    for name in names:
        plugin = folder / f"pulumi-resource-{name}"
        plugin.write_text(
            f"#!/bin/sh\ncd {_PROJECT}\n"
            f'{INPUTS}={inputs} exec {sys.executable} -m tests.standins.{name} "$@"\n'
        )
        plugin.chmod(0o755)
    return folder
