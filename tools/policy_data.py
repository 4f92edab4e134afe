"""Writes policies/instance_types.json from archshift's table: ``python -m tools.policy_data``.

A published policy pack contains only its own folder, so it gets a copy of the program's data.
"""

import json
from pathlib import Path

from archshift.nodes.instance_types import INSTANCE_TYPES

FILE = Path(__file__).resolve().parent.parent / "policies" / "instance_types.json"


def instance_types() -> str:
    """Return the file's text: type to architecture and allocatable resources, with a type per line."""
    lines = [
        f"{json.dumps(name)}: "
        + json.dumps(
            {
                "architecture": kind.architecture,
                "vcpu": kind.vcpu,
                "millicpu": kind.allocatable_millicpu,
                "memory": kind.allocatable_memory,
                "pods": kind.pods,
            }
        )
        for name, kind in sorted(INSTANCE_TYPES.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(instance_types())
