"""The command line of ``archshift gate``."""

import argparse
from typing import Final

from archshift.cli.parser import Commands, moment
from archshift.cli.stack import add_stack_options

EXIT_CODES: Final = {"pass": 0, "hold": 3, "step-back": 5, "unknown": 6}


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "gate",
        help="whether Graviton does at least as well as x86, asked of Prometheus",
        description="Ask Prometheus whether each workload does as well on Graviton as on x86: p95 latency, "
        "errors, restarts, OOM kills, CPU throttling, memory. Reads only.",
        example="archshift gate --output",
        exits={
            EXIT_CODES["pass"]: "pass: the next step may be taken",
            EXIT_CODES["hold"]: "hold: a workload is worse, or the soak is not over",
            EXIT_CODES["step-back"]: "step-back: the step itself is much worse",
            EXIT_CODES["unknown"]: "unknown: something could not be judged; holds too",
        },
    )
    add_stack_options(parser)
    parser.add_argument(
        "--output",
        nargs="?",
        const="",
        metavar="FILE",
        help="also write the evidence as JSON (default: archshift:gate.evidence, or gates/STACK.json)",
    )
    parser.add_argument(
        "--queries", action="store_true", help="print the queries in full, to be pasted into Prometheus"
    )
    parser.add_argument("--at", type=moment, metavar="TIME", help="judge that time instead of now")
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="when the ratio last moved (default: archshift:ramp.since)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import gate

    return gate.run(options)
