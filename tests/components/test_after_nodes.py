"""Resources that wait for nodes without a dependency in the state."""

import time
from typing import Any

import pulumi

from components.after_nodes import after
from tests.components.recorder import Monitor, Recorder, record

NODE = "kubernetes:core/v1:Node"
OTHER = "kubernetes:core/v1:Namespace"


def slowly(_: pulumi.runtime.MockResourceArgs) -> dict[str, Any]:
    time.sleep(0.3)
    return {}


def registered(*, waits: bool) -> Monitor:
    """What is registered by a program whose nodes take a while."""

    def program() -> None:
        nodes = [pulumi.CustomResource(NODE, f"node-{number}") for number in range(3)]
        other = pulumi.CustomResource(OTHER, "other")
        options = pulumi.ResourceOptions(depends_on=after(nodes if waits else (), [other]))
        component = pulumi.ComponentResource("test:index:Component", "component", opts=options)
        pulumi.CustomResource(OTHER, "child", opts=pulumi.ResourceOptions(parent=component))

    return record(program, Recorder({NODE: slowly}))


def test_a_component_comes_after_the_nodes_and_its_children_too() -> None:
    """The engine's state has a dependency on what is always there, and none on the nodes."""
    done = registered(waits=True)
    names = [one.name for one in done.registered]
    assert sorted(names[-2:]) == ["child", "component"]
    (component,) = done.of("test:index:Component")
    assert [urn.rpartition("::")[2] for urn in component.request.dependencies] == ["other"]
    children = [one for one in done.registered if one.name == "child"]
    assert not children[0].request.dependencies


def test_without_nodes_nothing_is_waited_for() -> None:
    names = [one.name for one in registered(waits=False).registered]
    assert names.index("component") < names.index("node-0")
