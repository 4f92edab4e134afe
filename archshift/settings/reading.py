"""Reads configured values into the models that declare them.

msgspec checks a value against its declaration and stops at the first error. If it refuses a value, this
module checks each part and reports every invalid part as one sentence: key, value, way out.
"""

import dataclasses
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from archshift.common.errors import ArchshiftError, SettingsError

T = TypeVar("T")


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A map of settings: each field declares the type, range, default and description of one key."""


class InvalidValueError(ValueError):
    """A value is invalid for a reason that its type alone cannot say.

    Attributes:
        key: The key below the model; empty for the model or value itself.
        problem: What is wrong.
        way_out: What to do about it.
    """

    def __init__(self, key: str, problem: str, way_out: str = "") -> None:
        super().__init__(problem)
        self.key = key
        self.problem = problem
        self.way_out = way_out


def says(description: str, example: Any = None, *, default: str = "", document: str = "") -> Meta:
    """Describe one key.

    Args:
        description: A sentence or more for people.
        example: A value that somebody may set.
        default: What happens without the key, if the default itself does not say it.
        document: The document with the details, such as ``docs/gate.md``.
    """
    extra = {name: text for name, text in (("default", default), ("document", document)) if text}
    return Meta(description=description, examples=None if example is None else [example], extra=extra or None)


def use(words: str) -> dict[str, Any]:
    """Return the words for valid values in an error, such as ``the ID of a VPC``."""
    return {"use": words}


def default_of(owner: type, name: str) -> Any:
    """Return the default that a dataclass gives a field, so that it is written only once."""
    field = next(field for field in dataclasses.fields(owner) if field.name == name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def read(kind: type[T], key: str, value: Any) -> T:
    """Return a value as its type declares it.

    Args:
        kind: A model, or a type of models.
        key: The key, for errors.
        value: The configured value, as JSON or YAML gives it.

    Raises:
        SettingsError: Parts of the value are invalid.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_parse)
    except msgspec.ValidationError:
        raise SettingsError(_problems(kind, key, value)) from None


class Problems:
    """Collects errors, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.errors: list[ArchshiftError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep an error of the block and continue after the block."""
        try:
            yield
        except ArchshiftError as error:
            self.errors += error.errors

    def attempt(self, make: Callable[[], T], instead: T) -> T:
        """Return what ``make`` returns. If it raises an error, keep the error and return ``instead``."""
        with self.collected():
            return make()
        return instead

    def check(self) -> None:
        """Raise the collected errors.

        Raises:
            SettingsError: There are errors.
        """
        if self.errors:
            raise SettingsError(self.errors)


def read_fields(model: type[Model], key: str, value: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the valid fields of a model by name. ``problems`` gets the errors of the others."""
    fields = msgspec.structs.fields(model)
    problems.errors += _unknown(model, key, value)
    valid = {}
    for field in fields:
        name = field.encode_name
        if name in value:
            with problems.collected():
                valid[field.name] = read(field.type, join(key, name), value[name])
        elif field.required:
            problems.errors.append(_missing(key, field))
    return valid


def join(key: str, name: str) -> str:
    """Return the key of an entry; a key that ends in a colon is a prefix."""
    # An error has one line, even if a key has line breaks.
    name = name if name.isprintable() else shown(name)
    return f"{key}{name}" if key.endswith((":", ": ")) else f"{key}.{name}"


def shown(value: Any) -> str:
    """Return a value for an error: one line of limited length."""
    return _SHORT.repr(value)


def invalid(key: str, value: Any, way_out: str) -> ArchshiftError:
    """Return the error for a value that is invalid for its type."""
    return ArchshiftError(f"{key.rstrip(': ')}: {shown(value)} is invalid", f"use {way_out}")


_LEFT_OUT: Final = (NoneType, msgspec.UnsetType)
"""The types of a key without a value."""

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlist = _SHORT.maxdict = 8


# --- what a type says of itself -------------------------------------------------------------


def wanted(kind: Any) -> str:
    """Return in words which values are valid for a type."""
    base, metas = _unwrapped(kind)
    for meta in reversed(metas):
        if meta.extra and "use" in meta.extra:
            return str(meta.extra["use"])
    if hasattr(base, "use"):
        return str(base.use())
    if base is bool:
        return "true or false"
    if base in (int, float):
        return _number(base, metas)
    if get_origin(base) is Literal:
        choices = [str(choice) for choice in get_args(base)]
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if _is_union(base):
        return " or ".join(wanted(member) for member in get_args(base) if member not in _LEFT_OUT)
    if get_origin(base) is tuple:
        return "a list"
    if get_origin(base) is dict or _is_model(base):
        return "a map, written as YAML below the key"
    return "text in quotes"


def detail(kind: Any, name: str) -> Any:
    """Return what ``says`` declared for a key: description, example, default or document; None if nothing."""
    for meta in reversed(_unwrapped(kind)[1]):
        if name == "description" and meta.description:
            return meta.description
        if name == "example" and meta.examples:
            return meta.examples[0]
        if meta.extra and name in meta.extra:
            return meta.extra[name]
    return None


def base_of(kind: Any) -> Any:
    """Return a type without its description, and without the None of an optional key."""
    return _unwrapped(kind)[0]


def models_in(kind: Any) -> Iterator[tuple[str, type[Model]]]:
    """Yield the models in a type, each with its path: ``[]`` in a list, ``.NAME`` in a map."""
    base, _ = _unwrapped(kind)
    if _is_model(base):
        yield "", base
    elif _is_union(base):
        for member in get_args(base):
            yield from models_in(member)
    elif get_origin(base) is tuple:
        yield from ((f"[]{path}", model) for path, model in models_in(get_args(base)[0]))
    elif get_origin(base) is dict:
        yield from ((f".NAME{path}", model) for path, model in models_in(get_args(base)[1]))


def _number(base: type, metas: Iterable[Meta]) -> str:
    bounds = {
        name: getattr(meta, name)
        for meta in metas
        for name in ("ge", "gt", "le")
        if getattr(meta, name) is not None
    }
    unit = next((f" of {meta.extra['unit']}" for meta in metas if meta.extra and "unit" in meta.extra), "")
    words = f"a whole number{unit}" if base is int else f"a number{unit}"
    least, most = bounds.get("ge", bounds.get("gt")), bounds.get("le")
    if "gt" in bounds:
        return f"{words} above {least}" + ("" if most is None else f" and up to {most}")
    if least is not None and most is not None:
        return f"{words} from {least} to {most}"
    return words if least is None else f"{words}, {least} or more"


def _unwrapped(kind: Any) -> tuple[Any, list[Meta]]:
    metas: list[Meta] = []
    while get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        metas = [*(meta for meta in more if isinstance(meta, Meta)), *metas]
    if _is_union(kind):
        members = [member for member in get_args(kind) if member not in _LEFT_OUT]
        if len(members) == 1:
            base, inner = _unwrapped(members[0])
            return base, [*inner, *metas]
    return kind, metas


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Model)


# --- what is wrong --------------------------------------------------------------------------


def _parse(kind: type, value: Any) -> Any:
    """Make a value of a type that msgspec does not know. The type's ``parse`` raises ValueError."""
    parse: Callable[[Any], Any] = kind.parse  # type: ignore[attr-defined]
    return parse(value)


def _problems(kind: Any, key: str, value: Any) -> Iterator[ArchshiftError]:
    try:
        msgspec.convert(value, kind, dec_hook=_parse)
    except msgspec.ValidationError as error:
        cause = error.__cause__
    else:
        return
    inner = list(_problems_inside(kind, key, value))
    if inner:
        yield from inner
    elif isinstance(cause, InvalidValueError):
        where = join(key, cause.key) if cause.key else key
        yield ArchshiftError(f"{where}: {cause.problem}", cause.way_out)
    else:
        yield invalid(key, value, wanted(kind))


def _problems_inside(kind: Any, key: str, value: Any) -> Iterator[ArchshiftError]:
    for member in _members(kind):
        if _is_model(member) and isinstance(value, Mapping):
            yield from _problems_of_model(member, key, value)
        elif get_origin(member) is dict and isinstance(value, Mapping):
            names, entries = get_args(member)
            for name, entry in value.items():
                yield from _problems(names, key, name)
                yield from _problems(entries, join(key, str(name)), entry)
        elif get_origin(member) is tuple and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _problems(get_args(member)[0], f"{key}[{index}]", item)


def _members(kind: Any) -> Iterator[Any]:
    base, _ = _unwrapped(kind)
    if _is_union(base):
        for member in get_args(base):
            yield from _members(member)
    else:
        yield base


def _problems_of_model(model: type[Model], key: str, value: Mapping[str, Any]) -> Iterator[ArchshiftError]:
    yield from _unknown(model, key, value)
    for field in msgspec.structs.fields(model):
        if field.encode_name in value:
            yield from _problems(field.type, join(key, field.encode_name), value[field.encode_name])
        elif field.required:
            yield _missing(key, field)


def _unknown(model: type[Model], key: str, value: Mapping[str, Any]) -> Iterator[ArchshiftError]:
    known = sorted(field.encode_name for field in msgspec.structs.fields(model))
    for name in value:
        if name not in known:
            yield ArchshiftError(f"{join(key, str(name))} is not a setting", f"there are: {', '.join(known)}")


def _missing(key: str, field: msgspec.structs.FieldInfo) -> ArchshiftError:
    return ArchshiftError(f"{join(key, field.encode_name)} is missing", f"add {wanted(field.type)}")
