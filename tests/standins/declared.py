"""Compares inputs with the types that an SDK declares for them, as the providers do.

The declared types are plain values, so that a plugin reads them from a file. To import the SDK of AWS takes
half a second of processor time, at each run of the engine.
"""

import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import UnionType
from typing import Any, Final, TypeAlias

import pulumi
from pulumi._types import input_type_py_to_pulumi_names, is_input_type
from pulumi.runtime.rpc import UNKNOWN, is_rpc_secret, unwrap_rpc_secret

_INTERNAL: Final = "__defaults"
"""An input that the engine adds."""

Types: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The name of a type to its inputs, with the names that providers see, and their declarations.

A declaration is ``any``, the name of a scalar, ``{"union": [...]}``, ``{"map": ...}``, ``{"list": ...}``,
``{"enum": [...]}``, or ``{"object": NAME}``.
"""


def declare(args: type, types: dict[str, Mapping[str, Any]]) -> str:
    """Add a type of the SDK, and all that its inputs have, to ``types``; return its name there."""
    name = f"{args.__module__}.{args.__name__}"
    if name not in types:
        types[name] = {}  # a type may contain itself
        types[name] = {inner: _declaration(hint, types) for inner, hint in _hints(args).items()}
    return name


def mismatches(types: Types, name: str, inputs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield each input that a type of the SDK does not declare, or declares with another type.

    Args:
        types: The declared types.
        name: The type.
        inputs: The inputs with the names that providers see, without ``Output``.
        path: Where the inputs are, for the sentences.
    """
    for key, value in inputs.items():
        if key == _INTERNAL:
            continue
        if key not in types[name]:
            yield f"{path}{key} is no input of {name.rpartition('.')[2]}"
        else:
            yield from _mismatch(types, value, types[name][key], f"{path}{key}")


def plain_inputs(args: type) -> set[str]:
    """Return the inputs that take no ``Output``: a component needs them before anything exists."""
    return {
        name
        for name, hint in _hints(args).items()
        if not any(typing.get_origin(part) is pulumi.Output for part in _parts(hint))
    }


def _hints(args: type) -> dict[str, Any]:
    module = vars(__import__(args.__module__, fromlist=["x"]))
    types = typing.get_type_hints(args.__init__, module, {"Output": pulumi.Output, "T": type(None)})  # type: ignore[misc]
    return {theirs: types[ours] for ours, theirs in input_type_py_to_pulumi_names(args).items()}


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, one level deep; of any other type, the type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)


def _declaration(hint: Any, types: dict[str, Mapping[str, Any]]) -> Any:
    if hint is Any:
        return "any"
    if len(parts := _parts(hint)) > 1:
        return {"union": [_declaration(part, types) for part in parts]}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin and issubclass(origin, Mapping):
        return {"map": _declaration(inner[1], types)}
    if origin and issubclass(origin, Sequence):
        return {"list": _declaration(inner[0], types)}
    if isinstance(hint, type) and is_input_type(hint):
        return {"object": declare(hint, types)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    # A dictionary's type of the SDK has the same keys as its class, and nobody sends an Output.
    return getattr(hint, "__name__", str(hint))


def _mismatch(types: Types, value: Any, declared: Any, path: str) -> Iterator[str]:
    value = unwrap_rpc_secret(value) if is_rpc_secret(value) else value
    if value == UNKNOWN or declared == "any":
        return
    if isinstance(declared, str):
        if not _is_a(value, declared):
            yield f"{path} is {value!r}, not {declared}"
    elif "union" in declared:
        wrong = [[*_mismatch(types, value, part, path)] for part in declared["union"]]
        if all(wrong):
            # The longest path is about the alternative that fits best.
            yield max(
                (sentence for found in wrong for sentence in found),
                key=lambda text: text.split()[0].count("."),
            )
    elif "map" in declared and isinstance(value, Mapping):
        for key, part in value.items():
            yield from _mismatch(types, part, declared["map"], f"{path}.{key}")
    elif "list" in declared and isinstance(value, list):
        for index, part in enumerate(value):
            yield from _mismatch(types, part, declared["list"], f"{path}.{index}")
    elif "object" in declared and isinstance(value, Mapping):
        yield from mismatches(types, declared["object"], value, f"{path}.")
    elif value not in declared.get("enum", ()):
        yield f"{path} is {value!r}, not {_named(declared)}"


def _named(declared: Mapping[str, Any]) -> str:
    ((form, what),) = declared.items()
    return (
        what.rpartition(".")[2] if form == "object" else f"one of {what}" if form == "enum" else f"a {form}"
    )


def _is_a(value: Any, declared: str) -> bool:
    if declared in ("int", "float"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (declared == "float" or float(value).is_integer())
    kinds: dict[str, type] = {"str": str, "bool": bool, "NoneType": type(None)}
    return declared in kinds and isinstance(value, kinds[declared])
