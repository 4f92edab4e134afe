"""The command line of ``archshift capacity``."""

import argparse

from archshift.cli.parser import Commands, percent, ratios
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DEFAULT_HEADROOM
from archshift.ramp.schedule import DEFAULT_STEPS


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "capacity",
        help="print how many nodes each step of arm_ratio needs",
        description="Print how many nodes each configured node group needs at every step of arm_ratio. The "
        "count covers the requests of pods and DaemonSets, plus headroom. Read-only.",
        example="archshift capacity --steps 0.5,1.0 --headroom 20",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--steps",
        type=ratios,
        default=DEFAULT_STEPS,
        metavar="RATIOS",
        help="ratios, separated by commas (default: 0.2,0.5,0.8,1.0)",
    )
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"free capacity on top of the requests (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import capacity

    return capacity.run(options)
