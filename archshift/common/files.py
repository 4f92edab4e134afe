"""Files that others read while they are written."""

import os
import tempfile
from pathlib import Path


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
