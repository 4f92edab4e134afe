"""Writes docs/commands.md from the parser of the command line: ``python -m tools.commands``."""

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from archshift.cli.main import make_parser
from archshift.cli.parser import COMMON_EXITS, Parser
from archshift.cli.stack import add_stack_options

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "commands.md"

_BEGIN: Final = """# Commands

`archshift COMMAND --help` shows the same text. `python -m tools.commands` makes this page from the parser.

## Common options

All commands that read a stack have these options:

"""

_BETWEEN: Final = """
`-h` and `--help` print the help. Tables are for people and may change. Programs must read `--json` on
standard output, which never has errors. Colours and progress appear only on terminals, and `NO_COLOR` turns
the colours off. In a pipe, a row stays on one line; `COLUMNS` sets another width.

## Exit codes

These codes apply to every command, unless the second table has another meaning for that command.

| code | when |
| --- | --- |
"""


def document() -> str:
    """Return the text of the document."""
    shared = _shared()
    lines = [_BEGIN + _options(shared).rstrip("\n"), _BETWEEN.rstrip("\n")]
    lines += [f"| {code} | {when} |" for code, when in COMMON_EXITS.items()]
    lines += ["", "| command | code | when |", "| --- | --- | --- |"]
    parsers = list(commands(make_parser()))
    for parser in parsers:
        own = {code: when for code, when in parser.exits.items() if COMMON_EXITS.get(code) != when}
        lines += [f"| `{parser.prog}` | {code} | {_cell(when)} |" for code, when in own.items()]
    known = {(*action.option_strings, action.help) for action in shared}
    for parser in parsers:
        lines += [
            "",
            f"## {parser.prog}",
            "",
            textwrap.fill(parser.description or "", 110, break_on_hyphens=False),
            "",
        ]
        lines += [f"    {parser.example}"]
        own_options = [
            action
            for action in parser._actions
            if (*action.option_strings, action.help) not in known
            and not isinstance(action, argparse._HelpAction)
        ]
        lines += ["", _options(own_options).rstrip("\n")] if own_options else []
    return "\n".join(lines) + "\n"


def commands(parser: Parser) -> Iterator[Parser]:
    """Yield the commands that users can run, in order."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                if command.example:
                    yield command
                yield from commands(command)


def _shared() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    add_stack_options(parser)
    return parser._actions


def _options(actions: list[argparse.Action]) -> str:
    rows = ["| option | meaning |", "| --- | --- |"]
    for action in actions:
        names = ", ".join(f"`{option}`" for option in action.option_strings)
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.choices is not None:
            value = "|".join(map(str, action.choices)).replace("|", "\\|")
        if action.nargs == "?":
            value = f"[{value}]"
        if names and action.nargs != 0:
            names += f" `{value}`"
        rows.append(f"| {names or f'`{value}`'} | {_cell((action.help or '') % vars(action))} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
