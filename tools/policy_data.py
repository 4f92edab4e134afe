"""Writes policies/instance_types.json from archshift's table: ``python -m tools.policy_data``.

A published policy pack is its folder alone, so it shares the program's data and not its code.
"""

import json
from pathlib import Path

from archshift.nodes.instance_types import INSTANCE_TYPES

FILE = Path(__file__).resolve().parent.parent / "policies" / "instance_types.json"


def instance_types() -> str:
    """Return the file's text: type to architecture and what a node of it can allocate, one type a line."""
    lines = [
        f"{json.dumps(name)}: "
        + json.dumps(
            {
                "architecture": one.architecture,
                "millicpu": one.allocatable_millicpu,
                "memory": one.allocatable_memory,
                "pods": one.pods,
            }
        )
        for name, one in sorted(INSTANCE_TYPES.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(instance_types())
