"""Finds keys that a configuration has in two spellings.

In a file, the engine reads ``arm_ratio``, ``archshift:arm_ratio`` and ``archshift:config:arm_ratio`` as one
key. If a file has two of them, the engine takes any of the values: two runs of one command differ.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.settings.reading import join

PROJECT_FILES: Final = ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json")
"""The names of a project's file, in the order in which the engine looks for them."""

_LARGEST: Final = 1 << 20

_SAYS_NOTHING: Final = frozenset(
    ("description", "author", "website", "license", "template", "config", "stackConfigDir", "backend")
)
"""Keys of a project's file that do not choose what runs. The engine reads ``config`` itself."""

ENVIRONMENT: Final = "environment"
"""The key of a stack's file that names environments of Pulumi ESC."""


Files: TypeAlias = Sequence[tuple[Path, Mapping[str, Any]]]
"""The project's file and the stack's, with what is in them."""


def read_files(folder: Path, stack: str, config_file: Path | None = None) -> Files:
    """Read the configuration of a stack.

    Args:
        folder: The folder of the project, or one below it.
        stack: The stack's name without an organisation.
        config_file: The stack's file; None where the engine finds it.

    Raises:
        ArchshiftError: A file cannot be read.
    """
    return tuple(_files(folder, stack, config_file))


def check_keys(files: Files) -> None:
    """Check that a configuration has each key in one spelling, and only numbers that JSON has.

    Raises:
        ArchshiftError: A file has a key twice, or a number such as .nan.
    """
    for path, content in files:
        _check(path, content)


def check_in_repository(folder: Path, files: Files) -> None:
    """Check that a commit alone says where its state is and what its configuration is.

    A link, or a file elsewhere, is another file in another checkout. The rules of code owners and the start
    of deploy.yml do not cover it either.

    Args:
        folder: The folder of the project.
        files: Its files.

    Raises:
        ArchshiftError: A file is a link or elsewhere.
    """
    for path, _ in files:
        if path.is_symlink():
            raise ArchshiftError(
                f"{path.name} is a symbolic link, so its commit does not say what is in it",
                "replace the link by the file",
            )
        if path.parent.resolve() != folder.resolve():
            raise ArchshiftError(
                f"{path.name} is not in the folder that is deployed, so neither code owners nor deploy.yml "
                "watch it",
                "move it there, beside Pulumi.yaml",
            )


def what_runs(files: Files) -> dict[str, Any]:
    """Return what chooses the program, its interpreter, its plugins and its environment, by file and key."""
    found: dict[str, Any] = {}
    for path, content in files:
        if path.name in PROJECT_FILES:
            own = {key: content[key] for key in content if key not in _SAYS_NOTHING}
        else:
            own = {ENVIRONMENT: content[ENVIRONMENT]} if content.get(ENVIRONMENT) else {}
        found |= {f"{path.name}: {one_line(key, 80)}": value for key, value in own.items()}
    return found


def check_readable(folder: Path, stack: str, values: Mapping[str, str], files: Files) -> None:
    """Check that the files of a commit say what it deploys: its program and all keys of archshift.

    Args:
        folder: The folder of the project.
        stack: The stack's name without an organisation.
        values: What the engine read, by full key.
        files: Its files.

    Raises:
        ArchshiftError: As ``check_in_repository``; or the program or a key is elsewhere.
    """
    check_in_repository(folder, files)
    texts = {_spelling(key): text for key, text in values.items() if key.startswith("archshift:")}
    written: set[str] = set()
    for path, content in files:
        of_project = path.name in PROJECT_FILES
        if of_project:
            _check_main(path, str(content.get("main") or "."))
        config = content.get("config")
        for key, value in config.items() if isinstance(config, Mapping) else ():
            name = _spelling(key)
            if not of_project or _has_value(value, texts.get(name, "")):
                written.add(name)
    for name in sorted(texts.keys() - written):
        raise ArchshiftError(
            f"archshift:{name} is in no file of the commit, but in a Pulumi ESC environment, which has no "
            "commit",
            f"write it into Pulumi.{stack}.yaml",
        )


def _check_main(path: Path, text: str) -> None:
    main = path.parent / text
    inside = main.resolve().parent if main.is_file() else main.resolve()
    if main.is_symlink() or inside != path.parent.resolve():
        raise ArchshiftError(
            f"{path.name} has main: {one_line(text, 80)}, and neither code owners nor deploy.yml watch that "
            "folder",
            "move the program beside Pulumi.yaml",
        )
    if main.is_file() and main.name != "__main__.py":
        raise ArchshiftError(
            f"{path.name} has main: {one_line(text, 80)}, and deploy.yml does not watch that file",
            "move the program to __main__.py",
        )


def _has_value(declared: object, text: str) -> bool:
    """Return whether the project's file has this value of a key, and not only its type or another default."""
    if isinstance(declared, Mapping):
        declared = declared.get("value", declared.get("default"))
    if declared is None or isinstance(declared, str):
        return declared == text
    try:
        return bool(json.loads(text) == declared)
    except (ValueError, RecursionError):
        return False


def backend_in_project(folder: Path) -> str:
    """Return the address of the state that the project's file names; empty for none.

    Raises:
        ArchshiftError: The file cannot be read.
    """
    file = _project_file(folder)
    backend = _read(file).get("backend") if file else None
    return str(backend.get("url") or "") if isinstance(backend, Mapping) else ""


def _project_file(folder: Path) -> Path | None:
    return next(
        (
            place / name
            for place in (folder.resolve(), *folder.resolve().parents)
            for name in PROJECT_FILES
            if (place / name).is_file()
        ),
        None,
    )


def _files(folder: Path, stack: str, config_file: Path | None) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the project's file and the stack's, with what is in them."""
    project_file = _project_file(folder)
    if project_file:
        project = _read(project_file)
        yield project_file, project
        inside = project.get("stackConfigDir") or project.get("config")
        below = inside if isinstance(inside, str) else ""
        config_file = config_file or project_file.parent / below / f"Pulumi.{stack}{project_file.suffix}"
    if config_file and config_file.is_file():
        yield config_file, _read(config_file)


def _check(path: Path, content: Mapping[str, Any]) -> None:
    config = content.get("config")
    counts = Counter(map(_spelling, config)) if isinstance(config, Mapping) else Counter[str]()
    for key, count in counts.items():
        if count > 1:
            raise ArchshiftError(
                f"{path.name} has the key {one_line(key, 80)} in {count} spellings; pulumi takes any of them",
                "keep one",
            )

    for key, number in _not_finite(config):
        raise ArchshiftError(f"{path.name}: {key}: {number} is not a finite number", "write a number")


def _not_finite(config: object) -> Iterator[tuple[str, float]]:
    """Yield the numbers that JSON does not have, such as .nan, each with its key. The engine names no key."""
    waiting = [("", config)]
    # A YAML alias may be anywhere, even inside itself.
    seen: set[int] = set()
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield key, value
        elif isinstance(value, Mapping | list) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(join(key, str(name)) if key else one_line(name, 80), part) for name, part in parts]


def _spelling(key: object) -> str:
    """Return archshift's own key without its project; another project's key as it is."""
    parts = str(key).split(":")
    if len(parts) == 3 and parts[1] == "config":
        del parts[1]
    return parts[-1] if len(parts) == 1 or parts[0] == "archshift" else ":".join(parts)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ArchshiftError(
            f"{path.name} cannot be read as YAML: {one_line(error, 200)}", "correct the file"
        ) from None
    return content if isinstance(content, Mapping) else {}
