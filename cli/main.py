"""Entry point of the ``archshift`` command."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from archshift.errors import ArchshiftError
from cli import (
    audit,
    bake,
    capacity,
    completion,
    cost,
    doctor,
    drain,
    gate,
    plan,
    preview,
    ramp,
    report,
    status,
)
from cli.parser import EXIT_ERROR, EXIT_INTERRUPTED, Parser

_COMMANDS: Final = (
    audit,
    bake,
    capacity,
    completion,
    cost,
    doctor,
    drain,
    gate,
    plan,
    preview,
    ramp,
    report,
    status,
)


def make_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="archshift",
        description="Moves the workloads of an EKS cluster from x86 to Graviton, step by step.",
        epilog="`pulumi up` and `drain` change the cluster, `ramp apply` and `ramp pause` the stack's "
        "file; all others read only. `archshift COMMAND --help` has an example and the exit codes of each.",
    )
    parser.add_argument("--version", action="version", version=f"archshift {version('archshift')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    error, state = EXIT_ERROR, "nothing was changed"
    try:
        options = make_parser().parse_args(arguments)
        error = int(getattr(options, "exit_error", error))
        state = getattr(options, "interrupted", state)
        code = int(options.run(options))
        # Here, where a reader that has gone is expected, and not at exit, where it is not.
        sys.stdout.flush()
    except ArchshiftError as problem:
        print(f"archshift: {problem}", file=sys.stderr)
        return error
    except BrokenPipeError:
        _print_no_more()
        return error
    except SystemExit:
        # After the help or the usage.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _print_no_more()
        raise
    except KeyboardInterrupt:
        print(f"archshift: interrupted; {state}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def _print_no_more() -> None:
    # The reader of a pipe (head, less) has seen enough; flushing at exit would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
