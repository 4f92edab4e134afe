"""Commits one file of a git repository, and reads its history."""

import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from archshift.common.errors import ArchshiftError

# Hooks of the repository may take a while.
_TIMEOUT_SECONDS: Final = 300


def check_committed(path: Path) -> None:
    """Check that a file has no uncommitted changes: our commit would include them.

    Raises:
        ArchshiftError: It has changes, or is not in git.
    """
    if not _git(path, "ls-files", "--", path.name):
        raise ArchshiftError(f"{path} is not in git", "add and commit it first, or omit --commit")
    if _git(path, "status", "--porcelain", "--", path.name):
        raise ArchshiftError(f"{path} has uncommitted changes", "commit or undo them first, or omit --commit")


def commit(path: Path, message: str) -> None:
    """Commit only this file, whatever else is staged.

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
    """Return the current commit of a file's repository."""
    return _git(path, "rev-parse", "HEAD").strip()


def history(
    path: Path, most: int, *, changing: str = "", largest: int = 1 << 20
) -> Iterator[tuple[datetime, bytes]]:
    """Yield the last versions of a file with the times of their commits, oldest first.

    A version from a merge has the time of the merge, because it takes effect then.

    Args:
        path: The file; it may be deleted.
        most: Limit of versions.
        changing: Only commits that change a line that matches this pattern.
        largest: Larger versions are skipped, in bytes.

    Raises:
        ArchshiftError: The file is in no repository, or git refuses.
    """
    which = [f"-G{changing}"] if changing else []
    command = ("log", "--first-parent", f"--max-count={most}", "--format=%H %cI", *which, "--", path.name)
    commits = [line.split(" ", 1) for line in _git(path, *command).splitlines()]
    for commit_id, at in reversed(commits):
        blob = f"{commit_id}:./{path.name}"
        try:
            if int(_git(path, "cat-file", "-s", blob)) > largest:
                continue
            content = _git(path, "cat-file", "blob", blob)
        except ArchshiftError:
            continue  # this commit deleted the file
        yield datetime.fromisoformat(at), content.encode(errors="replace")


def is_shallow(path: Path) -> bool:
    """Whether a file's repository is a shallow clone."""
    return _git(path, "rev-parse", "--is-shallow-repository").strip() == "true"


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
        raise ArchshiftError("git is not on PATH", "install git") from None
    except OSError as error:
        raise ArchshiftError(f"git cannot be run: {error.strerror}", "check the git on PATH") from None
    except subprocess.TimeoutExpired:
        raise ArchshiftError(
            f"git {arguments[0]} did not end in {_TIMEOUT_SECONDS} s", "commit by hand"
        ) from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next(
            (line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else ""
        )
        raise ArchshiftError(f"git {arguments[0]}: {reason or f'exit code {done.returncode}'}")
    return done.stdout
