"""The reader of archives: as tarfile on good ones, and nothing broken is the end of an archive."""

import gzip
import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from archshift.images.contents.elf import Binary
from archshift.images.contents.layers import Budget, File, Work
from archshift.images.contents.rootfs import Rootfs
from archshift.images.registry.errors import UnreadableError
from tests.images.build import Link, elf, layer, read_layer
from tests.images.hostile import deep_paths, gzip_bomb, long_names, many_folders, zstd_bomb
from tests.properties import examples

EMPTY = bytes(1024)


def budget(**changes: Any) -> Budget:
    return Budget(**{"unpacked_bytes": 16 << 30, "files": 1_000_000, **changes})


def read(data: bytes, **changes: Any) -> list[str]:
    return [path for path, _ in read_layer(data, budget(**changes)).entries]


def info(name: str = "app", kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.mode = kind, size, 0o755
    return found


def signed(header: bytes) -> bytes:
    """Return a header with the right checksum."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def pax(record: bytes) -> bytes:
    """Return a pax header with this text, and a member after it."""
    header = info("pax", tarfile.XHDTYPE, len(record)).tobuf()
    return header + record + bytes(-len(record) % 512) + info().tobuf() + EMPTY


def with_size(field: bytes) -> bytes:
    """Return an archive whose member has this field for its size."""
    header = info().tobuf()
    return signed(header[:124] + field.ljust(12, b"\0") + header[136:]) + EMPTY


names = st.lists(st.text("abc./-ü", min_size=1, max_size=200), min_size=1, max_size=5)


@examples
@given(names, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 2000))
def test_good_archives_read_as_tarfile_reads_them(paths: list[str], form: int, piece: int) -> None:
    """Long names, links, and contents of any size, in pieces of any size."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for number, path in enumerate(paths):
            member = info(path, size=number * 700)
            tar.addfile(member, io.BytesIO(b"x" * member.size))
            link = info(f"{number}", tarfile.SYMTYPE)
            link.linkname = path
            tar.addfile(link)
    raw.seek(0)
    with tarfile.open(fileobj=raw) as tar:
        wanted = [(one.name, one.linkname) for one in tar]
    found = read_layer(gzip.compress(raw.getvalue(), mtime=0), budget(), piece)
    links = {name: entry.target for name, entry in found.entries if hasattr(entry, "target")}
    assert links == {name: target for name, target in wanted if target}
    alone = read_layer(raw.getvalue(), budget(), piece)
    assert alone.entries == found.entries


def test_sparse_programs_are_read() -> None:
    """A file with holes begins with its first part, in all forms that tar writes."""
    program = elf("amd64").ljust(512, b"\0")
    old = bytearray(info("app", tarfile.GNUTYPE_SPARSE, 512).tobuf(tarfile.GNU_FORMAT))
    old[386:410] = b"%011o\0%011o\0" % (0, 512)
    ((_, entry),) = read_layer(signed(bytes(old)) + program + EMPTY, budget()).entries
    assert entry == File(executable=True, program=Binary("x86-64"))
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    head = info("pax", tarfile.XHDTYPE, len(records)).tobuf() + records.ljust(512, b"\0")
    one = head + info(size=1024).tobuf() + b"1\n0\n512\n".ljust(512, b"\0") + program + EMPTY
    ((_, entry),) = read_layer(one, budget()).entries
    assert entry == File(executable=True, program=Binary("x86-64"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"abc", "it is empty"),
        (gzip.compress(b"", mtime=0), "it has no members"),
        (gzip.compress(EMPTY, mtime=0)[:-1], "its compressed data is cut"),
        (gzip.compress(EMPTY, mtime=0)[:-9], "its compressed data is cut"),
        (zstandard.compress(EMPTY)[:-1], "its compressed data is cut"),
        (gzip.compress(EMPTY, mtime=0) + b"xxxxxxxxxxxx", "incorrect header check"),
        (info(size=600).tobuf() + bytes(512), "it is cut"),
        (info().tobuf()[:300], "it is cut"),
        (info().tobuf() + b"\1" * 512 + EMPTY, "invalid checksum"),
        (bytes(512) + info().tobuf() + EMPTY, "an empty header stands before the end"),
        (info("a").tobuf().replace(b"a", b"b", 1) + EMPTY, "a header has another checksum"),
        (with_size(b"\xff" * 12), "a header has an invalid size"),
        (with_size(b"\x80" + b"\xff" * 11), "a header has an invalid size"),
        (with_size(b"12x4"), "a header has an invalid size"),
        (with_size(b"9" * 11), "a header has an invalid size"),
        (pax(b"13 size=abc9\n"), "a pax header has an invalid number"),
        (pax(b"12 size=-12\n"), "a pax header has an invalid number"),
        (pax(b"5011 size=" + b"9" * 5000 + b"\n"), "a pax header has an invalid number"),
        (pax(b"30 size=12\n"), "a pax header is invalid"),
        (pax(b"0 size=12\n"), "a pax header is invalid"),
        (pax(b"garbage"), "a pax header is invalid"),
        (pax(b"11 path=\0a\n"), "a pax header has an invalid path"),
        (pax(b"6 a=b\n" * 1001), "a pax header is invalid"),
        (pax(b"22 GNU.sparse.major=1\n"), "a sparse map is invalid"),
        (pax(b"24 GNU.sparse.map=0,1,2\n"), "a sparse map is invalid"),
        (info("x", tarfile.GNUTYPE_LONGNAME, 2).tobuf() + b"x".ljust(512, b"\0") + EMPTY, "before the end"),
        (long_names(), "a member has more than 16 headers"),
        (deep_paths(3), "a path of more than 128 folders"),
        (gzip_bomb(), "unpacks to more than 100 times its size"),
        (zstd_bomb(), "unpacks to more than 100 times its size"),
    ],
)
def test_what_is_broken_or_too_much_is_refused(data: bytes, why: str) -> None:
    """A reader that stops at garbage would miss what the container runtime unpacks behind it."""
    with pytest.raises(UnreadableError) as refused:
        read(data)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        EMPTY,
        gzip.compress(EMPTY, mtime=0),
        gzip.compress(EMPTY, mtime=0) + bytes(100),
        zstandard.compress(EMPTY),
    ],
    ids=["plain", "gzip", "gzip and zeros", "zstd"],
)
def test_an_empty_archive_is_fine(data: bytes) -> None:
    """Instructions that change no file make such layers."""
    assert read(data) == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_a_layer_cut_anywhere_is_refused(pack: Callable[[bytes], bytes]) -> None:
    """Only between two members an archive without its end counts, because runtimes read it so."""
    whole = pack(layer({"app": elf("arm64"), "b": Link("app")}, "none"))
    for end in range(0, len(whole) - 1, 7):
        try:
            paths = read(whole[:end])
        except UnreadableError:
            continue
        assert pack is bytes
        assert end % 512 == 0 or paths == ["app", "b"], end
        assert paths == ["app", "b"][: len(paths)]


def test_small_layers_may_not_be_long_to_read() -> None:
    """Hundreds of thousands of folders in a few megabytes: the limit of work or of memory ends it."""
    data = many_folders(60_000)
    work = Work(seconds=0.2, seconds_per_byte=0)
    with pytest.raises(UnreadableError, match="takes more work to read"), work.measured():
        read(data, work=work)
    few = budget(memory_bytes=60_000 * 1000)
    found = read_layer(data, few)
    with pytest.raises(UnreadableError, match="more memory than the limit"):
        Rootfs([found], few.take_memory)
