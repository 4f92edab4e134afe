"""Recorded registrations: what a program asks the engine for, without an engine."""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
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


READ_STACK_OUTPUTS = "pulumi:pulumi:readStackOutputs"
READ_RESOURCE_OUTPUTS = "pulumi:pulumi:readStackResourceOutputs"

Outputs = Callable[[pulumi.runtime.MockResourceArgs], dict[str, Any]]
Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Recorder(pulumi.runtime.Mocks):
    """Answers the engine's questions; the outputs of a resource are its inputs, and what is given.

    Args:
        outputs: Type token to what a provider would add to the inputs.
        answers: Function token to the function; any other call is an error.
    """

    def __init__(
        self, outputs: Mapping[str, Outputs] | None = None, answers: Mapping[str, Answer] | None = None
    ) -> None:
        """Stand in for the engine and its providers."""
        self._outputs = outputs or {}
        self._answers = {
            READ_STACK_OUTPUTS: lambda _: {"outputs": {}},
            READ_RESOURCE_OUTPUTS: lambda _: {"outputs": {}},
            **(answers or {}),
        }
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        more = self._outputs[args.typ](args) if args.typ in self._outputs else {}
        return f"{args.name}-id", {**args.inputs, **more}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        """Answer the calls that the test expects."""
        if args.token not in self._answers:
            raise AssertionError(f"unexpected call of {args.token}")
        self.calls.append((args.token, args.args))
        return self._answers[args.token](args.args)


class Monitor(MockMonitor):
    """Keeps every request, because the mocks see neither parents nor hooks."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.registered: list[Registration] = []
        self.outputs: dict[str, dict[str, Any]] = {}
        self.exports: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
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
        return [one for one in self.registered if one.type == type_name]


def record(program: Callable[[], object], recorder: Recorder | None = None) -> Monitor:
    """Run a program to its end; what it raises comes through."""
    # In a context of its own: the SDK keeps the stack of the first program in a context variable.
    return contextvars.copy_context().run(_record, program, recorder or Recorder())


def _record(program: Callable[[], object], recorder: Recorder) -> Monitor:
    # The SDK asks for the thread's loop, which an earlier asyncio.run of any test takes away.
    asyncio.set_event_loop(asyncio.new_event_loop())
    monitor = Monitor(recorder)
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
