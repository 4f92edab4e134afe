"""Recorded registrations: what a program asks the engine for, without an engine."""

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pulumi
import pulumi.runtime
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_root_resource


@dataclass(frozen=True)
class Registration:
    """One resource as it was registered.

    Attributes:
        type: Its type token.
        name: Its name.
        inputs: Its inputs, with the names that providers see.
        request: The whole request to the engine: parent, provider, hooks and other options.
    """

    type: str
    name: str
    inputs: dict[str, Any]
    request: Any

    @property
    def parent(self) -> str:
        """Name of the parent; empty for none."""
        return str(self.request.parent).rpartition("::")[2]


class Recorder(pulumi.runtime.Mocks):
    """Answers the engine's questions; the outputs of a resource are its inputs."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Say yes."""
        return f"{args.name}-id", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        """Nothing here calls functions."""
        raise AssertionError(f"unexpected call of {args.token}")


class Monitor(MockMonitor):
    """Keeps every request, because the mocks see neither parents nor hooks."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__(Recorder())
        self.registered: list[Registration] = []
        self.outputs: dict[str, dict[str, Any]] = {}
        self.exports: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        """Record a registration."""
        base: Any = super()
        answer = base.RegisterResource(request)
        if request.type == "pulumi:pulumi:Stack":
            return answer
        inputs = pulumi.runtime.rpc.deserialize_properties(request.object)
        self.registered.append(Registration(request.type, request.name, inputs, request))
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        """Record the outputs of a component, by its name."""
        name = request.urn.rpartition("::")[2]
        self.outputs[name] = pulumi.runtime.rpc.deserialize_properties(request.outputs)
        base: Any = super()
        return base.RegisterResourceOutputs(request)

    def of(self, type_name: str) -> list[Registration]:
        """The registrations of a type."""
        return [one for one in self.registered if one.type == type_name]


def record(program: Callable[[], object]) -> Monitor:
    """Run a program to its end; what it raises comes through."""
    # In a context of its own: the SDK keeps the stack of the first program in a context variable.
    return contextvars.copy_context().run(_record, program)


def _record(program: Callable[[], object]) -> Monitor:
    # The SDK asks for the thread's loop, which an earlier asyncio.run of any test takes away.
    asyncio.set_event_loop(asyncio.new_event_loop())
    monitor = Monitor()
    pulumi.runtime.set_mocks(monitor.mocks, project="archshift", stack="test", monitor=monitor)
    test: Any = pulumi.runtime.test

    @test  # type: ignore[untyped-decorator]
    def run() -> pulumi.Output[Any]:
        program()
        stack: Any = get_root_resource()
        return pulumi.Output.from_input(stack.outputs).apply(monitor.exports.update)

    async def registered() -> None:
        """A hook is registered with a server of the SDK, which the mocks do not have."""

    with patch(
        "pulumi.resource_hooks.register_resource_hook", lambda _hook: asyncio.ensure_future(registered())
    ):
        run()
    return monitor
