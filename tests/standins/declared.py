"""Compares inputs with the types that an SDK declares for them, as the providers do."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import UnionType
from typing import Any, Final

import pulumi
from pulumi._types import input_type_py_to_pulumi_names, is_input_type
from pulumi.runtime.rpc import UNKNOWN, is_rpc_secret, unwrap_rpc_secret

_INTERNAL: Final = "__defaults"
"""An input that the engine adds."""


def mismatches(args: type, inputs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield each input that a type of the SDK does not declare, or declares with another type.

    Args:
        args: The type, such as ``pulumi_eks.ClusterArgs``.
        inputs: The inputs with the names that providers see, without ``Output``.
        path: Where the inputs are, for the sentences.
    """
    hints = _hints(args)
    for name, value in inputs.items():
        if name == _INTERNAL:
            continue
        if name not in hints:
            yield f"{path}{name} is no input of {args.__name__}"
        else:
            yield from _mismatch(value, hints[name], f"{path}{name}")


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


def _mismatch(value: Any, hint: Any, path: str) -> Iterator[str]:
    value = unwrap_rpc_secret(value) if is_rpc_secret(value) else value
    if value == UNKNOWN or hint is Any:
        return
    if len(parts := _parts(hint)) > 1:
        wrong = [[*_mismatch(value, part, path)] for part in parts]
        if all(wrong):
            # The longest path is about the alternative that fits best.
            yield max(
                (sentence for found in wrong for sentence in found),
                key=lambda text: text.split()[0].count("."),
            )
        return
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin and issubclass(origin, Mapping) and isinstance(value, Mapping):
        for key, part in value.items():
            yield from _mismatch(part, inner[1], f"{path}.{key}")
    elif origin and issubclass(origin, Sequence) and isinstance(value, list):
        for index, part in enumerate(value):
            yield from _mismatch(part, inner[0], f"{path}.{index}")
    elif isinstance(hint, type) and is_input_type(hint) and isinstance(value, Mapping):
        yield from mismatches(hint, value, f"{path}.")
    elif not _is_a(value, hint):
        yield f"{path} is {value!r}, not {getattr(hint, '__name__', hint)}"


def _is_a(value: Any, hint: Any) -> bool:
    if not isinstance(hint, type):
        return False
    if issubclass(hint, Enum):
        return value in [member.value for member in hint]
    if hint in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (hint is float or float(value).is_integer())
    # A dictionary's type of the SDK has the same keys as its class.
    return isinstance(value, hint) if hint in (str, bool, type(None)) else False
