"""The command line of ``archshift completion``."""

import argparse

from archshift.cli.parser import Commands

SHELLS = ("bash", "zsh", "fish")


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "completion",
        help="complete the command line in bash, zsh or fish",
        description="Print what a shell needs to complete archshift's commands and options. In ~/.bashrc: "
        "`source <(archshift completion bash)`. For zsh write it to a file _archshift in a folder of $fpath.",
        example="archshift completion fish > ~/.config/fish/completions/archshift.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import completion

    return completion.run(options)
