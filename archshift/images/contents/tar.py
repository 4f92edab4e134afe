"""Reads tar archives as a container runtime does, block by block, with a bound on all that headers announce.

Formats: POSIX.1-2008 (pax) and GNU tar. The rules are those of Go's archive/tar, because containerd and
others unpack layers with it. Python's tarfile takes what it does not understand for the end of the archive,
and follows headers without a bound.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from archshift.images.registry.errors import UnreadableError

_BLOCK: Final = 512
_ZEROS: Final = bytes(_BLOCK)
_LONGEST_HEADER: Final = 1 << 20
"""The longest pax header or name, in bytes, as in Go. Real ones have hundreds."""

_LONGEST_PATH: Final = 4096
_MOST_RECORDS: Final = 1000
_MOST_HEADERS: Final = 16
"""The most headers in a row that describe one member. Real members have one or two."""

_MOST_PARTS: Final = 10_000
"""The most parts of a sparse file."""

_LARGEST: Final = (1 << 63) - 1
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_DECIMAL: Final = re.compile(rb"[0-9]{1,19}")
_OCTAL: Final = re.compile(rb"[0-7]{1,22}")

Kind: TypeAlias = Literal["file", "folder", "symlink", "hardlink", "other"]

_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file",
    b"1": "hardlink", b"2": "symlink", b"5": "folder",
}  # fmt: skip
_WITHOUT_CONTENT: Final = b"123456"
"""Types whose size counts for nothing: links, devices, folders and pipes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Attributes:
        name: The path as written. Bytes that are not UTF-8 are lone surrogates.
        kind: Its type; ``other`` for devices, pipes and types of other programs.
        mode: The permissions.
        link: The target of a link.
        head: The first bytes of a file, as many as the caller wanted.
    """

    name: str
    kind: Kind
    mode: int
    link: str = ""
    head: bytes = b""


@dataclass(slots=True)
class _Further:
    """What headers before a member's own say about it: GNU's long names, and the records of pax."""

    name: str = ""
    link: str = ""
    records: dict[bytes, bytes] = field(default_factory=dict)


def members(wanted: Callable[[Member], int]) -> Generator[int | Member, bytes, None]:
    """Read an archive.

    Args:
        wanted: How many of the first bytes of a file to read.

    Yields:
        How many bytes to send next; a negative number of bytes to skip; or a member. No bytes at a number
        means the end of the data.

    Raises:
        UnreadableError: It is not a valid archive.
    """
    further, headers, empty = _Further(), 0, True
    while True:
        block = yield _BLOCK
        if not block:
            if empty or headers:
                raise _broken("it has no members" if empty else "it is cut")
            return
        empty = False
        if block == _ZEROS:
            block = yield _BLOCK
            if block not in (b"", _ZEROS) or headers:
                raise _broken("an empty header stands before the end")
            return
        headers += 1
        if headers > _MOST_HEADERS:
            raise _broken(f"a member has more than {_MOST_HEADERS} headers")
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136], "size")
        if kind in b"xgLK":
            if size > _LONGEST_HEADER:
                raise UnreadableError("a layer has a header that is too long")
            content = yield size
            yield -_padding(size)
            if kind == b"x":
                further.records = _read_records(content)
            elif kind == b"L":
                further.name = _text(content.partition(b"\0")[0])
            elif kind == b"K":
                further.link = _text(content.partition(b"\0")[0])
            else:
                # Go gives a global header to its caller, which ignores it.
                further, headers = _Further(), 0
            continue
        yield from _member(block, size, further, wanted)
        further, headers = _Further(), 0


def _member(
    block: bytes, size: int, further: _Further, wanted: Callable[[Member], int]
) -> Generator[int | Member, bytes, None]:
    kind = block[156:157]
    records = further.records
    name = (
        further.name
        or _text(records.get(b"GNU.sparse.name", b"") or records.get(b"path", b""))
        or _own_name(block)
    )
    link = further.link or _text(records.get(b"linkpath", b"")) or _text(block[157:257].partition(b"\0")[0])
    size = _decimal(records[b"size"]) if records.get(b"size") else size
    if len(name) > _LONGEST_PATH or len(link) > _LONGEST_PATH:
        raise UnreadableError("a layer has a path that is too long")
    what: Kind = _KINDS.get(kind, "other")
    if kind == b"\0" and name.endswith("/"):
        what = "folder"
    member = Member(name, what, _number(block[100:108], "mode"), link)
    if kind in _WITHOUT_CONTENT or what == "folder":
        yield member
        return
    # The bytes of the file that stand at the beginning of its content.
    first = size
    left = size + _padding(size)
    if kind == b"S":
        first = yield from _old_sparse_map(block)
    elif any(key.startswith(b"GNU.sparse.") for key in records):
        first, used = yield from _sparse_map(records, size)
        left -= used
        size -= used
    count = min(size, first, wanted(member)) if what == "file" else 0
    if count:
        head = yield count
        left -= count
        member = Member(name, what, member.mode, link, head)
    # Before the member: an archive that is cut in its content is not one.
    yield -left
    yield member


def _own_name(block: bytes) -> str:
    name = _text(block[:100].partition(b"\0")[0])
    # GNU's headers have other fields where ustar's have the prefix.
    prefix = block[345:500] if block[257:263] == b"ustar\0" else b""
    if block[257:263] == b"ustar\0" and block[508:512] == b"tar\0":
        prefix = block[345:476]
    start = _text(prefix.partition(b"\0")[0])
    return f"{start}/{name}" if start else name


def _read_records(content: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at, count = 0, 0
    while at < len(content):
        count += 1
        start = _RECORD.match(content, at)
        end = at + int(start[1]) if start else 0
        if not start or count > _MOST_RECORDS or not start.end() < end <= len(content):
            raise _broken("a pax header is invalid")
        key, equals, value = content[start.end() : end - 1].partition(b"=")
        if content[end - 1 : end] != b"\n" or not equals or not key or b"\0" in key:
            raise _broken("a pax header is invalid")
        if key in (b"path", b"linkpath", b"GNU.sparse.name") and b"\0" in value:
            raise _broken("a pax header has an invalid path")
        # Version 0.0 of sparse files repeats two keys for each part; the first part counts.
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            records.setdefault(key, value)
        else:
            records[key] = value
        at = end
    return records


def _sparse_map(records: dict[bytes, bytes], size: int) -> Generator[int, bytes, tuple[int, int]]:
    """Return how many bytes from the file's begin are stored, and how many bytes the map takes."""
    if records.get(b"GNU.sparse.major") == b"1":
        text, used = b"", 0
        while True:
            if used + _BLOCK > size:
                raise _broken("a sparse map is invalid")
            text += yield _BLOCK
            used += _BLOCK
            count, newline, _ = text.partition(b"\n")
            if newline and _decimal(count) > _MOST_PARTS:
                raise _broken("a sparse map has too many parts")
            if newline and text.count(b"\n") > 2 * _decimal(count):
                break
            if len(text) > 64 * _MOST_PARTS:
                raise _broken("a sparse map is invalid")
        numbers = text.split(b"\n")[1 : 2 * _decimal(text.partition(b"\n")[0]) + 1]
        return _first_part(numbers), used
    if b"GNU.sparse.map" in records:
        return _first_part(records[b"GNU.sparse.map"].split(b",", 2 * _MOST_PARTS + 1)), 0
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    return _first_part([records[key] for key in keys if key in records]), 0


def _first_part(numbers: list[bytes]) -> int:
    if len(numbers) > 2 * _MOST_PARTS or len(numbers) % 2:
        raise _broken("a sparse map is invalid")
    values = [_decimal(number) for number in numbers]
    return values[1] if values and values[0] == 0 else 0


def _old_sparse_map(block: bytes) -> Generator[int, bytes, int]:
    offset, size = block[386:398], block[398:410]
    further, parts = block[482], 0
    while further:
        parts += 21
        if parts > _MOST_PARTS:
            raise _broken("a sparse map has too many parts")
        more = yield _BLOCK
        if not more:
            raise _broken("it is cut")
        further = more[504]
    return 0 if _number(offset, "sparse map") else _number(size, "sparse map")


def _check_sum(block: bytes) -> None:
    wanted = _number(block[148:156], "checksum")
    rest = sum(block) - sum(block[148:156]) + 8 * 32
    # Old programs summed signed bytes.
    if wanted != rest and wanted != rest - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise _broken("a header has another checksum")


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:
        # Base 256; the second bit is the sign.
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > _LARGEST:
            raise _broken(f"a header has an invalid {what}")
        return value
    text = field.strip(b" \0").partition(b"\0")[0]
    if text and not _OCTAL.fullmatch(text):
        raise _broken(f"a header has an invalid {what}")
    value = int(text, 8) if text else 0
    if value > _LARGEST:
        raise _broken(f"a header has an invalid {what}")
    return value


def _decimal(text: bytes) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > _LARGEST:
        raise _broken("a pax header has an invalid number")
    return int(text)


def _padding(size: int) -> int:
    return -size % _BLOCK


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _broken(why: str) -> UnreadableError:
    return UnreadableError(f"a layer is not a readable tar archive ({why})")
