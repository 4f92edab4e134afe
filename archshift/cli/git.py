"""Commits one file of a git repository, and reads its history and its commits."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def checkout_of(path: Path, commit_id: str) -> Iterator[Path]:
    """Check a commit out into a folder of its own, for a while; yields the folder that has ``path`` there.

    A checkout and no archive: attributes in the repository can leave files out of an archive.

    Args:
        path: A folder in the repository.
        commit_id: The commit.

    Raises:
        ArchshiftError: The repository does not have the commit, or git refuses.
    """
    here = path / "Pulumi.yaml"
    prefix = _git(here, "rev-parse", "--show-prefix").strip()
    with tempfile.TemporaryDirectory(prefix="archshift-commit-") as folder:
        tree = Path(folder) / "tree"
        _git(here, "worktree", "add", "--quiet", "--detach", "--force", str(tree), commit_id)
        try:
            if not (tree / prefix).resolve().is_relative_to(tree.resolve()):
                raise ArchshiftError(f"{prefix} leads out of the commit {commit_id} by a symbolic link")
            yield tree / prefix
        finally:
            _git(here, "worktree", "remove", "--force", str(tree))


def is_ancestor(path: Path, commit_id: str, of: str) -> bool:
    """Return whether a commit is another one, or in its history."""
    try:
        _git(path / "Pulumi.yaml", "merge-base", "--is-ancestor", commit_id, of)
    except ArchshiftError:
        return False
    return True


def changed(path: Path, before: str, after: str, patterns: Sequence[str]) -> list[str]:
    """Return the files that differ between two commits; an empty ``after`` is the folder as it is now.

    Args:
        path: A folder in the repository.
        before: A commit.
        after: Another commit, or empty.
        patterns: The patterns of files, from the folder.
    """
    commits = [before, after] if after else [before]
    options = ("--name-only", "--relative", "--no-renames", "-z")
    names = _git(path / "Pulumi.yaml", "diff", *options, *commits, "--", *patterns, globs=True)
    return list(filter(None, names.split("\0")))


def is_shallow(path: Path) -> bool:
    """Whether a file's repository is a shallow clone."""
    return _git(path, "rev-parse", "--is-shallow-repository").strip() == "true"


def _git(path: Path, *arguments: str, stdin: str = "", globs: bool = False) -> str:
    pathspecs = "--glob-pathspecs" if globs else "--literal-pathspecs"
    try:
        done = subprocess.run(
            ["git", pathspecs, "-C", str(path.parent), *arguments],
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
