"""What the subcommands share: the stack's settings through the engine, and the plan."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archshift.common.errors import ArchshiftError

if TYPE_CHECKING:
    # Every command line has this module's options, and must not load what only its command needs.
    from archshift.plan.model import Plan
    from archshift.settings import stack as stack_settings

# `pulumi config` answers in a third of a second; a backend in the cloud takes a few.
_TIMEOUT_SECONDS = 60

_READS_A_CLUSTER: Final = ("archshift.survey", "httpcore2", "archshift.images.audit")
"""What a survey loads: at the latest with its first connection (httpcore2) and its first image (aiohttp)."""


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which a subcommand finds its stack."""
    parser.add_argument("-s", "--stack", help="the stack; the selected one by default")
    parser.add_argument("--config-file", metavar="FILE", help="read the stack's configuration from FILE")
    parser.add_argument(
        "-C", "--cwd", default=".", metavar="DIR", help="the folder of Pulumi.yaml (default: this one)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")


def read_settings(options: argparse.Namespace) -> "stack_settings.Settings":
    """Return the settings of the stack that the options name.

    Raises:
        ArchshiftError: The engine cannot say, or a setting does not do.
    """
    from archshift.settings import stack as stack_settings

    stack = stack_name(options)
    # A secret has no value here, on purpose: no key of archshift's is one.
    entries = {key: str(entry.get("value", "")) for key, entry in stack_config(options, stack).items()}
    return stack_settings.load(stack, entries)


def stack_name(options: argparse.Namespace) -> str:
    """Return the name of the stack that the options name, or of the selected one.

    Raises:
        ArchshiftError: None is, or the engine cannot say.
    """
    return options.stack or os.environ.get("PULUMI_STACK") or pulumi(options, "stack", "--show-name").strip()


def stack_file_path(options: argparse.Namespace, stack: str) -> Path:
    """Return where the stack's configuration is kept."""
    name = f"Pulumi.{stack.rpartition('/')[2]}.yaml"
    # Behind a link: what is replaced and committed is the file itself.
    return Path(options.config_file or os.path.join(options.cwd, name)).resolve()


def stack_config(options: argparse.Namespace, stack: str, *flags: str) -> dict[str, dict[str, Any]]:
    """Return a stack's configuration as ``pulumi config --json`` prints it: key to entry.

    Args:
        options: The command's options.
        stack: The stack's name.
        flags: More of the engine's flags.

    Raises:
        ArchshiftError: The engine cannot say.
    """
    command = ["config", "--json", "--stack", stack, *flags]
    if options.config_file:
        command += ["--config-file", options.config_file]
    try:
        entries = json.loads(pulumi(options, *command))
        return {key: dict(entry) for key, entry in entries.items()}
    except (ValueError, TypeError, AttributeError):
        raise ArchshiftError(
            "pulumi config: its answer is not the JSON that archshift expects", "is this the Pulumi CLI?"
        ) from None


def read_plan(options: argparse.Namespace) -> "Plan":
    """Read the cluster and return the plan of the stack that the options name.

    Raises:
        ArchshiftError: As ``read_settings``; or the cluster cannot be read.
    """
    with busy("reading the stack and the cluster") as watch:
        # The engine takes a third of a second for each of two answers, in which there is nothing else to do.
        threading.Thread(target=_load, args=(_READS_A_CLUSTER,), name="archshift-load").start()
        settings = read_settings(options)
        from archshift.survey import survey

        return survey(settings, watch=watch).plan


def _load(modules: Iterable[str]) -> None:
    # Who needs a module that cannot be loaded says so itself. A RuntimeError is from a module that is loaded
    # when the process already ends, after Ctrl-C.
    with suppress(ImportError, RuntimeError):
        for module in modules:
            importlib.import_module(module)


@contextmanager
def busy(what: str) -> Iterator[Callable[[int, int], None]]:
    """Say on a terminal what is being waited for; silent in a pipe.

    Yields:
        What is told how many parts are done, and of how many: the terminal then has the time left, too.
    """
    from archshift.cli.table import console
    from archshift.common.text import time_left

    out = console(sys.stderr)
    if not out.is_terminal:
        yield lambda _done, _total: None
        return
    begun = time.monotonic()
    with out.status(what) as status:

        def watch(done: int, total: int) -> None:
            rest = time_left(done, total, time.monotonic() - begun)
            status.update(f"{what}: {done} of {total} images{rest}")

        yield watch


def pulumi(options: argparse.Namespace, *arguments: str) -> str:
    """Run the engine in the stack's folder and return what it prints.

    Raises:
        ArchshiftError: It is not there, fails, or does not end in time.
    """
    command = ["pulumi", "--non-interactive", "--cwd", options.cwd, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise ArchshiftError(
            "pulumi is not on PATH", "install the Pulumi CLI, or run inside `make lab-shell`"
        ) from None
    except OSError as error:
        raise ArchshiftError(f"pulumi cannot be run: {error.strerror}", "check the one on PATH") from None
    except subprocess.TimeoutExpired:
        raise ArchshiftError(
            f"pulumi {arguments[0]} gave no answer in {_TIMEOUT_SECONDS} s", "is the backend reachable?"
        ) from None
    if done.returncode:
        reason = done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}"
        raise ArchshiftError(f"pulumi {arguments[0]}: {reason}")
    return done.stdout


def print_json(value: object) -> None:
    """Print a value as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2)
    print()
