"""``archshift completion``: what a shell needs to complete the command line."""

import argparse

import shtab

from cli.parser import Commands

SHELLS = ("bash", "zsh", "fish")

_FILES = ("FILE", "DIR")


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
    """Print the completion; returns the exit code."""
    # It has this subcommand too.
    from cli.main import make_parser

    parser = make_parser()
    _complete_files(parser)
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Have options that name files and folders completed as such."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY  # type: ignore[attr-defined]
