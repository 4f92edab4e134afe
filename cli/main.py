"""Entry point of the ``archshift`` command."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from archshift.errors import ArchshiftError
from cli import audit, bake, capacity, cost, doctor, drain, gate, plan, preview, ramp, report, status

EXIT_ERROR = 1
"""Exit code where a sentence on stderr says what is wrong."""

EXIT_USAGE = 4
"""Exit code for a command line that does not do: 2 has a meaning of its own in `audit`."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _Parser(
        prog="archshift",
        description="Moves the workloads of an EKS cluster from x86 to Graviton, step by step.",
        epilog="`pulumi up` and `drain` change the cluster, `ramp apply` and `ramp pause` the stack's "
        "file; all others read only.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (audit, bake, capacity, cost, doctor, drain, gate, plan, preview, ramp, report, status):
        module.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except ArchshiftError as error:
        print(f"archshift: {error}", file=sys.stderr)
        return int(getattr(options, "exit_error", EXIT_ERROR))
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough; flushing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(getattr(options, "exit_error", EXIT_ERROR))
    except KeyboardInterrupt:
        state = getattr(options, "interrupted", "nothing was changed")
        print(f"archshift: interrupted; {state}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
