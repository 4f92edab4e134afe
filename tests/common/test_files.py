"""Files that a command writes, and what must survive that."""

import os
import threading
from pathlib import Path

import pytest

from archshift.common.files import replace_file


def test_a_pipe_gets_the_text_and_stays_a_pipe(tmp_path: Path) -> None:
    """As `--html >(gzip > page.gz)` in a shell."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    replace_file(pipe, "page\n")
    reader.join()
    assert read == ["page\n"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_device_is_written_to_and_stays(tmp_path: Path, device: str) -> None:
    """Whoever may write in /dev, such as root in a container, must not lose /dev/null or /dev/stdout."""
    with (tmp_path / "out").open("wb") as out:
        path = Path(device.format(out.fileno()))
        before = path.lstat().st_mode
        replace_file(path, "text")
        assert path.lstat().st_mode == before
    assert (tmp_path / "out").read_text() == ("" if device == "/dev/null" else "text")


def test_a_link_is_replaced_and_its_target_is_untouched(tmp_path: Path) -> None:
    """Whoever can plant a link must not choose the file that is written."""
    target = tmp_path / "target"
    target.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(target)
    replace_file(link, "text")
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("mine", "text", False)
