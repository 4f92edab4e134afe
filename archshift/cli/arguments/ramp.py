"""The command line of ``archshift ramp``."""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from archshift.cli.parser import Commands, moment
from archshift.cli.stack import add_stack_options
from archshift.ramp.gate_evidence import one_line

EXIT_NOT_DUE: Final = 3
"""Exit code where no step is due."""

_LONGEST_REASON: Final = 500


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "ramp",
        help="the weekly steps of arm_ratio: what is next, take it, pause",
        description="Say which step of archshift:ramp is next and when it is due; take it, or the step back, "
        "in the stack's file; pause. The cluster is not touched: `pulumi up` moves the pods.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(
        actions,
        "status",
        run_status,
        "where the ramp stands, and the dates to come",
        "Reads only.",
        example="archshift ramp status",
    )
    _add(
        actions,
        "next",
        run_next,
        "the next step",
        "Reads only.",
        example="archshift ramp next --json",
        exits={0: "it is due", EXIT_NOT_DUE: "it is not; the reason is printed"},
    )
    apply = _add(
        actions,
        "apply",
        run_apply,
        "take the step that is due",
        "Write the next step and its time into the stack's file, of which nothing else changes.",
        example="archshift ramp apply --gate --commit",
        exits={0: "taken", EXIT_NOT_DUE: "no step is due; the reason is printed"},
    )
    apply.add_argument("--back", action="store_true", help="take the step before instead, at any time")
    apply.add_argument(
        "--gate",
        nargs="?",
        const="",
        metavar="FILE",
        help="the evidence of archshift gate; a step is refused without a pass for arm_ratio as it is "
        "(default: archshift:gate.evidence, or gates/STACK.json)",
    )
    apply.add_argument("--reason", metavar="TEXT", type=_reason, help="said in the commit")
    pause = _add(
        actions,
        "pause",
        run_pause,
        "let the ramp wait, or go on",
        "Write archshift:ramp.pause into the stack's file, or take it out.",
        example='archshift ramp pause --reason "a release" --until 2026-03-09 --commit',
        exits={0: "written"},
    )
    switch = pause.add_mutually_exclusive_group(required=True)
    switch.add_argument("--reason", metavar="TEXT", type=_reason, help="why the ramp waits")
    switch.add_argument("--off", action="store_true", help="the ramp goes on")
    pause.add_argument(
        "--until", metavar="TIME", help="when it goes on by itself; a date counts with its day"
    )
    for changing in (apply, pause):
        changing.add_argument("--commit", action="store_true", help="commit the file, alone, with the reason")


def _add(
    actions: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    words: str,
    more: str,
    *,
    example: str,
    exits: Mapping[int, str] | None = None,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=words,
        description=f"{words[0].upper()}{words[1:]}. {more}",
        example=example,
        exits=exits,
    )
    add_stack_options(parser)
    parser.add_argument(
        "--at",
        type=moment,
        default=None,
        metavar="TIME",
        help="as if it were TIME, to rehearse (default: now)",
    )
    parser.set_defaults(run=run)
    return parser


def _reason(text: str) -> str:
    reason = one_line(text, _LONGEST_REASON)
    if not reason:
        raise argparse.ArgumentTypeError("a reason has words")
    return reason


def run_status(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import ramp

    return ramp.run_status(options)


def run_next(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import ramp

    return ramp.run_next(options)


def run_apply(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import ramp

    return ramp.run_apply(options)


def run_pause(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import ramp

    return ramp.run_pause(options)
