"""The command line of ``archshift completion``."""

import argparse

from archshift.cli.parser import Commands

SHELLS = ("bash", "zsh", "fish")


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "completion",
        help="print the completion for bash, zsh or fish",
        description="Print a script that lets a shell complete archshift's commands and options. For bash "
        "add `source <(archshift completion bash)` to ~/.bashrc. For zsh write the script to a file "
        "_archshift in a folder of $fpath.",
        example="archshift completion fish > ~/.config/fish/completions/archshift.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import completion

    return completion.run(options)
