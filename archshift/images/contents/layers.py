"""Reads the names, links and programs of a layer from a stream, and keeps no other content.

https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import zstandard

from archshift.images.contents.elf import HEAD_BYTES, Binary, Script, read_program
from archshift.images.registry.errors import UnreadableError

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_CHUNK: Final = 1 << 18
_LONGEST_HEADER: Final = 1 << 20
"""The longest pax header or name that tarfile may read at once, in bytes. Real headers have hundreds."""

_LONGEST_PATH: Final = 4096
_ZSTD_WINDOW: Final = 128 << 20


class Source(Protocol):
    """A stream with the compressed bytes of a layer."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; an empty result is the end."""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. ``program`` is read only if the file is executable."""

    executable: bool
    program: Binary | Script | None = None


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Hardlink:
    """Another name for a file of the same or a lower layer; the target is a path from the root."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder."""


Entry = File | Symlink | Hardlink | Folder


@dataclass(slots=True)
class Layer:
    """The changes of one layer.

    Attributes:
        entries: (path, entry) in order. Paths are normalized and relative to the root.
        removed: Paths of lower layers that this layer deletes.
        emptied: Folders whose content from lower layers this layer deletes.
    """

    entries: list[tuple[str, Entry]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Budget:
    """The remaining limits for one image: unpacked bytes, files, and bytes of scripts to keep."""

    unpacked_bytes: int
    files: int
    script_bytes: int = 32 << 20


def read_layer(source: Source, budget: Budget) -> Layer:
    """Read a layer: a tar archive, plain or compressed with gzip or zstd. The first bytes decide.

    Raises:
        UnreadableError: The layer has another format, is damaged, or exceeds the budget.
    """
    layer = Layer()
    try:
        stream = _Forward(_unpacked(source), budget)
        with tarfile.TarFile(fileobj=stream, mode="r") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                budget.files -= 1
                if budget.files < 0:
                    raise UnreadableError("the image has more files than the limit of the deep check")
                _take(layer, tar, member, budget)
                # tarfile remembers every member. Clear the list to save memory.
                tar.members.clear()  # type: ignore[attr-defined]
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise UnreadableError(f"a layer is not a readable tar archive ({error})") from None
    return layer


def _take(layer: Layer, tar: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> None:
    if len(member.name) > _LONGEST_PATH or len(member.linkname) > _LONGEST_PATH:
        raise UnreadableError("a layer has a path that is too long")
    path = _normal(member.name)
    folder, name = posixpath.split(path)
    if name == _OPAQUE:
        layer.emptied.append(folder)
    elif name.startswith(_WHITEOUT):
        # Other names with this prefix, such as ".wh..wh.plnk", are internal to aufs.
        if not name.startswith(_WHITEOUT * 2):
            layer.removed.append(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
    elif path:
        layer.entries.append((path, _entry(tar, member, budget)))


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> Entry:
    if member.isdir():
        return Folder()
    if member.issym():
        return Symlink(member.linkname)
    if member.islnk():
        return Hardlink(_normal(member.linkname))
    if not member.isreg() or not member.mode & 0o111:
        return File(executable=False)
    content = tar.extractfile(member)
    program = read_program(content.read(HEAD_BYTES)) if content else None
    if isinstance(program, Script):
        budget.script_bytes -= len(program.text)
        if budget.script_bytes < 0:
            program = Script(program.interpreter, program.argument, "")
    return File(executable=True, program=program)


def _normal(path: str) -> str:
    return posixpath.normpath(f"/{path}").lstrip("/")


def _unpacked(source: Source) -> Callable[[int], bytes]:
    head = b""
    while len(head) < 4:
        more = source.read(_CHUNK)
        if not more:
            break
        head += more
    whole = _Joined(head, source)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=whole, mode="rb").read
    # A zstd frame, or a skippable one in front of it (zstd:chunked).
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return unpacker.stream_reader(whole, read_across_frames=True).read  # type: ignore[arg-type]
    return whole.read


class _Joined(io.RawIOBase):
    """A source, preceded by the first bytes that were already read from it."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        size = _CHUNK if size < 0 else size
        if not self._head:
            return self._source.read(size)
        part, self._head = self._head[:size], self._head[size:]
        return part


class _Forward:
    """A stream with the methods of a file that tarfile needs: read, tell, and seek forward.

    It limits the unpacked bytes, so that a small layer cannot unpack without end.
    """

    mode = "rb"
    name = ""

    def __init__(self, read: Callable[[int], bytes], budget: Budget) -> None:
        self._read = read
        self._budget = budget
        self._position = 0

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise UnreadableError("a layer has a header that is too long")
        chunks: list[bytes] = []
        while size > 0:
            chunk = self._read(min(size, _CHUNK))
            if not chunk:
                break
            chunks.append(chunk)
            size -= len(chunk)
            self._position += len(chunk)
            self._budget.unpacked_bytes -= len(chunk)
            if self._budget.unpacked_bytes < 0:
                raise UnreadableError("the image unpacks to more bytes than the limit of the deep check")
        return b"".join(chunks)

    def seek(self, position: int) -> int:
        if position < self._position:
            raise UnreadableError("a layer's headers point backwards")
        while self._position < position and self.read(min(position - self._position, _CHUNK)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position
