"""Images that claim arm64 are looked into: which binary do they start, and for which machine is it?"""

import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from archshift.images.audit import AuditOptions, audit_images, audit_uses
from archshift.images.contents.command import Command
from archshift.images.contents.elf import read_program
from archshift.images.contents.layers import Budget
from archshift.images.contents.programs import ProgramVerdict, check_command
from archshift.images.contents.rootfs import Rootfs
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.manifest import ImageConfig, Platform
from archshift.images.verdict import ImageVerdict
from archshift.images.workload import ImageUse
from tests.images.build import Entry, File, Link, Pusher, elf, layer, read_layer
from tests.images.conftest import QUICK
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]

ARM, X86 = elf("arm64"), elf("amd64")
LOADER = "/lib/ld-linux-aarch64.so.1"
FINE = ProgramVerdict("arm64")
BUDGET = Budget(1 << 30, 100_000)


def rootfs(*layers: Mapping[str, Entry], compression: str = "gzip") -> Rootfs:
    """Return the file system of layers, packed and read as from a registry."""
    return Rootfs(read_layer(layer(one, compression), BUDGET) for one in layers)


def check(
    files: Mapping[str, Entry] | Sequence[Mapping[str, Entry]],
    *entrypoint: str,
    command: Command | None = None,
    **config: Any,
) -> ProgramVerdict:
    """Check what an image of one or more layers starts."""
    layers = [files] if isinstance(files, Mapping) else files
    image = ImageConfig(Platform("linux", "arm64"), entrypoint, **config)
    return check_command(rootfs(*layers), image, command or Command())


def lie(path: str, what: str = "a binary for x86-64", machine: str = "x86-64") -> ProgramVerdict:
    """Return the finding for a binary of another machine."""
    return ProgramVerdict("lie", f"{path} is {what}", machine)


def undecided(reason: str) -> ProgramVerdict:
    """Return the finding for what cannot be followed."""
    return ProgramVerdict("undecided", reason)


def test_a_real_binary_of_this_machine_is_read() -> None:
    """The ELF reader agrees with the kernel about the interpreter that runs these tests."""
    with Path(os.path.realpath("/bin/sh")).open("rb") as file:
        program = read_program(file.read(4096))
    assert program is not None
    assert {"x86_64": "x86-64", "aarch64": "arm64"}[os.uname().machine] == program.machine  # type: ignore[union-attr]
    assert program.loader.startswith("/lib")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("machine", "name"), [("amd64", "x86-64"), ("arm", "32-bit ARM"), ("s390x", "s390x")]
)
def test_a_binary_for_another_machine_is_a_lie(machine: str, name: str) -> None:
    """Byte order and word size do not hide the machine."""
    assert check({"app": elf(machine)}, "/app") == lie("/app", f"a binary for {name}", name)


def test_a_binary_for_arm64_is_fine() -> None:
    """Static, or with a loader for arm64."""
    assert check({"app": ARM}, "/app") == FINE
    files = {"app": elf("arm64", LOADER), "lib/ld-linux-aarch64.so.1": ARM}
    assert check(files, "/app") == FINE


def test_the_loader_counts_as_well() -> None:
    """A binary whose loader is for another machine, or not there, does not start."""
    app = elf("arm64", LOADER)
    found = check({"app": app, "lib/ld-linux-aarch64.so.1": X86}, "/app")
    assert found == lie(LOADER, "a binary for x86-64, and it is the loader of /app")
    assert check({"app": app}, "/app") == undecided(f"the loader of /app: {LOADER} is not in the image")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_come_in_three_packings(compression: str) -> None:
    """The first bytes tell, whatever the media type says."""
    files = rootfs({"app": X86}, compression=compression)
    image = ImageConfig(Platform("linux", "arm64"), ("/app",))
    assert check_command(files, image, Command()).outcome == "lie"


def test_zstd_layers_may_have_several_frames() -> None:
    """zstd:chunked puts skippable frames in front, in between and behind."""
    raw = layer({"app": ARM}, "none")
    skippable = b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + bytes(8)
    packed = skippable + zstandard.compress(raw[:700]) + skippable + zstandard.compress(raw[700:]) + skippable
    assert dict(read_layer(packed, BUDGET).entries)["app"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"app": X86}, {"app": ARM}], FINE),
        ([{"app": ARM}, {"app": X86}], lie("/app")),
        ([{"app": ARM}, {".wh.app": b""}], undecided("/app is not in the image")),
        ([{"app": X86}, {".wh.app": b"", "app": ARM}], FINE),
        ([{"app": X86}, {"app": ARM, ".wh.app": b""}], FINE),
        ([{"bin/app": ARM}, {"bin/.wh..wh..opq": b""}], undecided("/bin/app is not in the image")),
        ([{"bin/app": X86}, {"bin/app": ARM, "bin/.wh..wh..opq": b""}], FINE),
        ([{"bin/app": ARM}, {".wh.bin": b""}], undecided("/bin/app is not in the image")),
        ([{"bin/app": ARM}, {"bin": None}], FINE),
        ([{"bin/app": ARM}, {"bin": Link("usr")}], undecided("/bin/app (-> /usr) is not in the image")),
        ([{"usr/bin": None, "bin": Link("usr/bin")}, {"bin/app": X86}], lie("/usr/bin/app")),
        ([{"app": X86}, {"other": ARM, "app": Link("other", hard=True)}], FINE),
        ([{"one": X86}, {"app": Link("one", hard=True)}], lie("/app")),
        ([{"./bin/app": X86}], lie("/bin/app")),
        ([{"../../bin/app": X86}], lie("/bin/app")),
    ],
)  # fmt: skip
def test_layers_add_up_as_runtimes_unpack_them(layers: Any, expected: ProgramVerdict) -> None:
    """Later layers win, whiteouts take away only what is below, links are kept and parents followed."""
    program = "/bin/app" if "bin" in str(layers[0]).split(":")[0] else "/app"
    assert check(layers, program) == expected


def test_symlinks_are_followed_within_the_root() -> None:
    """Absolute and relative links, chains of them, and .. past the root; loops end."""
    files: dict[str, Entry] = {
        "opt/real": X86,
        "bin/one": Link("/opt/real"),
        "bin/two": Link("../bin/one"),
        "bin/three": Link("../../../../opt/real"),
        "loop": Link("pool"),
        "pool": Link("loop"),
    }
    for name in ("one", "two", "three"):
        assert check(files, f"/bin/{name}") == lie("/opt/real")
    assert check(files, "/loop") == undecided("/loop goes through too many links")


def test_a_program_is_found_as_execvp_finds_it() -> None:
    """PATH of the image, of the container, or the runtime's; relative names go from the working folder."""
    files: dict[str, Entry] = {
        "usr/local/bin/app": File(ARM),
        "usr/bin/app": X86,
        "srv/app": X86,
        "opt/app": ARM,
    }
    assert check(files, "app") == lie("/usr/bin/app"), "a file that is not executable is passed over"
    assert check(files, "app", path="/opt:/usr/bin") == FINE
    assert check(files, "app", command=Command(path="/opt")) == FINE
    assert check(files, "./app", working_dir="/srv") == lie("/srv/app")
    assert check(files, "./app", working_dir="/srv", command=Command(working_dir="/opt")) == FINE
    assert check(files, "nope", path="/opt") == undecided("nope is not on the image's PATH (/opt)")


def test_the_container_spec_decides_what_is_started() -> None:
    """One image, several programs: command and args of the pod replace the image's."""
    files = {"arm": ARM, "x86": X86}
    assert check(files, "/arm") == FINE
    assert check(files, "/arm", command=Command(command=("/x86",))) == lie("/x86")
    assert check(files, "/x86", command=Command(command=("/arm",))) == FINE
    assert check(files, cmd=("/x86",)) == lie("/x86")
    assert check(files, cmd=("/x86",), command=Command(args=("/arm",))) == FINE
    assert check(files) == undecided("neither the image nor the container has a command")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#!/bin/sh", lie("/bin/sh")),
        ("#! /bin/sh -e", lie("/bin/sh")),
        ("#!/usr/bin/env sh", lie("/bin/sh")),
        ("#!/usr/bin/env -S sh -e", lie("/bin/sh")),
        ("#!/bin/good", FINE),
        ("#!/usr/bin/env good", FINE),
        ("#!/usr/bin/env -S A=1 good -x", FINE),
        ("#!/bin/none", undecided("the interpreter of /run.sh: /bin/none is not in the image")),
        ("#!/run.sh", undecided("/run.sh has too many interpreters that are scripts themselves")),
        ("#!", undecided("/run.sh is a script without an interpreter")),
        ("#!/usr/bin/env", undecided("/run.sh is a script that starts env without an interpreter")),
    ],
)
def test_a_script_s_interpreter_is_checked(line: str, expected: ProgramVerdict) -> None:
    """Shebang lines, with env and without, down to the binary."""
    files = {"run.sh": f"{line}\n".encode(), "bin/sh": X86, "bin/good": ARM, "usr/bin/env": ARM}
    assert check(files, "/run.sh") == expected


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/a",), "/a has too many interpreters that are scripts themselves"),
        (("/c0",), "/c6 has too many interpreters that are scripts themselves"),
        (("tini",) * 9, "/tini is neither an ELF binary nor a script"),
        (("/app", *["x"] * 300_000), "its command or its PATH is longer than the limit of the deep check"),
    ],
    ids=["each other", "a chain", "launchers", "a long command"],
)
def test_chains_of_interpreters_end(command: tuple[str, ...], reason: str) -> None:
    """Scripts that start each other, with env and without, launchers of launchers, and words without end."""
    files: dict[str, Entry] = {
        "a": b"#!/usr/bin/env b\n",
        "b": b"#!/usr/bin/env a\n",
        "usr/bin/env": b"#!/a\n",
        "tini": b"",
        "app": ARM,
        **{f"c{number}": f"#!/c{number + 1}\n".encode() for number in range(100)},
    }
    found = check(files, command=Command(command=command, path="/:/usr/bin"))
    assert found == undecided(reason)


@pytest.mark.parametrize(
    "argv",
    [
        ("/bin/sh", "-c", "exec /srv/app --port 80"),
        ("sh", "-ec", "app"),
        ("tini", "--", "/srv/app"),
        ("tini", "-g", "--", "app"),
        ("/start.sh",),
        ("/start.sh", "app"),
        ("tini", "/start.sh"),
        ("env", "A=1", "app"),
    ],
)
def test_a_wrong_binary_behind_a_shell_or_launcher_is_found(argv: tuple[str, ...]) -> None:
    """The usual liar: a base image for arm64, and one binary copied into it that is not."""
    files = {
        "bin/sh": ARM,
        "bin/tini": ARM,
        "usr/bin/env": ARM,
        "start.sh": b'#!/bin/sh\nset -e\n# it\'s a start script\nexec "/srv/app" "$@"\n',
        "srv/app": X86,
    }
    assert check(files, *argv, path="/bin:/usr/bin:/srv") == lie("/srv/app")
    assert check({**files, "srv/app": ARM}, *argv, path="/bin:/usr/bin:/srv") == FINE


def test_what_a_launcher_starts_must_be_there() -> None:
    """The launcher itself proves nothing."""
    found = check({"bin/tini": ARM}, "tini", "--", "/vendor/app")
    assert found == undecided("the program that tini starts is not in the image: -- /vendor/app")


def test_what_a_volume_hides_is_undecided() -> None:
    """A file from a volume, or one that a volume lies over, is not the image's."""
    files: dict[str, Entry] = {"app": ARM, "srv/app": ARM, "bin/run": Link("/srv/app")}
    mounted = Command(mounts=("/srv",))
    assert check(files, "/srv/app", command=mounted) == undecided("/srv/app is hidden by the volume at /srv")
    assert check(files, "/bin/run", command=mounted) == undecided("/bin/run is hidden by the volume at /srv")
    assert check(files, "/app", command=mounted) == FINE


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (File(ARM), "/app is not executable"),
        (b"hello", "/app is neither an ELF binary nor a script"),
        (b"\x7fELF", "/app is neither an ELF binary nor a script"),
        (b"", "/app is neither an ELF binary nor a script"),
        (None, "/app is not in the image"),
    ],
)
def test_what_cannot_be_started_is_undecided(entry: Entry, reason: str) -> None:
    """No binary, no proof."""
    assert check({"app": entry}, "/app") == undecided(reason)


def test_a_program_from_a_variable_is_undecided() -> None:
    """A variable from a Secret is not known here."""
    found = check({"app": ARM}, command=Command(command=("$(APP)",)))
    assert found == undecided("the command comes from a variable that archshift does not know: $(APP)")


def audit(registry: Registry, options: Options, name: str, **changes: Any) -> ImageVerdict:
    image = f"{registry.host}/{name}"
    return audit_images([image], replace(options(registry.host), deep=True, **changes))[image]


def push_deep(
    push: Pusher, name: str, *layers: bytes, config: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """Push an index whose arm64 image has these layers; return the digests of both images."""
    start = config or {"Entrypoint": ["/app"]}
    amd64 = push.image(name, platform="linux/amd64", layers=[layer({"app": X86})], config=start)
    arm64 = push.image(name, platform="linux/arm64", layers=layers, config=start)
    push.index(name, "1", [amd64, arm64])
    return amd64.digest, arm64.digest


def test_a_liar_in_the_registry_is_amd64_only(push: Pusher, registry: Registry, options: Options) -> None:
    """The manifest says arm64, the binary does not: a shallow audit believes it, a deep one does not."""
    push_deep(push, "deep/liar", layer({"etc/x": File(b"")}), layer({"app": X86}, "zstd"))
    image = f"{registry.host}/deep/liar:1"
    assert audit_images([image], options(registry.host))[image].verdict == "multi-arch"
    found = audit(registry, options, "deep/liar:1")
    assert (found.verdict, found.platforms) == ("amd64-only", ("linux/amd64",))
    assert found.reason == "it claims linux/arm64, but /app is a binary for x86-64"


def test_a_single_manifest_that_lies(push: Pusher, registry: Registry, options: Options) -> None:
    """Also without an index: what it holds runs on amd64, whatever it says."""
    push.image("deep/single", "1", "linux/arm64", layers=[layer({"app": X86})], config={"Cmd": ["/app"]})
    assert audit(registry, options, "deep/single:1").verdict == "amd64-only"


def test_an_honest_image_keeps_its_verdict(push: Pusher, registry: Registry, options: Options) -> None:
    """Proven all the way down."""
    push_deep(push, "deep/honest", layer({"app": ARM}))
    found = audit(registry, options, "deep/honest:1")
    assert (found.verdict, found.reason) == ("multi-arch", "")


def test_each_command_has_its_own_verdict_and_the_image_is_read_once(
    push: Pusher, proxy: Server, options: Options, tmp_path: Path
) -> None:
    """Containers that start different programs of one image share its layers, and the findings are kept."""
    _, arm64 = push_deep(push, "deep/many", layer({"app": ARM, "tool": X86}))
    image = f"{proxy.host}/deep/many:1"
    good, bad = ImageUse(image), ImageUse(image, Command(command=("/tool",)))
    deep = replace(options(proxy.host), deep=True, cache=tmp_path)
    for _ in range(2):
        found = audit_uses([good, bad, good], deep)
        assert {use: verdict.verdict for use, verdict in found.items()} == {
            good: "multi-arch",
            bad: "amd64-only",
        }
    assert proxy.paths().count(f"/v2/deep/many/manifests/{arm64}") == 1
    assert len([path for path in proxy.paths() if "/blobs/" in path]) == 2


def test_what_cannot_be_read_is_unknown_in_deep_mode(
    push: Pusher, proxy: Server, registry: Registry, options: Options
) -> None:
    """Layers that are gone, swapped, cut or no archives prove nothing, nor what cannot be followed."""
    push_deep(push, "deep/volume", layer({"other": ARM}))
    found = audit(registry, options, "deep/volume:1")
    assert (found.verdict, found.platforms) == ("unknown", ("linux/amd64", "linux/arm64"))
    assert found.reason == "archshift cannot prove its arm64 image: /app is not in the image"

    push_deep(push, "deep/noise", b"this is no archive" * 100)
    found = audit(registry, options, "deep/noise:1")
    assert found.verdict == "unknown"
    assert "archshift cannot prove its arm64 image: a layer is not a readable tar archive" in found.reason

    push_deep(push, "deep/swapped", layer({"app": ARM}))
    image = f"{proxy.host}/deep/swapped:1"
    deep = replace(options(proxy.host), deep=True)
    assert audit_images([image], deep)[image].verdict == "multi-arch"
    manifests = [path for path in proxy.paths() if "/blobs/" in path]
    for body, reason in (
        (layer({"app": ARM, "x": b""}), "bytes"),
        (b"\x1f\x8b\x08\x01" + layer({"app": ARM})[4:], "does not match its digest"),
        (layer({"app": ARM})[:-1], "not a readable tar archive (its compressed data is cut)"),
        (layer({"app": ARM})[:50], "not a readable tar archive"),
        (b"", "not a readable tar archive"),
    ):
        proxy.answer(manifests[-1], 200, body)
        found = audit_images([image], deep)[image]
        assert (found.verdict, reason in found.reason) == ("unknown", True), found.reason
    proxy.answer(manifests[-1], 404)
    assert audit_images([image], deep)[image].reason.endswith("does not have it (404)")


def test_a_layer_s_content_must_hash_to_its_digest(push: Pusher, proxy: Server, options: Options) -> None:
    """A layer of the right size and the wrong content is refused, even where it would say yes."""
    honest, wrong = layer({"app": ARM}, "none"), layer({"app": X86}, "none")
    push_deep(push, "deep/hash", wrong)
    image = f"{proxy.host}/deep/hash:1"
    assert len(honest) == len(wrong)
    proxy.answer(f"blobs/{push.blob('deep/hash', wrong)}", 200, honest)
    found = audit_images([image], replace(options(proxy.host), deep=True))[image]
    assert found.verdict == "unknown"
    assert found.reason.endswith("does not match its digest")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"layer_bytes": 10}, "bytes, more than the limit of 10"),
        ({"unpacked_bytes": 5000}, "unpacks to more bytes than the limit of the deep check"),
        ({"files": 1}, "has more files than the limit of the deep check"),
    ],
)
def test_the_deep_check_is_bounded(
    push: Pusher, registry: Registry, options: Options, limits: dict[str, int], reason: str
) -> None:
    """A small layer that unpacks to a big one, or to many files, costs no more than the bounds allow."""
    bomb = layer({"app": ARM, "zeros": File(bytes(1 << 20)), "more": File(b"")})
    push_deep(push, "deep/bomb", bomb)
    found = audit(registry, options, "deep/bomb:1", limits=replace(QUICK, **limits))
    assert found.verdict == "unknown"
    assert reason in found.reason
    assert audit(registry, options, "deep/bomb:1").verdict == "multi-arch"


def test_a_header_of_gigabytes_is_refused() -> None:
    """A pax header may announce any size; it is not read into memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(UnreadableError, match="a header that is too long"):
        read_layer(info.tobuf() + bytes(1 << 16), BUDGET)


def test_scripts_beyond_their_budget_keep_only_their_interpreter() -> None:
    """Thousands of scripts do not fill the memory."""
    script = b"#!/bin/sh\n" + b"x" * 3000
    found = read_layer(layer({"a": script, "b": script}), replace(BUDGET, script_bytes=4000))
    texts = [entry.program.text for _, entry in found.entries]  # type: ignore[union-attr]
    assert [len(text) for text in texts] == [3010, 0]
