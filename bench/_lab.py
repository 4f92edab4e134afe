"""A lab for one benchmark."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.control_plane import PROJECT, Lab


@contextmanager
def running_lab(*, karpenter: bool = False) -> Iterator[tuple[Lab, Path]]:
    """Start a lab in a new folder, and stop and delete it at the end; yields the lab and the folder.

    The folder is inside the checkout, so that programs in it find the same Python environment.
    """
    parent = PROJECT / ".lab"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        lab = Lab(Path(name) / "lab", karpenter=karpenter)
        lab.start(lambda text: print(text, flush=True))
        try:
            yield lab, Path(name)
        finally:
            lab.stop()
