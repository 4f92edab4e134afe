"""Writes files that other programs may read at the same time."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from archshift.common.errors import ArchshiftError

_STREAMS: Final = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part.

    A symbolic link is replaced, not followed. Line ends are kept. A device or a pipe, such as /dev/stdout,
    is written to.

    Raises:
        OSError: The file cannot be written; it is unchanged.
    """
    if _is_stream(path):
        with path.open("ab") as stream:
            stream.write(text.encode())
        return
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


def _is_stream(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return path.parent in _STREAMS or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


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
