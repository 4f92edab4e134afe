"""Reads the first bytes of a program file: an ELF binary with its machine, or a script. Pure.

ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html; scripts: execve(2).
"""

import struct
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 4096
"""How many bytes of a file are read. Linkers put the program headers and the loader's path there."""

X86_64: Final = "x86-64"
AARCH64: Final = "arm64"

# The values of e_machine for which people build container images.
_MACHINES: Final = {
    3: "32-bit x86",
    8: "MIPS",
    20: "32-bit PowerPC",
    21: "PowerPC",
    22: "s390x",
    40: "32-bit ARM",
    62: X86_64,
    183: AARCH64,
    243: "RISC-V",
    258: "LoongArch",
}
_PT_INTERP: Final = 3
_SHEBANG_BYTES: Final = 256
"""Linux reads no more of a script's first line (BINPRM_BUF_SIZE)."""


@dataclass(frozen=True, slots=True)
class Binary:
    """An ELF file.

    Attributes:
        machine: ``arm64``, ``x86-64`` or another name, for messages.
        loader: The path in PT_INTERP; empty for a static binary.
    """

    machine: str
    loader: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    """A file that starts with ``#!``.

    Attributes:
        interpreter: The interpreter as written; empty if the line has none.
        argument: The rest of the line. Linux passes it as one argument.
        text: The first ``HEAD_BYTES`` of the file.
    """

    interpreter: str
    argument: str
    text: str


def read_program(head: bytes) -> Binary | Script | None:
    """Read a program from its first ``HEAD_BYTES``; None if Linux could not start it."""
    if head.startswith(b"\x7fELF"):
        return _elf(head)
    if head.startswith(b"#!"):
        text = head.decode(errors="replace")
        line = text.split("\n", 1)[0][2:_SHEBANG_BYTES].strip()
        interpreter, _, argument = line.replace("\t", " ").partition(" ")
        return Script(interpreter, argument.strip(), text)
    return None


def _elf(head: bytes) -> Binary | None:
    try:
        wide, order = {1: False, 2: True}[head[4]], {1: "<", 2: ">"}[head[5]]
        (number,) = struct.unpack_from(f"{order}H", head, 18)
        machine = _MACHINES.get(number, f"machine {number}")
        if number == 183 and (order == ">" or not wide):
            machine = "big-endian or 32-bit arm64"
        offset = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    except (KeyError, IndexError, struct.error):
        return None
    return Binary(machine, _loader(head, order, wide, offset, size, count))


def _loader(head: bytes, order: str, wide: bool, offset: int, size: int, count: int) -> str:
    for number in range(min(count, HEAD_BYTES)):
        at = offset + number * size
        # The header is beyond the bytes that were read. Linkers for Linux put PT_INTERP first.
        if at + (56 if wide else 32) > len(head):
            return ""
        if struct.unpack_from(f"{order}I", head, at)[0] != _PT_INTERP:
            continue
        start, length = (
            struct.unpack_from(f"{order}Q", head, at + field)[0] if wide
            else struct.unpack_from(f"{order}I", head, at + field // 2)[0]
            for field in (8, 32)
        )  # fmt: skip
        return head[start : start + length].split(b"\0", 1)[0].decode(errors="replace")
    return ""
