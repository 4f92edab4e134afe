"""Whether an update of a stack is under way, as far as the engine's backend shows it."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from archshift.cli.stack import pulumi
from archshift.common.errors import ArchshiftError

_LOCKS: Final = (".pulumi", "locks", "organization")
"""Where a backend of files keeps a file while it changes a stack (pkg/backend/diy/lock.go of Pulumi)."""


def check_no_update(options: argparse.Namespace, stack: str) -> None:
    """Check that no update of the stack is under way. Some backends do not show it; then it passes.

    Args:
        options: The command's options.
        stack: The stack's name.

    Raises:
        ArchshiftError: An update is under way, or the engine fails.
    """
    short = stack.rpartition("/")[2]
    if any(_is_busy(each, short) for each in _json(options, "stack", "ls", "--json")) or _locked(
        options, short
    ):
        raise ArchshiftError(
            f"an update of the stack {short} is under way",
            "run archshift rebalance after it; if it was killed, run pulumi cancel first",
        )


def _is_busy(summary: Any, stack: str) -> bool:
    if not isinstance(summary, Mapping) or not summary.get("updateInProgress"):
        return False
    return str(summary.get("name", "")).rpartition("/")[2] == stack


def _locked(options: argparse.Namespace, stack: str) -> bool:
    (who,) = _json(options, "whoami", "--json")
    url = urlsplit(str(who.get("url", "")) if isinstance(who, Mapping) else "")
    if url.scheme != "file":
        return False
    home = Path(unquote(url.netloc + url.path)).expanduser()
    return any(home.joinpath(*_LOCKS).glob(f"*/{stack}/*.json"))


def _json(options: argparse.Namespace, *command: str) -> list[Any]:
    """Return what the engine answers as a list; empty if it is not JSON."""
    try:
        answer = json.loads(pulumi(options, *command))
    except ValueError:
        return [{}]
    return answer if isinstance(answer, list) else [answer]
