"""What the last update of this stack left in the state, as the engine tells it to the program."""

import time
from collections.abc import Mapping
from typing import Any, Final

import pulumi

from archshift.common.errors import ArchshiftError
from archshift.common.polling import Polling
from archshift.common.text import one_line

_PATIENCE_SECONDS: Final = 10.0


def stack_outputs() -> Mapping[str, Any]:
    """Return the outputs that the stack exported; empty before its first update.

    Raises:
        ArchshiftError: The engine cannot read them.
    """
    return _read("readStackOutputs", "name")


def resource_outputs(kind: str) -> dict[str, Mapping[str, Any]]:
    """Return the outputs of the stack's resources of a type, by name.

    Raises:
        ArchshiftError: The engine cannot read them.
    """
    found = _read("readStackResourceOutputs", "stackName")
    return {
        urn.rpartition("::")[2]: resource["outputs"]
        for urn, resource in found.items()
        if resource["type"] == kind
    }


def _read(function: str, argument: str) -> Mapping[str, Any]:
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    polling = Polling(time.monotonic() + _PATIENCE_SECONDS)
    while True:
        try:
            answer = pulumi.runtime.invoke(f"pulumi:pulumi:{function}", {argument: name}).value
        except Exception as error:  # the SDK raises nothing narrower
            if polling.late:
                raise ArchshiftError(
                    f"the engine cannot read the outputs of the stack {name}: {one_line(error)}",
                    "check the login to the state's backend",
                ) from None
        else:
            outputs: Mapping[str, Any] = answer.get("outputs") or {}
            return outputs
        # With its state in files, the engine may just write the file that it reads here.
        polling.pause()
