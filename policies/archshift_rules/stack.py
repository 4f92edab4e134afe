"""A stack as the rules see it: plain values, and an error that names what a preview does not know."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pulumi_policy.proxy import UnknownValueError


class UnknownError(Exception):
    """A value that is not known yet; ends as a violation, never as a pass.

    Attributes:
        urn: The resource's.
        path: Where in its properties, dotted.
    """

    def __init__(self, urn: str, path: str) -> None:
        super().__init__(path)
        self.urn = urn
        self.path = path


@dataclass(frozen=True, slots=True)
class Violation:
    """A sentence for a person, and the resource that it is shown at."""

    message: str
    urn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the stack.

    Attributes:
        type: Its type token.
        urn: Its URN.
        props: Its properties, in the words of its provider.
        protected: Whether the engine refuses to delete it.
        sources: Property to the URNs of the resources that its value comes from.
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
        """Whether archshift's program made it, or it is below one of its components."""
        return "::archshift::" in self.urn or "archshift:index:" in self.urn

    def read(self, *path: str | int) -> Any:
        """Return the value at a path, as plain dicts and lists; None where there is none.

        Raises:
            UnknownError: It, or a part of it, is not known yet.
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
            UnknownError: What would hold it is not known yet.
        """
        try:
            return self.read(*path) is not None
        except UnknownError as error:
            if len(error.path.split(".")) < len(path):
                raise
            return True

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """Return the map at a path; empty where there is none."""
        value = self.read(*path)
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        """Return the list at a path; empty where there is none."""
        value = self.read(*path)
        return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Stack:
    """The resources that the stack will have, or has.

    Attributes:
        resources: By URN, in its order.
    """

    resources: Mapping[str, Resource]

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> "Stack":
        """Return the stack of these; the engine lists them in no order."""
        return cls({one.urn: one for one in sorted(resources, key=lambda one: one.urn)})

    def all(self, *types: str) -> Iterator[Resource]:
        """Yield the resources of these types, in the order of their URNs."""
        for one in self.resources.values():
            if one.type in types:
                yield one

    def component(self, noun: str) -> Resource | None:
        """Return archshift's component of that name, if there is one."""
        return next(self.all(f"archshift:index:{noun}"), None)

    @property
    def is_archshift(self) -> bool:
        """Whether archshift's program made it. A published pack meets other stacks too."""
        return any(one.is_archshifts for one in self.resources.values())

    def urn(self, *preferred: Resource) -> str:
        """Return the URN to show a violation at: the first of these that exists, else the stack's own.

        Engine 3.245 panics in ``pulumi policy analyze`` at a violation without one.
        """
        for one in (*preferred, *self.all("pulumi:pulumi:Stack"), *self.resources.values()):
            return one.urn
        return ""


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plain(value: Any) -> Any:
    # The SDK hands out its own kinds of maps and lists, which raise where a value is unknown.
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if _is_list(value):
        return [_plain(one) for one in value]
    return value
