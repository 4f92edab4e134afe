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
        help="compare Graviton with x86 by the metrics in Prometheus",
        description="Compare each workload's metrics on Graviton with those on x86: p95 latency, errors, "
        "restarts, OOM kills, CPU throttling and memory. The metrics come from Prometheus. Read-only.",
        example="archshift gate --output",
        exits={
            EXIT_CODES["pass"]: "pass: you may take the next step",
            EXIT_CODES["hold"]: "hold: a workload is worse, or the soak time has not passed",
            EXIT_CODES[
                "step-back"
            ]: "step-back: too many pods on Graviton belong to workloads that are much worse; go back a step",
            EXIT_CODES["unknown"]: "unknown: something could not be judged; do not take the step",
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
        "--queries", action="store_true", help="print the full queries, to paste into Prometheus"
    )
    parser.add_argument("--at", type=moment, metavar="TIME", help="judge this time instead of now")
    parser.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help="when the ratio last changed (default: archshift:ramp.since)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import gate

    return gate.run(options)
