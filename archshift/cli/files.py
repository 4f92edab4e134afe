"""Files that subcommands write for others."""

from pathlib import Path

from archshift.common.errors import ArchshiftError
from archshift.common.files import replace_file


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
            f"{option}: {path} cannot be written ({error.strerror}); give another path"
        ) from None
