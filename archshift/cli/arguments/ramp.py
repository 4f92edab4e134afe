"""The command line of ``archshift ramp``."""

import argparse
from collections.abc import Mapping
from typing import Final

from archshift.cli.parser import Commands, moment, ratios
from archshift.cli.stack import add_stack_options
from archshift.common.text import one_line

EXIT_NOT_DUE: Final = 3
"""Exit code if no step is due."""

_LONGEST_REASON: Final = 500


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "ramp",
        help="show, take or pause the weekly steps of arm_ratio",
        description="Show which step of archshift:ramp is next and when it is due. Take it, or a step back, "
        "or pause the ramp: this edits the stack's file. The cluster changes only with `pulumi up`.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(
        actions,
        "status",
        "show the current step and the dates of the next ones",
        "Read-only.",
        example="archshift ramp status",
    )
    _add(
        actions,
        "next",
        "show the next step",
        "Read-only.",
        example="archshift ramp next --json",
        exits={0: "the next step is due", EXIT_NOT_DUE: "no step is due; the reason is printed"},
    )
    apply = _add(
        actions,
        "apply",
        "take the step that is due",
        "Write the next step and its time into the stack's file, and change nothing else there.",
        example="archshift ramp apply --gate --commit",
        exits={0: "the step is taken", EXIT_NOT_DUE: "no step is due; the reason is printed"},
    )
    apply.add_argument("--back", action="store_true", help="go back one step; allowed at any time")
    apply.add_argument(
        "--below",
        type=_ratio,
        metavar="RATIO",
        help="with --back: go to a step below this ratio too, such as the deployed one",
    )
    apply.add_argument(
        "--gate",
        nargs="?",
        const="",
        metavar="FILE",
        help="the evidence of archshift gate; without a pass for the current arm_ratio the step is refused "
        "(default: archshift:gate.evidence, or gates/STACK.json)",
    )
    apply.add_argument("--reason", metavar="TEXT", type=_reason, help="why; it goes into the commit message")
    pause = _add(
        actions,
        "pause",
        "pause the ramp, or resume it",
        "Write archshift:ramp.pause into the stack's file, or remove it.",
        example='archshift ramp pause --reason "a release" --until 2026-03-09 --commit',
        exits={0: "archshift wrote the file, or there was no pause to remove"},
    )
    switch = pause.add_mutually_exclusive_group(required=True)
    switch.add_argument("--reason", metavar="TEXT", type=_reason, help="why the ramp pauses")
    switch.add_argument("--off", action="store_true", help="resume the ramp")
    pause.add_argument(
        "--until", metavar="TIME", help="when the ramp resumes by itself; a date includes that day"
    )
    for changing in (apply, pause):
        changing.add_argument("--commit", action="store_true", help="commit only this file, with the reason")


def _add(
    actions: Commands,
    name: str,
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
        help="use TIME as the current time, for a rehearsal (default: now)",
    )
    parser.set_defaults(run=run)
    return parser


def _ratio(text: str) -> float:
    return ratios(text)[0]


def _reason(text: str) -> str:
    reason = one_line(text, _LONGEST_REASON)
    if not reason:
        raise argparse.ArgumentTypeError("the reason is empty")
    return reason


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run the action; returns the exit code."""
    from archshift.cli.commands import ramp

    return ramp.ACTIONS[options.action](options)
