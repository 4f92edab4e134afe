"""Entry point of the ``archshift`` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

# Only the command lines. The work of a command is in its module in commands/, which its ``run`` imports:
# these modules take a second to load (lightkube, rich, the engine's SDK, templates). A help, a usage error
# or a completion must not wait for them (tests/cli/test_imports.py).
from archshift.cli.arguments import (
    audit,
    bake,
    capacity,
    completion,
    cost,
    deployment,
    doctor,
    drain,
    gate,
    plan,
    preview,
    ramp,
    rbac,
    rebalance,
    report,
    status,
)
from archshift.cli.parser import EXIT_ERROR, EXIT_INTERRUPTED, Parser
from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line

_COMMANDS: Final = (
    audit,
    bake,
    capacity,
    completion,
    cost,
    deployment,
    doctor,
    drain,
    gate,
    plan,
    preview,
    ramp,
    rbac,
    rebalance,
    report,
    status,
)


class _Version(argparse._VersionAction):
    """Reads the version on demand: importlib.metadata takes as long as everything else here."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any, **words: Any) -> None:
        """Print the version and exit."""
        from importlib.metadata import version

        self.version = f"archshift {version('archshift')}"
        super().__call__(parser, *arguments, **words)


def make_parser() -> Parser:
    """Return the parser of the complete command line."""
    parser = Parser(
        prog="archshift",
        description="Moves the workloads of an EKS cluster from x86 to Graviton, step by step.",
        epilog="`pulumi up`, `rebalance` and `drain` change the cluster. `ramp apply` and `ramp pause` "
        "change the stack's file. All other commands change nothing; they write the files that you name, the "
        "record of the gate, and a cache of image evidence. "
        "`archshift COMMAND --help` shows an example and the exit codes.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    error, state = EXIT_ERROR, "nothing was changed"
    _open_missing_streams()
    try:
        options = make_parser().parse_args(arguments)
        error = int(getattr(options, "exit_error", error))
        state = getattr(options, "interrupted", state)
        code = int(options.run(options))
        # Flush here, where a closed pipe is handled; at exit it would print a traceback.
        sys.stdout.flush()
    except ArchshiftError as problem:
        for one in problem.errors:
            print(f"archshift: {one_line(str(one))}", file=sys.stderr)  # noqa: T201
        return error
    except OSError as problem:
        _stop_printing(problem)
        return error
    except SystemExit:
        # argparse exits after the help or the usage.
        try:
            sys.stdout.flush()
        except OSError as problem:
            _stop_printing(problem)
        raise
    except KeyboardInterrupt:
        print(f"archshift: interrupted; {state}", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
    return code


def _open_missing_streams() -> None:
    # A shell can close them (`>&-`). Then Python has none, and a file of the command would take their place.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _sentence(problem: OSError) -> str:
    """Return a sentence for an error that no command expects, such as a full disk."""
    if problem.filename:
        return f"{problem.filename} cannot be used ({problem.strerror}); check that file or folder"
    if isinstance(problem, ConnectionError | TimeoutError) and not isinstance(problem, BrokenPipeError):
        return f"a connection ended ({problem.strerror or problem}); run the command again"
    if isinstance(problem, FileNotFoundError):
        return "the current folder is gone; change to a folder that exists"
    return f"the output cannot be written ({problem.strerror or problem}); check the disk that takes it"


def _stop_printing(problem: OSError) -> None:
    # Another flush at exit would fail too.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # The reader of a pipe (head, less) may go at any time.
    if not isinstance(problem, BrokenPipeError):
        print(f"archshift: {one_line(_sentence(problem))}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
