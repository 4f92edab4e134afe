"""Reads the names, links and programs of a layer as its bytes come, and keeps no other content.

https://github.com/opencontainers/image-spec/blob/main/layer.md

Everything that a layer can announce has a bound: a layer is as large as whoever made it wants.
"""

import posixpath
import time
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import zstandard

from archshift.images.contents.elf import HEAD_BYTES, Binary, Script, read_program
from archshift.images.contents.tar import Member, members
from archshift.images.registry.errors import UnreadableError

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_CHUNK: Final = 1 << 18
_ZSTD_CHUNK: Final = 512
"""So many bytes of zstd unpack to at most 16 MiB: a block of 4 bytes is 128 KiB."""

_ZSTD_WINDOW: Final = 128 << 20
_USUAL_MEMORY: Final = 10 << 20
"""The memory to unpack a usual layer: encoders of images have windows of up to 8 MiB."""

_MOST_PARTS: Final = 128
"""The most folders of one path. Real paths have up to 30."""

_ENTRY_BYTES: Final = 450
"""The memory for one path, in a layer and in the file system, besides its name."""

_FREE_BYTES: Final = 256 << 20
_RATIO: Final = 100
"""A layer may unpack to so many bytes, and to so many more for each of its own. Real ones have below 20."""


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

# Most entries are one of these; a layer may have hundreds of thousands.
_FOLDER: Final = Folder()
_PLAIN: Final = File(executable=False)


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


class Work:
    """The processor time that an image may take: little for a small image, more for each byte that came.

    So an image that is small to send cannot be long to read. Honest ones take a twentieth of it.
    """

    def __init__(self, seconds: float = 1.0, seconds_per_byte: float = 1 / (1 << 20)) -> None:
        """Start with so many seconds."""
        self._left = seconds
        self._per_byte = seconds_per_byte
        self._begun = time.thread_time()

    def came(self, size: int) -> None:
        """Note bytes that came."""
        self._left += size * self._per_byte

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the processor time of this thread."""
        self._begun = time.thread_time()
        try:
            yield
        finally:
            self._left -= time.thread_time() - self._begun

    def check(self) -> None:
        """Raise if the time is over; only in ``measured``.

        Raises:
            UnreadableError: It is.
        """
        if time.thread_time() - self._begun > self._left:
            raise UnreadableError("the image takes more work to read than the limit for its size")


@dataclass(slots=True)
class Budget:
    """The remaining limits for one image.

    Attributes:
        unpacked_bytes: Unpacked bytes.
        files: Files and folders.
        script_bytes: Bytes of scripts to keep.
        memory_bytes: Memory for names.
        work: The processor time; None for any.
    """

    unpacked_bytes: int
    files: int
    script_bytes: int = 32 << 20
    memory_bytes: int = 192 << 20
    work: Work | None = None

    def take_memory(self, size: int) -> None:
        """Take memory, and check the time.

        Raises:
            UnreadableError: Too little is left.
        """
        self.memory_bytes -= size
        if self.memory_bytes < 0:
            raise UnreadableError("the image's names need more memory than the limit of the deep check")
        if self.work is not None:
            self.work.check()


class LayerReader:
    """Reads one layer: a tar archive, plain or compressed with gzip or zstd. The first bytes decide.

    ``feed`` and ``close`` raise UnreadableError if the layer has another format, is damaged, or exceeds the
    budget.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._layer = Layer()
        self._head = b""
        self._unpacker: _Plain | _Gzip | _Zstd | None = None
        self._came = 0
        self._unpacked = 0
        self._files: dict[Binary, File] = {}
        self._archive = _Archive(members(self._wants_head))

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._came += len(data)
        if self._unpacker is None:
            self._head += data
            if len(self._head) < 4:
                return
            self._unpacker, data, self._head = _unpacker(self._head), self._head, b""
        for start in range(0, len(data), _CHUNK):
            self._feed(self._unpacker, data[start : start + _CHUNK])

    @property
    def memory(self) -> int:
        """How much memory the layer takes to unpack, in bytes; 0 for a usual layer."""
        memory = self._unpacker.memory if self._unpacker else 0
        return memory if memory > _USUAL_MEMORY else 0

    def close(self) -> Layer:
        """Return the layer after its last byte."""
        if self._unpacker is None:
            # Four bytes or fewer are no archive.
            raise UnreadableError("a layer is not a readable tar archive (it is empty)")
        if not self._unpacker.complete:
            raise UnreadableError("a layer is not a readable tar archive (its compressed data is cut)")
        self._archive.end()
        return self._layer

    def _feed(self, unpacker: "_Plain | _Gzip | _Zstd", data: bytes) -> None:
        try:
            for piece in unpacker.feed(data):
                self._unpacked += len(piece)
                self._budget.unpacked_bytes -= len(piece)
                if self._budget.unpacked_bytes < 0:
                    raise UnreadableError("the image unpacks to more bytes than the limit of the deep check")
                if self._unpacked > _FREE_BYTES + _RATIO * self._came:
                    raise UnreadableError(
                        f"a layer unpacks to more than {_RATIO} times its size, and to more than "
                        f"{_FREE_BYTES >> 20} MiB"
                    )
                self._budget.take_memory(0)
                for member in self._archive.feed(piece):
                    self._take(member)
        except (zlib.error, zstandard.ZstdError) as error:
            raise UnreadableError(f"a layer is not a readable tar archive ({error})") from None

    def _wants_head(self, member: Member) -> int:
        """Return how many bytes of a file's content to read."""
        return HEAD_BYTES if member.mode & 0o111 else 0

    def _take(self, member: Member) -> None:
        self._budget.files -= 1
        if self._budget.files < 0:
            raise UnreadableError("the image has more files than the limit of the deep check")
        path = _normal(member.name)
        if path.count("/") >= _MOST_PARTS:
            raise UnreadableError(f"a layer has a path of more than {_MOST_PARTS} folders")
        self._budget.take_memory(_ENTRY_BYTES + len(path) + len(member.link))
        folder, name = posixpath.split(path)
        if name == _OPAQUE:
            self._layer.emptied.append(folder)
        elif name.startswith(_WHITEOUT):
            # Other names with this prefix, such as ".wh..wh.plnk", are internal to aufs.
            if not name.startswith(_WHITEOUT * 2):
                self._layer.removed.append(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
        elif path:
            self._layer.entries.append((path, self._entry(member)))

    def _entry(self, member: Member) -> Entry:
        if member.kind == "folder":
            return _FOLDER
        if member.kind == "symlink":
            return Symlink(member.link)
        if member.kind == "hardlink":
            return Hardlink(_normal(member.link))
        if member.kind != "file" or not member.mode & 0o111:
            return _PLAIN
        program = read_program(member.head)
        if isinstance(program, Binary):
            return self._files.setdefault(program, File(executable=True, program=program))
        if isinstance(program, Script):
            self._budget.script_bytes -= len(program.text)
            if self._budget.script_bytes < 0:
                program = Script(program.interpreter, program.argument, "")
            self._budget.take_memory(len(program.text))
        return File(executable=True, program=program)


def _normal(path: str) -> str:
    return posixpath.normpath(f"/{path}").lstrip("/")


class _Archive:
    """Gives the reader of the archive the bytes that it wants, from pieces of any size.

    The reader yields how many bytes it wants next, as a number; how many it wants to skip, as a negative one;
    or a member.
    """

    def __init__(self, reader: Generator[int | Member, bytes, None]) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self._skip = 0
        self._wanted = 0
        self._begun = False
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[Member]:
        """Take the next bytes; yields the members that are complete."""
        if not self._begun:
            self._begun = True
            yield from self._go(b"", first=True)
        at = 0
        while at < len(piece) and not self._ended:
            if self._skip:
                step = min(self._skip, len(piece) - at)
                self._skip -= step
                at += step
                if not self._skip:
                    yield from self._go(b"")
                continue
            step = min(self._wanted - len(self._buffer), len(piece) - at)
            self._buffer += piece[at : at + step]
            at += step
            if len(self._buffer) == self._wanted:
                data = bytes(self._buffer)
                self._buffer.clear()
                yield from self._go(data)

    def end(self) -> None:
        """Note that no more bytes come.

        Raises:
            UnreadableError: The archive is incomplete.
        """
        if self._ended:
            return
        if self._skip or self._buffer or not self._begun:
            raise UnreadableError("a layer is not a readable tar archive (it is cut)")
        # An archive may end without the blocks that say so, but only between two members.
        try:
            self._reader.send(b"")
        except StopIteration:
            return
        raise UnreadableError("a layer is not a readable tar archive (it is cut)")

    def _go(self, data: bytes, *, first: bool = False) -> Iterator[Member]:
        try:
            wish = next(self._reader) if first else self._reader.send(data)
            while isinstance(wish, Member) or wish == 0:
                if isinstance(wish, Member):
                    yield wish
                wish = self._reader.send(b"")
        except StopIteration:
            self._ended = True
            return
        self._skip, self._wanted = (-wish, 0) if wish < 0 else (0, wish)


class _Plain:
    complete = True
    memory = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Gzip:
    """Unpacks gzip: one member after the other, as Go's reader does. Zeros may follow."""

    memory = 0

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)
        self._between = False

    @property
    def complete(self) -> bool:
        return self._between

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._between:
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._member, self._between = zlib.decompressobj(31), False
            yield self._member.decompress(data, _CHUNK)
            while not self._member.eof and self._member.unconsumed_tail:
                yield self._member.decompress(self._member.unconsumed_tail, _CHUNK)
            data, self._between = self._member.unused_data, self._member.eof


class _Zstd:
    """Unpacks zstd: frames, and skippable frames in between (zstd:chunked)."""

    def __init__(self) -> None:
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame = self._unpacker.decompressobj()
        self._between = False

    @property
    def complete(self) -> bool:
        return self._between

    @property
    def memory(self) -> int:
        # The layer names the size of its window, and a few bytes fill it.
        return self._unpacker.memory_size()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_CHUNK):
            part = data[start : start + _ZSTD_CHUNK]
            while part:
                if self._between:
                    self._frame, self._between = self._unpacker.decompressobj(), False
                piece = self._frame.decompress(part)
                part, self._between = (self._frame.unused_data, True) if self._frame.eof else (b"", False)
                if piece:
                    yield piece


def _unpacker(head: bytes) -> _Plain | _Gzip | _Zstd:
    if head.startswith(b"\x1f\x8b"):
        return _Gzip()
    # A zstd frame, or a skippable one in front of it (zstd:chunked).
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return _Zstd()
    return _Plain()
