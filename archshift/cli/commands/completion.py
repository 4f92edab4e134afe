"""``archshift completion``: what a shell needs to complete the command line."""

import argparse

import shtab

_FILES = ("FILE", "DIR")


def run(options: argparse.Namespace) -> int:
    """Print the completion; returns the exit code."""
    # It has this subcommand too.
    from archshift.cli.main import make_parser

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
