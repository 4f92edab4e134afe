"""The lab's images, and what the tests need besides: layers with everything that can be in one."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

from archshift.images.contents.layers import Budget, Layer, LayerReader
from lab import oci
from lab.oci import OCI_INDEX, OCI_MANIFEST, Pushed, digest_of, elf

__all__ = [
    "OCI_INDEX",
    "OCI_MANIFEST",
    "Entry",
    "File",
    "Link",
    "Pushed",
    "Pusher",
    "digest_of",
    "elf",
    "layer",
    "read_layer",
]


@dataclass(frozen=True)
class Link:
    """A symbolic link, or a hard one, in a layer."""

    target: str
    hard: bool = False


@dataclass(frozen=True)
class File:
    """A file in a layer that is not executable, or is of another mode."""

    content: bytes
    mode: int = 0o644


Entry = bytes | Link | File | None


def layer(entries: Mapping[str, Entry], compression: str = "gzip") -> bytes:
    """Return a layer: path to executable content, link, or None for a folder."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, entry in entries.items():
            info = tarfile.TarInfo(path)
            info.mode = 0o755
            if entry is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(entry, Link):
                info.type = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE
                info.linkname = entry.target
                tar.addfile(info)
            else:
                content = entry.content if isinstance(entry, File) else entry
                info.mode = entry.mode if isinstance(entry, File) else 0o755
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = raw.getvalue()
    if compression == "gzip":
        return gzip.compress(data, 1)
    return zstandard.compress(data) if compression == "zstd" else data


def read_layer(packed: bytes, budget: Budget, piece: int = 1 << 16) -> Layer:
    """Read a layer as it comes from a registry, in pieces of a size."""
    reader = LayerReader(budget)
    for start in range(0, len(packed), piece):
        reader.feed(packed[start : start + piece])
    return reader.close()


class Pusher(oci.Pusher):
    """Pushes to a registry on loopback, and takes away."""

    def delete(self, repository: str, digest: str) -> None:
        self._client.delete(f"/v2/{repository}/manifests/{digest}").raise_for_status()
