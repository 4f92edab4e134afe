"""Writes what people read of the settings from their declarations: ``python -m tools.settings_reference``.

That is the keys in Pulumi.yaml, the table in README.md and all of docs/settings.md.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_origin

import msgspec

from archshift.settings.keys import NODE_GROUP_MODELS, StackModel
from archshift.settings.reading import Model, base_of, detail, models_in, wanted

_ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT_FILE: Final = _ROOT / "Pulumi.yaml"
README: Final = _ROOT / "README.md"
REFERENCE: Final = _ROOT / "docs" / "settings.md"

_WIDTH: Final = 118

_KINDS: Final[Mapping[type[Model], str]] = dict(
    zip(NODE_GROUP_MODELS, ("EKS", "NodePools", "the lab"), strict=True)
)

_PROJECT_HEAD: Final = """config:
  # Written by `python -m tools.settings_reference`; docs/settings.md describes every key. The engine's schema
  # has no type for numbers: arm_ratio is text to it, and a number to archshift.
"""
_TABLE_HEAD: Final = "| key | default | meaning |\n| --- | --- | --- |\n"
_REFERENCE_HEAD: Final = """# Settings

All keys of `archshift:*` in a stack's file, `Pulumi.<stack>.yaml`. `python -m tools.settings_reference`
writes this page from the declarations in `archshift/settings/`.

An invalid value is an error with the key, the value and the valid values. archshift reports all errors of a
stack's file at once, before it changes anything.

"""


def project_file(text: str) -> str:
    """Return Pulumi.yaml with the keys in it; all above them stays."""
    before, found, _ = text.partition("config:\n")
    if not found:
        raise ValueError("Pulumi.yaml has no config")
    return before + _PROJECT_HEAD + "".join(map(_declaration, _fields(StackModel)))


def readme(text: str) -> str:
    """Return README.md with the table in it."""
    before, found, rest = text.partition(_TABLE_HEAD)
    if not found:
        raise ValueError("README.md has no table of settings")
    _, found, after = rest.partition("\n\n")
    return before + _TABLE_HEAD + "\n".join(map(_row, _fields(StackModel))) + found + after


def reference() -> str:
    """Return docs/settings.md."""
    sections = [f"## archshift\n\n{_entries(StackModel)}"]
    # A model that several keys have is described where it comes first.
    seen: set[type[Model]] = set()
    for field in _fields(StackModel):
        for path, model in _models_of(field):
            sections += _sections(f"{field.encode_name}{path}", model, seen)
    return _REFERENCE_HEAD + "\n".join(sections)


def _models_of(field: msgspec.structs.FieldInfo) -> Iterator[tuple[str, type[Model]]]:
    if field.name == "node_groups":
        yield from ((".NAME", model) for model in NODE_GROUP_MODELS)
    else:
        yield from models_in(field.type)


def _fields(model: type[Model]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(model)


def _declaration(field: msgspec.structs.FieldInfo) -> str:
    """Return a key as Pulumi.yaml declares it; its schema has no type for numbers."""
    kind, lines = _pulumi_type(field), []
    lines.append(f"{field.encode_name}:")
    lines.append(f"  type: {kind}")
    if kind == "array":
        lines += ["  items:", "    type: string"]
    text = str(detail(field.type, "description")).replace("`", "")
    for _, model in _models_of(field):
        place = f" of {_KINDS[model]}" if model in _KINDS else ""
        text += f" Keys{place}: {', '.join(inner.encode_name for inner in _fields(model))}."
    lines += ["  description: >-", textwrap.indent(textwrap.fill(text, 100), "    ")]
    if not field.required:
        default = {"object": "{}", "array": "[]"}.get(kind) or json.dumps(_default(field))
        lines.append(f"  default: {default}")
    return textwrap.indent("\n".join(lines) + "\n", "  ")


def _pulumi_type(field: msgspec.structs.FieldInfo) -> str:
    base = base_of(field.type)
    if (isinstance(base, type) and issubclass(base, Model)) or get_origin(base) is dict:
        return "object"
    return "array" if get_origin(base) is tuple else "string"


def _row(field: msgspec.structs.FieldInfo) -> str:
    name = f"`{field.encode_name}`"
    for path, model in list(_models_of(field))[:1]:
        title = _title(f"{field.encode_name}{path}", model)
        name = f"[{name}](docs/settings.md#{_anchor(title)})"
    text = str(detail(field.type, "description")).rstrip(".")
    document = detail(field.type, "document")
    text += f" ([{document.partition('#')[0]}]({document}))" if document else ""
    return f"| {name} | {_default_words(field)} | {text} |"


def _sections(key: str, model: type[Model], seen: set[type[Model]]) -> Iterator[str]:
    if model in seen:
        return
    seen.add(model)
    text = " ".join((model.__doc__ or "").split("Attributes:")[0].split()).replace("``", "`")
    yield f"## {_title(key, model)}\n\n{textwrap.fill(text, _WIDTH)}\n\n{_entries(model)}"
    for field in _fields(model):
        for path, inner in models_in(field.type):
            yield from _sections(f"{key}.{field.encode_name}{path}", inner, seen)


def _title(key: str, model: type[Model]) -> str:
    return f"archshift:{key}" + (f" ({_KINDS[model]})" if model in _KINDS else "")


def _anchor(title: str) -> str:
    kept = [letter for letter in title.lower() if letter.isalnum() or letter in "_- "]
    return "".join(kept).replace(" ", "-")


def _entries(model: type[Model]) -> str:
    return "".join(map(_entry, _fields(model)))


def _entry(field: msgspec.structs.FieldInfo) -> str:
    parts = [
        str(detail(field.type, "description")),
        f"Value: {wanted(field.type)}.",
        "Required." if field.required else f"Default: {_default_words(field)}.",
        f"Example: `{_yaml(field.encode_name, detail(field.type, 'example'))}`",
    ]
    bullet = textwrap.wrap(
        f"- `{field.encode_name}`: {' '.join(parts[:-1])}",
        _WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return "\n".join([*bullet[:-1], bullet[-1], f"  {parts[-1]}"]) + "\n"


def _default_words(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    words = detail(field.type, "default")
    if words:
        return str(words)
    default = _default(field)
    return "none" if default in ({}, [], (), None, "") else f"`{_inline(default)}`"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    return msgspec.to_builtins(
        field.default, enc_hook=lambda value: str(value) if isinstance(value, str) else float(value)
    )


def _yaml(key: str, value: Any) -> str:
    return f"{key}: {_inline(value)}"


def _inline(value: Any) -> str:
    """Return a value as YAML in one line, with quotes where YAML or the engine would read another type."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if (
        isinstance(value, str)
        and value
        and not value[0].isdigit()
        and not set(value) & set("\"'#{}[],&*!|>%@`")
    ):
        return value if value not in ("true", "false", "null", "yes", "no") else json.dumps(value)
    return json.dumps(value)


def main() -> None:
    """Write the three."""
    PROJECT_FILE.write_text(project_file(PROJECT_FILE.read_text()))
    README.write_text(readme(README.read_text()))
    REFERENCE.write_text(reference())


if __name__ == "__main__":
    main()
