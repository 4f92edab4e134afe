"""What pipelines write into issues, pull requests and pages: text without secrets, as a block of code."""

import argparse
import os
from typing import Final

from archshift.cli.stack import stack_config, stack_name
from archshift.common.redact import Redactor, secrets_of_config, secrets_of_environment
from archshift.common.text import printable

LONGEST: Final = 25_000
"""Most characters of a block, so that two blocks fit into one text at GitHub."""

MOST_READ: Final = 1 << 20
"""Most characters that are looked at. A secret is never cut in half: the cut of a block is far before it."""


def redactor_of(options: argparse.Namespace) -> Redactor:
    """Return what hides the secrets of the stack and of the environment.

    Raises:
        ArchshiftError: The engine cannot read the secrets. Then nothing may be written.
    """
    secrets = secrets_of_config(stack_config(options, stack_name(options), "--show-secrets"))
    return Redactor([*secrets, *secrets_of_environment(os.environ)])


def cleaned(text: str, redactor: Redactor) -> str:
    """Return a text without secrets and without characters that hide or forge something."""
    return printable(redactor.text(text[:MOST_READ]), MOST_READ, lines=True).strip("\n")


def block(text: str, redactor: Redactor) -> str:
    """Return a text as a block of code, cleaned and cut. The text cannot close the block."""
    inside = cleaned(text, redactor).replace("`", "'")
    if len(inside) > LONGEST:
        inside = f"{inside[:LONGEST]}\n(cut here)"
    return f"```text\n{inside}\n```"
