"""``archshift completion``: a script that lets a shell complete the command line."""

import argparse
import sys

import shtab

_FILES = ("FILE", "DIR")


def run(options: argparse.Namespace) -> int:
    """Print the completion; returns the exit code."""
    # Not at the top: main imports this subcommand.
    from archshift.cli.main import make_parser

    parser = make_parser()
    _complete_files(parser)
    # A script of many lines, without the text of others.
    sys.stdout.write(f"{shtab.complete(parser, shell=options.shell)}\n")
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let shells complete files and folders for the options that take them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE if action.metavar == "FILE" else shtab.DIRECTORY  # type: ignore[attr-defined]
