"""The command of a container, from its pod spec. Pure."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

# $(NAME), with $$ as its escape: kubernetes.io/docs, "Define Dependent Environment Variables".
_VARIABLE: Final = re.compile(r"\$\$|\$\(([A-Za-z0-9_.-]+)\)")


@dataclass(frozen=True, slots=True)
class Command:
    """How a container spec changes what its image starts.

    Attributes:
        command: Replaces the image's Entrypoint and Cmd; None if the spec has none.
        args: Replaces Cmd; None if the spec has none.
        working_dir: Replaces WorkingDir; empty if the spec has none.
        path: The container's own PATH; None if it sets none.
        mounts: Paths where volumes hide the files of the image.
        fetched: Paths of programs that an init container downloads to those volumes for the pod's node.
    """

    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str = ""
    path: str | None = None
    mounts: tuple[str, ...] = ()
    fetched: tuple[str, ...] = ()

    def argv(self, entrypoint: tuple[str, ...], cmd: tuple[str, ...]) -> tuple[str, ...]:
        """Return the arguments of the process, for an image's Entrypoint and Cmd.

        https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
        """
        if self.command:
            return self.command + (self.args or ())
        return entrypoint + (self.args if self.args else cmd)


def read_command(
    container: Mapping[str, Any], fetched: Mapping[str, Iterable[str]] = MappingProxyType({})
) -> Command:
    """Read the command of a container, and expand its literal environment variables.

    Args:
        fetched: Volume to the programs in it, from ``archshift.images.building.fetched_binary``.
    """
    environment = {
        entry["name"]: entry["value"]
        for entry in container.get("env") or ()
        if isinstance(entry.get("value"), str) and entry.get("name")
    }
    path = environment.get("PATH")
    # archshift does not read a PATH from a Secret or ConfigMap. On the empty path it finds no program.
    if path is None and any(entry.get("name") == "PATH" for entry in container.get("env") or ()):
        path = ""
    mounts = [mount for mount in container.get("volumeMounts") or () if mount.get("mountPath")]
    return Command(
        command=_expand(container.get("command"), environment),
        args=_expand(container.get("args"), environment),
        working_dir=container.get("workingDir") or "",
        path=path,
        mounts=tuple(sorted({mount["mountPath"] for mount in mounts})),
        fetched=tuple(
            sorted(
                posixpath.normpath(posixpath.join(mount["mountPath"], name))
                for mount in mounts
                if not (mount.get("subPath") or mount.get("subPathExpr"))
                for name in fetched.get(mount.get("name") or "", ())
            )
        ),
    )


def _expand(words: Any, environment: Mapping[str, str]) -> tuple[str, ...] | None:
    if not words:
        return None

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return tuple(_VARIABLE.sub(value, str(word)) for word in words)
