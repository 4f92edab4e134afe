"""A stack as the rules see it: plain values, and an error for each value that a preview does not know."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi_policy.proxy import UnknownValueError


class UnknownError(Exception):
    """This preview does not know a value; the rule then reports a violation and never passes.

    Attributes:
        urn: The URN of the resource.
        path: The dotted path of the value in the resource's properties.
    """

    def __init__(self, urn: str, path: str) -> None:
        super().__init__(path)
        self.urn = urn
        self.path = path


@dataclass(frozen=True, slots=True)
class Violation:
    """A message for people, and the URN of the resource that it concerns."""

    message: str
    urn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of the stack.

    Attributes:
        type: The type token.
        urn: The URN.
        props: The properties, with the provider's names.
        protected: Whether the engine refuses to delete it.
        sources: For each property, the URNs of the resources that its value comes from.
    """

    type: str
    urn: str
    props: Mapping[str, Any]
    protected: bool = False
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the program."""
        return self.urn.rpartition("::")[2]

    @property
    def is_archshifts(self) -> bool:
        """Whether archshift's program or one of its components created it."""
        return "::archshift::" in self.urn or "archshift:index:" in self.urn

    def read(self, *path: str | int) -> Any:
        """Return the value at a path, as plain dicts and lists; None without a value.

        Raises:
            UnknownError: This preview does not know the value, or a part of it.
        """
        value: Any = self.props
        try:
            for step in path:
                if isinstance(value, Mapping):
                    value = value.get(step)
                elif isinstance(step, int) and _is_list(value) and step < len(value):
                    value = value[step]
                else:
                    return None
            return _plain(value)
        except UnknownValueError as error:
            raise UnknownError(self.urn, ".".join(error.props)) from None

    def has(self, *path: str) -> bool:
        """Say whether there is a value at a path, known or not.

        Raises:
            UnknownError: This preview does not know an object that contains the path.
        """
        try:
            return self.read(*path) is not None
        except UnknownError as error:
            if len(error.path.split(".")) < len(path):
                raise
            return True

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """Return the map at a path; empty without one."""
        value = self.read(*path)
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        """Return the list at a path; empty without one."""
        value = self.read(*path)
        return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Stack:
    """The resources that the stack has, or will have after the update.

    Attributes:
        resources: By URN, in the order of URNs.
    """

    resources: Mapping[str, Resource]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> "Stack":
        """Return the stack of these resources, which the engine lists in no order."""
        by_urn = {resource.urn: resource for resource in resources}
        return cls(dict(sorted(by_urn.items())))

    def all(self, *types: str) -> Iterator[Resource]:
        """Yield the resources of these types, in the order of their URNs."""
        for resource in self.resources.values():
            if resource.type in types:
                yield resource

    def component(self, noun: str) -> Resource | None:
        """Return archshift's component of that name, if the stack has it."""
        return next(self.all(f"archshift:index:{noun}"), None)

    @property
    def is_archshift(self) -> bool:
        """Whether archshift's program created the stack. A published pack runs for other stacks too."""
        return any(resource.is_archshifts for resource in self.resources.values())

    def urn(self, *preferred: Resource) -> str:
        """Return the URN for a violation: of the first of these resources, otherwise of the stack.

        Engine 3.245 panics in ``pulumi policy analyze`` if a violation has no URN.
        """
        for resource in (*preferred, *self.all("pulumi:pulumi:Stack"), *self.resources.values()):
            return resource.urn
        return ""


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plain(value: Any) -> Any:
    # The SDK has its own maps and lists, which raise an error at an unknown value.
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if _is_list(value):
        return [_plain(item) for item in value]
    return value
