"""Files that subcommands write for others."""

import os
import tempfile
from pathlib import Path

from archshift.errors import ArchshiftError


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
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
        ) as file:
            partial = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ArchshiftError(
            f"{option}: {path} cannot be written ({error.strerror}); give another path"
        ) from None
