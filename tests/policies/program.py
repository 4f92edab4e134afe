"""A program that registers what a stack's state holds, each resource as a component: no provider is asked.

What a rule sees of a component are its outputs, so that this is the stack to it.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pulumi


def unknown() -> pulumi.Output[Any]:
    """Return an output that a preview does not know."""
    value: asyncio.Future[Any] = asyncio.Future()
    known: asyncio.Future[bool] = asyncio.Future()
    value.set_result(None)
    known.set_result(False)
    return pulumi.Output(set(), value, known)


def register(state: dict[str, Any], unknown_name: str, unknown_property: str) -> None:
    """Register the resources of a state but the stack itself and its providers."""
    for one in state["deployment"]["resources"]:
        if one["type"] == "pulumi:pulumi:Stack" or one["type"].startswith("pulumi:providers:"):
            continue
        name = one["urn"].rpartition("::")[2]
        outputs = dict(one.get("outputs", {}))
        if name == unknown_name:
            outputs[unknown_property] = unknown()
        options = pulumi.ResourceOptions(protect=one.get("protect", False))
        resource = pulumi.ComponentResource(one["type"], name, one.get("inputs", {}), options)
        resource.register_outputs(outputs)


if __name__ == "__main__":
    name, _, property_ = os.environ["PROGRAM_UNKNOWN"].partition(":")
    register(json.loads(Path(os.environ["PROGRAM_STATE"]).read_text()), name, property_)
