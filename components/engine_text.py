"""Text for the engine: its log, its errors and its state.

Reasons and names come from clusters, registries and Prometheus. The engine prints log lines as they are, and
its protocol refuses lone surrogates with a traceback. So all text passes ``printable`` here first.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line, printable_json


def info(text: str, *, ephemeral: bool = False) -> None:
    """Log a line. An ephemeral line is only shown while the engine works."""
    if ephemeral:
        pulumi.info(one_line(text), ephemeral=True)
    else:
        pulumi.info(one_line(text))


def warn(text: str) -> None:
    """Log a warning."""
    pulumi.warn(one_line(text))


def run_error(*errors: object) -> pulumi.RunError:
    """Return the error that stops the program, a line for each; the engine prints it without a traceback."""
    lines: list[object] = []
    for error in errors:
        lines += error.errors if isinstance(error, ArchshiftError) else [error]
    return pulumi.RunError("\n".join(one_line(str(line)) for line in lines))


def outputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource's outputs as the state may keep them."""
    return {name: printable_json(value) for name, value in values.items()}
