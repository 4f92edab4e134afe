"""Writes files that other programs may read at the same time."""

import os
import tempfile
from pathlib import Path

from archshift.common.errors import ArchshiftError


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part.

    A symbolic link is replaced, not followed. Line ends are kept.

    Raises:
        OSError: The file cannot be written; it is unchanged.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_whole(path: Path, text: str, option: str) -> None:
    """Write a file in one step, readable by everybody; create its folder if it is missing.

    Args:
        option: The command line option that named the file, for the error.

    Raises:
        ArchshiftError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except OSError as error:
        raise ArchshiftError(
            f"{option}: archshift cannot write {path} ({error.strerror})", "give another path"
        ) from None
