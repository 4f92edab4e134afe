"""Follows the command of a container through the image's file system to binaries and their machine. Pure.

It checks the program, its loader, its interpreters, and the programs that arguments and start scripts name.
It does not check libraries, or what a program starts itself. So it proves less than a start on a Graviton
machine.
"""

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from archshift.common.text import one_line
from archshift.images.contents.command import Command
from archshift.images.contents.elf import AARCH64, Binary, Script
from archshift.images.contents.layers import File
from archshift.images.contents.rootfs import LoopError, Rootfs
from archshift.images.registry.manifest import ImageConfig

Outcome: TypeAlias = Literal["arm64", "lie", "undecided"]

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that container runtimes set if an image has none."""

_LONGEST_COMMAND: Final = 1 << 18
"""The longest command, in characters of all its words. Linux allows half of it for one word."""

_LONGEST_PATH: Final = 1 << 14
"""The longest PATH, in characters."""

_MOST_WORDS: Final = 1000
"""The most characters of a reason. Names in it come from the image."""

_MOST_INTERPRETERS: Final = 5
"""How many interpreters may be scripts themselves before Linux fails with ELOOP."""

# Programs whose only task is to start the program in their arguments.
_LAUNCHERS: Final = frozenset(
    {
        "catatonit",
        "chpst",
        "docker-init",
        "dumb-init",
        "env",
        "gosu",
        "nice",
        "nohup",
        "setpriv",
        "su-exec",
        "tini",
    }
    | {"tini-static", "s6-setuidgid", "stdbuf", "timeout"}
)
_SHELLS: Final = frozenset({"ash", "bash", "busybox", "dash", "ksh", "mksh", "sh", "zsh"})
_FETCHED: Final = File(executable=True, program=Binary(AARCH64))
"""A downloaded program: on a Graviton node it is for arm64, or the pod does not start."""
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True, slots=True)
class ProgramVerdict:
    """The verdict on the programs of a command.

    Attributes:
        outcome: arm64 if all programs are for arm64; lie if one is for another machine; undecided if the
            check found no binary.
        reason: The path and the problem there; empty for arm64.
        machine: For a lie, the machine of the binary.
    """

    outcome: Outcome
    reason: str = ""
    machine: str = ""


class _UndecidedError(Exception):
    pass


class _LieError(Exception):
    def __init__(self, path: str, binary: Binary, more: str = "") -> None:
        super().__init__(f"{path} is a binary for {binary.machine}{more}")
        self.machine = binary.machine


def check_command(rootfs: Rootfs, config: ImageConfig, command: Command) -> ProgramVerdict:
    """Follow a container's command to its binaries.

    Args:
        rootfs: All layers of the arm64 image.
        command: The changes that the container's spec makes to the image's command.
    """
    try:
        _Check(rootfs, config, command).run()
    except _LieError as lie:
        return ProgramVerdict("lie", one_line(str(lie), _MOST_WORDS), lie.machine)
    except _UndecidedError as undecided:
        return ProgramVerdict("undecided", one_line(str(undecided), _MOST_WORDS))
    return ProgramVerdict("arm64")


class _Check:
    def __init__(self, rootfs: Rootfs, config: ImageConfig, command: Command) -> None:
        self._rootfs = rootfs
        self._argv = command.argv(config.entrypoint, config.cmd)
        self._folder = posixpath.join("/", command.working_dir or config.working_dir)
        path = config.path if command.path is None else command.path
        self._path = _DEFAULT_PATH if path is None else path
        self._fetched = command.fetched
        self._mounts = tuple(posixpath.normpath(mount) for mount in command.mounts)

    def run(self) -> None:
        if not self._argv:
            raise _UndecidedError("neither the image nor the container has a command")
        if sum(map(len, self._argv)) > _LONGEST_COMMAND or len(self._path) > _LONGEST_PATH:
            raise _UndecidedError("its command or its PATH is longer than the limit of the deep check")
        self._start(self._argv, 0)

    def _start(self, argv: tuple[str, ...], depth: int) -> None:
        """Check a program, and the programs that its arguments name."""
        program, arguments = argv[0], argv[1:]
        if "$(" in program:
            raise _UndecidedError(
                f"the command comes from a variable that archshift does not know: {program}"
            )
        path, file = self._look_up(program)
        self._check_file(path, file, 0)
        name = posixpath.basename(program)
        texts = list(_inline_scripts(name, arguments))
        if isinstance(file.program, Script):
            texts.append(file.program.text)
        # A binary for another machine is proof wherever it is named. A word that names no file proves
        # nothing.
        for word in (*arguments, *(word for text in texts for word in _words(text))):
            self._suspect(word)
        if name in _LAUNCHERS and depth < _MOST_INTERPRETERS:
            self._launched(program, arguments, depth)

    def _launched(self, launcher: str, arguments: tuple[str, ...], depth: int) -> None:
        """Check the program that a launcher starts: its first argument that is a program."""
        for number, word in enumerate(arguments):
            if word.startswith("-") or _ASSIGNMENT.match(word):
                continue
            try:
                self._look_up(word)
            except _UndecidedError:
                continue
            self._start(arguments[number:], depth + 1)
            return
        if arguments:
            raise _UndecidedError(
                f"the program that {launcher} starts is not in the image: {' '.join(arguments)[:200]}"
            )

    def _suspect(self, word: str) -> None:
        if not word or word.startswith("-"):
            return
        try:
            path, file = self._look_up(word)
        except _UndecidedError:
            return
        if isinstance(file.program, Binary) and file.program.machine != AARCH64:
            raise _LieError(path, file.program)

    def _check_file(self, path: str, file: File, depth: int) -> None:
        program = file.program
        if depth > _MOST_INTERPRETERS:
            raise _UndecidedError(f"{path} has too many interpreters that are scripts themselves")
        if isinstance(program, Binary):
            if program.machine != AARCH64:
                raise _LieError(path, program)
            if program.loader:
                loader, loaded = self._at(posixpath.join("/", program.loader), f"the loader of {path}: ")
                if isinstance(loaded.program, Binary) and loaded.program.machine != AARCH64:
                    raise _LieError(loader, loaded.program, f", and it is the loader of {path}")
        elif isinstance(program, Script):
            self._check_script(path, program, depth)
        else:
            raise _UndecidedError(f"{path} is neither an ELF binary nor a script")

    def _check_script(self, path: str, script: Script, depth: int) -> None:
        if not script.interpreter:
            raise _UndecidedError(f"{path} is a script without an interpreter")
        where, file = self._at(
            posixpath.join(self._folder, script.interpreter), f"the interpreter of {path}: "
        )
        self._check_file(where, file, depth + 1)
        if posixpath.basename(script.interpreter) != "env":
            return
        # "#!/usr/bin/env python3", "#!/usr/bin/env -S python3 -u", "#!/usr/bin/env -S A=b python3".
        words = script.argument.removeprefix("-S").split()
        program = next(
            (word for word in words if not word.startswith("-") and not _ASSIGNMENT.match(word)), ""
        )
        if not program:
            raise _UndecidedError(f"{path} is a script that starts env without an interpreter")
        where, file = self._look_up(program, f"the interpreter of {path}: ")
        self._check_file(where, file, depth + 1)

    def _look_up(self, program: str, what: str = "") -> tuple[str, File]:
        """Find a program in the same way as execvp."""
        if "/" in program:
            return self._at(posixpath.join(self._folder, program), what)
        for folder in self._path.split(":"):
            if not folder.startswith("/"):
                continue
            path = posixpath.join(folder, program)
            end, file = self._find(path, what)
            if file is not None and file.executable:
                return end, file
        raise _UndecidedError(f"{what}{program} is not on the image's PATH ({self._path})")

    def _at(self, path: str, what: str) -> tuple[str, File]:
        if posixpath.normpath(path) in self._fetched:
            return path, _FETCHED
        end, file = self._find(path, what)
        shown = path if path == end or path.startswith(f"{end}/") else f"{path} (-> {end})"
        if file is None:
            raise _UndecidedError(f"{what}{shown} is not in the image")
        if not file.executable:
            raise _UndecidedError(f"{what}{shown} is not executable")
        return end, file

    def _find(self, path: str, what: str) -> tuple[str, File | None]:
        try:
            end, file, passed = self._rootfs.find(path)
        except LoopError:
            raise _UndecidedError(f"{what}{path} goes through too many links") from None
        for step in passed:
            for mount in self._mounts:
                if step == mount or step.startswith(mount.rstrip("/") + "/"):
                    raise _UndecidedError(f"{what}{path} is hidden by the volume at {mount}")
        return end, file


def _inline_scripts(name: str, arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the scripts that a shell gets with ``-c``."""
    if name in _SHELLS:
        for option, text in pairwise(arguments):
            if re.fullmatch(r"-[a-z]*c", option):
                yield text


def _words(text: str) -> set[str]:
    """Return the words of a shell text; if shlex cannot read its quoting, split it at spaces."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = text.split()
    return {word.strip(";&|()") for word in words}
