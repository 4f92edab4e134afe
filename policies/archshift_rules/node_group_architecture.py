"""node-group-architecture: everything that says a group's architecture says the same one."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from archshift_rules.capacity import (
    AMD64,
    ARCH_LABELS,
    ARM64,
    INSTANCE_TYPE_LABEL,
    NODE,
    NODE_GROUP,
    ami_architecture,
    instance_types,
    is_node_pool,
    launch_template,
    pool_choices,
    types_of,
)
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation

_WAY_OUT: Final = "A group has one architecture: make another group for the other one."


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the groups whose instance types, AMI, labels and launch template disagree."""
    if not stack.is_archshift:
        return
    for one in stack.resources.values():
        if one.type == NODE:
            sayings = _of_node(one)
        elif one.type == NODE_GROUP:
            sayings = _of_node_group(one, stack)
        elif is_node_pool(one):
            sayings = _of_node_pool(one)
        else:
            continue
        found = list(sayings)
        for text, architecture in found:
            if architecture not in (AMD64, ARM64):
                yield Violation(f"{one.name}: {text}. {_WAY_OUT}", one.urn)
        known = [(text, architecture) for text, architecture in found if architecture in (AMD64, ARM64)]
        if len({architecture for _, architecture in known}) > 1:
            said = "; ".join(f"{text} ({architecture})" for text, architecture in known)
            yield Violation(f"{one.name} says two architectures: {said}. {_WAY_OUT}", one.urn)


# Each of these yields (what says it, the architecture that it says); an architecture that is
# none makes what says it a violation.
Sayings = Iterator[tuple[str, str]]


def _types(names: tuple[str, ...], where: str) -> Sayings:
    for name in names:
        if name in instance_types():
            yield f"{where} {name}", instance_types()[name].architecture
        else:
            yield (
                f"{where} {name} is not in the pack's instance_types.json, so its architecture is unknown",
                "",
            )


def _labels(labels: Mapping[str, Any], where: str) -> Sayings:
    for name in ARCH_LABELS:
        value = labels.get(name)
        if value in (AMD64, ARM64):
            yield f"{where} {name}", value
        elif value is not None:
            yield f"{where} {name} is {value!r}, which is neither {AMD64} nor {ARM64}", ""


def _of_node(one: Resource) -> Sayings:
    labels = one.mapping("metadata", "labels")
    if ARCH_LABELS[0] not in labels:
        yield f"it has no label {ARCH_LABELS[0]}", ""
    yield from _labels(labels, "label")
    if INSTANCE_TYPE_LABEL in labels:
        yield from _types((str(labels[INSTANCE_TYPE_LABEL]),), "instance type")


def _of_node_group(one: Resource, stack: Stack) -> Sayings:
    template = launch_template(one, stack)
    types = types_of(one, stack)
    of_template = template is not None and bool(template.read("instanceType"))
    yield from _types(types, "the launch template's instance type" if of_template else "instance type")
    yield from _labels(one.mapping("labels"), "label")
    image = str(template.read("imageId") or "") if template is not None else ""
    if not image:
        ami_type = one.read("amiType")
        if ami_architecture(ami_type):
            yield f"ami_type {ami_type}", ami_architecture(ami_type)
    elif image.startswith("resolve:ssm:"):
        # Such as .../amazon-linux-2023/arm64/standard/...; an image given by its id says nothing,
        # and EC2 starts no instance whose type does not fit it.
        for part, architecture in (("arm64", ARM64), ("x86_64", AMD64)):
            if part in image:
                yield f"the launch template's image {image}", architecture


def _of_node_pool(one: Resource) -> Sayings:
    architectures, types = pool_choices(one)
    if architectures not in ({AMD64}, {ARM64}):
        allowed = ", ".join(sorted(architectures)) or "none"
        yield f"its requirements allow the architectures {allowed}; ask for one by {ARCH_LABELS[0]}", ""
    else:
        yield f"requirement {ARCH_LABELS[0]}", min(architectures)
    seen = set()
    for name in types:
        architecture = instance_types()[name].architecture
        if architecture not in seen:
            seen.add(architecture)
            yield f"instance type {name}", architecture
    yield from _labels(one.mapping("spec", "template", "metadata", "labels"), "label")


RULE: Final = StackRule(
    name="node-group-architecture",
    description="All that says a node group's architecture (instance types, AMI, labels) must agree.",
    check=check,
)
