"""One file of a git repository, committed alone."""

import subprocess
from pathlib import Path
from typing import Final

from archshift.errors import ArchshiftError

# Hooks of the repository may take a while.
_TIMEOUT_SECONDS: Final = 300


def check_committed(path: Path) -> None:
    """Check that a file is in git as it is on the disk.

    Raises:
        ArchshiftError: It is not: a commit would carry away what somebody else wrote.
    """
    if not _git(path, "ls-files", "--", path.name):
        raise ArchshiftError(f"{path} is not in git yet; git add and commit it first, or leave --commit out")
    if _git(path, "status", "--porcelain", "--", path.name):
        raise ArchshiftError(
            f"{path} has uncommitted changes; commit or undo them first, or leave --commit out"
        )


def commit(path: Path, message: str) -> None:
    """Commit a file alone, whatever else is staged.

    Raises:
        ArchshiftError: git refuses.
    """
    _git(
        path,
        "commit",
        "--quiet",
        "--file=-",
        "--cleanup=whitespace",
        "--only",
        "--",
        path.name,
        stdin=message,
    )


def head(path: Path) -> str:
    """Return the commit that a file's repository is at."""
    return _git(path, "rev-parse", "HEAD").strip()


def _git(path: Path, *arguments: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            ["git", "--literal-pathspecs", "-C", str(path.parent), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise ArchshiftError("git is not on PATH; install it, or leave --commit out") from None
    except OSError as error:
        raise ArchshiftError(f"git cannot be run: {error.strerror}; check the one on PATH") from None
    except subprocess.TimeoutExpired:
        raise ArchshiftError(
            f"git {arguments[0]} did not end in {_TIMEOUT_SECONDS} s; commit by hand"
        ) from None
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next(
            (line for line in said if line.startswith(("fatal:", "error:"))), said[0] if said else ""
        )
        raise ArchshiftError(f"git {arguments[0]}: {reason or f'exit code {done.returncode}'}")
    return done.stdout
