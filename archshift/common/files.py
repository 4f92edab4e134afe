"""Files that others read while they are written."""

import os
import tempfile
from pathlib import Path

from archshift.common.errors import ArchshiftError


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file, whole or not at all.

    Args:
        path: The file; a link is replaced, not followed.
        text: What it is to hold; line ends are kept.
        mode: Its permissions.

    Raises:
        OSError: It cannot be written; it is as it was.
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
    """Write a file, whole or not at all; everybody may read it.

    Args:
        path: The file; its folder is made.
        text: What it is to hold.
        option: The option that named it.

    Raises:
        ArchshiftError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except OSError as error:
        raise ArchshiftError(
            f"{option}: {path} cannot be written ({error.strerror})", "give another path"
        ) from None
