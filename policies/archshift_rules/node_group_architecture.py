"""node-group-architecture: all values that name a node group's architecture agree."""

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

_WAY_OUT: Final = "A node group must have one architecture. Create a second group for the other architecture."


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the groups whose instance types, AMI, labels and launch template disagree."""
    if not stack.is_archshift:
        return
    for resource in stack.resources.values():
        if resource.type == NODE:
            statements = list(_of_node(resource))
        elif resource.type == NODE_GROUP:
            statements = list(_of_node_group(resource, stack))
        elif is_node_pool(resource):
            statements = list(_of_node_pool(resource))
        else:
            continue
        for text, architecture in statements:
            if architecture not in (AMD64, ARM64):
                yield Violation(f"{resource.name}: {text}. {_WAY_OUT}", resource.urn)
        known = [(text, architecture) for text, architecture in statements if architecture in (AMD64, ARM64)]
        if len({architecture for _, architecture in known}) > 1:
            listing = "; ".join(f"{text} ({architecture})" for text, architecture in known)
            yield Violation(f"{resource.name} names two architectures: {listing}. {_WAY_OUT}", resource.urn)


# The functions below yield (what names an architecture, that architecture). Without a valid
# architecture, the first text is a violation.
Statements = Iterator[tuple[str, str]]


def _types(names: tuple[str, ...], where: str) -> Statements:
    for name in names:
        if name in instance_types():
            yield f"{where} {name}", instance_types()[name].architecture
        else:
            yield (
                f"{where} {name} is not in the pack's instance_types.json, so its architecture is unknown",
                "",
            )


def _labels(labels: Mapping[str, Any], where: str) -> Statements:
    for name in ARCH_LABELS:
        value = labels.get(name)
        if value in (AMD64, ARM64):
            yield f"{where} {name}", value
        elif value is not None:
            yield f"{where} {name} is {value!r}, which is invalid; use {AMD64} or {ARM64}", ""


def _of_node(resource: Resource) -> Statements:
    labels = resource.mapping("metadata", "labels")
    if ARCH_LABELS[0] not in labels:
        yield f"it has no label {ARCH_LABELS[0]}", ""
    yield from _labels(labels, "label")
    if INSTANCE_TYPE_LABEL in labels:
        yield from _types((str(labels[INSTANCE_TYPE_LABEL]),), "instance type")


def _of_node_group(resource: Resource, stack: Stack) -> Statements:
    template = launch_template(resource, stack)
    types = types_of(resource, stack)
    of_template = template is not None and bool(template.read("instanceType"))
    yield from _types(types, "the launch template's instance type" if of_template else "instance type")
    yield from _labels(resource.mapping("labels"), "label")
    image = str(template.read("imageId") or "") if template is not None else ""
    if not image:
        ami_type = resource.read("amiType")
        if ami_architecture(ami_type):
            yield f"ami_type {ami_type}", ami_architecture(ami_type)
    elif image.startswith("resolve:ssm:"):
        # For example .../amazon-linux-2023/arm64/standard/... An image id tells nothing, but EC2 starts no
        # instance if its type does not fit the image.
        for part, architecture in (("arm64", ARM64), ("x86_64", AMD64)):
            if part in image:
                yield f"the launch template's image {image}", architecture


def _of_node_pool(resource: Resource) -> Statements:
    architectures, types = pool_choices(resource)
    if architectures not in ({AMD64}, {ARM64}):
        allowed = ", ".join(sorted(architectures)) or "none"
        yield f"its requirements allow the architectures {allowed}; require one with {ARCH_LABELS[0]}", ""
    else:
        yield f"requirement {ARCH_LABELS[0]}", min(architectures)
    seen = set()
    for name in types or ():
        architecture = instance_types()[name].architecture
        if architecture not in seen:
            seen.add(architecture)
            yield f"instance type {name}", architecture
    yield from _labels(resource.mapping("spec", "template", "metadata", "labels"), "label")


RULE: Final = StackRule(
    name="node-group-architecture",
    description="A node group's instance types, AMI and labels must all name the same architecture.",
    check=check,
)
