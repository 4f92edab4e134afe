"""Shared by the subcommands: the stack's settings, read through the engine, and the plan."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from archshift.common.errors import ArchshiftError
from archshift.common.text import printable, printable_json

if TYPE_CHECKING:
    # Every parser imports this module for its options, so it must load fast.
    from archshift.plan.model import Plan
    from archshift.settings import stack as stack_settings
    from archshift.settings.stack_keys import Files

# `pulumi config` takes 0.3 s; with a backend in the cloud, a few seconds.
_TIMEOUT_SECONDS = 60

_READS_A_CLUSTER: Final = ("archshift.survey", "httpcore2", "archshift.images.audit")
"""A survey needs these modules anyway, at its first connection (httpcore2) and first image (aiohttp)."""


class Watch(Protocol):
    """Shows how many things of a kind are done."""

    def __call__(self, done: int, total: int, things: str = "images") -> None:
        """Show the progress."""


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the stack."""
    parser.add_argument("-s", "--stack", help="the stack (default: the selected stack)")
    parser.add_argument("--config-file", metavar="FILE", help="read the stack's configuration from FILE")
    parser.add_argument(
        "-C",
        "--cwd",
        default=".",
        metavar="DIR",
        help="the folder of Pulumi.yaml (default: the current folder)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table, for programs")


def read_settings(options: argparse.Namespace, *, nodes: bool = False) -> "stack_settings.Settings":
    """Return the settings of the selected stack.

    Args:
        options: The command's options.
        nodes: Whether the command looks at the node groups. Then EKS and the cluster describe them.

    Raises:
        ArchshiftError: The engine cannot read the configuration, a setting is invalid, or AWS refuses.
    """
    return read_configuration(options, nodes=nodes)[0]


def read_configuration(
    options: argparse.Namespace, *, nodes: bool = False, files: "Files | None" = None
) -> "tuple[stack_settings.Settings, dict[str, str]]":
    """Return the settings of the selected stack, and the values from which they are.

    Args:
        options: The command's options.
        nodes: As in ``read_settings``.
        files: The stack's files, if they are read already.

    Raises:
        ArchshiftError: As ``read_settings``.
    """
    from archshift.nodes.live_groups import read_groups
    from archshift.settings import stack as stack_settings
    from archshift.settings.stack_keys import check_keys, read_files

    stack = stack_name(options)
    config_file = Path(options.config_file) if options.config_file else None
    if files is None:
        files = read_files(Path(options.cwd), stack.rpartition("/")[2], config_file)
    check_keys(files)
    entries = stack_config(options, stack)
    for key, entry in entries.items():
        # The program would get its value, but this command gets none. So each would read other settings.
        if key.startswith(f"{stack_settings.PROJECT}:") and (entry.get("secret") or "value" not in entry):
            raise ArchshiftError(
                f"{key} is a secret, or has one in it, so archshift cannot read it",
                "no key of archshift is a secret: set it again with pulumi config set, without --secret",
            )
    values = {key: str(entry.get("value", "")) for key, entry in entries.items()}
    settings = stack_settings.load(stack, values, describe=read_groups if nodes else None)
    if nodes and settings.takes_over_pools:
        from archshift.survey import with_live_pools

        settings = with_live_pools(settings)
    return settings, values


def stack_name(options: argparse.Namespace) -> str:
    """Return the stack's name: from the options, PULUMI_STACK, or the engine's selected stack.

    Raises:
        ArchshiftError: No stack is selected, or the engine fails.
    """
    return options.stack or os.environ.get("PULUMI_STACK") or pulumi(options, "stack", "--show-name").strip()


def stack_file_path(options: argparse.Namespace, stack: str) -> Path:
    """Return the path of the stack's configuration."""
    name = f"Pulumi.{stack.rpartition('/')[2]}.yaml"
    # Resolve links, because archshift replaces and commits the file itself.
    return Path(options.config_file or os.path.join(options.cwd, name)).resolve()


def stack_config(options: argparse.Namespace, stack: str, *flags: str) -> dict[str, dict[str, Any]]:
    """Return a stack's entries as ``pulumi config --json`` prints them, by key.

    Raises:
        ArchshiftError: The engine fails, or its answer is not JSON.
    """
    command = ["config", "--json", "--stack", stack, *flags]
    if options.config_file:
        command += ["--config-file", options.config_file]
    try:
        entries = json.loads(pulumi(options, *command))
        return {key: dict(entry) for key, entry in entries.items()}
    except (ValueError, TypeError, AttributeError):
        raise ArchshiftError(
            "pulumi config: the answer is not the JSON that archshift expects", "check the pulumi on PATH"
        ) from None


def read_plan(options: argparse.Namespace, *, try_patches: bool = False) -> "Plan":
    """Read the cluster and return the plan of the selected stack.

    Args:
        options: The command's options.
        try_patches: Try the plan's patches on the API server.

    Raises:
        ArchshiftError: The settings or the cluster cannot be read.
    """
    with busy("reading the stack and the cluster") as watch:
        # The engine takes 0.3 s for each of two answers; load modules meanwhile.
        threading.Thread(target=_load, args=(_READS_A_CLUSTER,), name="archshift-load").start()
        settings = read_settings(options, nodes=True)
        from archshift.survey import survey

        progress = partial(watch, things="patches")
        return survey(settings, watch=watch, try_patches=try_patches, progress=progress).plan


def _load(modules: Iterable[str]) -> None:
    # A module that cannot be loaded fails again where it is needed. The RuntimeError comes from loading while
    # the process ends, after Ctrl-C.
    with suppress(ImportError, RuntimeError):
        for module in modules:
            importlib.import_module(module)


def _silent(done: int, total: int, things: str = "images") -> None:
    del done, total, things


@contextmanager
def busy(what: str) -> Iterator["Watch"]:
    """Show the current work on a terminal; silent in a pipe.

    Yields:
        A function that takes the number of finished things and their total, to show the time left.
    """
    from archshift.cli.table import console
    from archshift.common.text import time_left

    out = console(sys.stderr)
    if not out.is_terminal:
        yield _silent
        return
    begun = time.monotonic()
    with out.status(what) as status:

        def watch(done: int, total: int, things: str = "images") -> None:
            rest = time_left(done, total, time.monotonic() - begun)
            status.update(f"{what}: {done} of {total} {things}{rest}")

        yield watch


def pulumi(options: argparse.Namespace, *arguments: str) -> str:
    """Run the engine in the stack's folder and return its output.

    Raises:
        ArchshiftError: The engine is missing, fails, or takes too long.
    """
    command = ["pulumi", "--non-interactive", "--cwd", options.cwd, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise ArchshiftError(
            "pulumi is not on PATH", "install the Pulumi CLI, or run inside `make lab-shell`"
        ) from None
    except OSError as error:
        raise ArchshiftError(f"pulumi cannot be run: {error.strerror}", "check the pulumi on PATH") from None
    except subprocess.TimeoutExpired:
        raise ArchshiftError(
            f"pulumi {arguments[0]} gave no answer in {_TIMEOUT_SECONDS} s",
            "check that the backend is reachable",
        ) from None
    if done.returncode:
        reason = done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}"
        raise ArchshiftError(f"pulumi {arguments[0]}: {reason}")
    return done.stdout


def print_json(value: object) -> None:
    """Print a value as JSON on standard output, with printable texts: many are cut out of it and printed."""
    json.dump(printable_json(value), sys.stdout, indent=2)
    say("")


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line for a person.

    Args:
        text: The line; names in it may come from others.
        file: The output; standard output by default.
    """
    print(printable(text), file=file, flush=True)
