"""Fuzz targets: what others write must end in a result or in the one expected exception.

Each target is a function of bytes. ``tests/test_fuzz.py`` runs them for a bounded time with the seeds of a
review and mutations of them; ``python -m bench.fuzz`` runs them for as long as one likes.
"""

import gzip
import random
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from archshift.cluster.client import connect
from archshift.common.errors import ArchshiftError
from archshift.common.redact import Redactor
from archshift.common.text import one_line, printable
from archshift.images.contents.command import Command
from archshift.images.contents.layers import Budget, Work
from archshift.images.contents.programs import check_command
from archshift.images.contents.rootfs import Rootfs
from archshift.images.registry.auth import parse_challenge, pull_scope, realm_problem
from archshift.images.registry.credentials import AuthFile, read_docker_config
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.login import read_token
from archshift.images.registry.manifest import ImageConfig, Platform, parse_config, parse_manifest
from archshift.images.registry.reference import parse_reference
from archshift.images.registry.transport import retry_after
from archshift.ramp.gate_evidence import read_evidence_file
from archshift.settings.stack import load
from archshift.settings.stack_file import StackFile
from lab.oci import OCI_INDEX, elf
from tests.images.build import Link, layer, read_layer
from tests.images.hostile import deep_paths, long_names

_ARM64 = ImageConfig(Platform("linux", "arm64"), ("/app",))


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        run: Takes the bytes; returns the texts that a person would see.
        expected: The exceptions that are answers too.
        seeds: Inputs to begin with, those of the review among them.
    """

    run: Callable[[bytes], object]
    expected: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]

    def check(self, data: bytes) -> None:
        """Run it, and check what a person would see of an error."""
        try:
            self.run(data)
        except self.expected as error:
            shown = one_line(str(error), 1000)
            assert shown.isprintable()
            assert shown.encode()


def _layer(data: bytes) -> None:
    work = Work()
    work.came(len(data))
    with work.measured():
        budget = Budget(1 << 30, 100_000, memory_bytes=64 << 20, work=work)
        rootfs = Rootfs([read_layer(data, budget, 1000)], budget.take_memory)
        for path in ("/app", "/a/b", "sh"):
            verdict = check_command(rootfs, _ARM64, Command(command=(path,)))
            assert verdict.reason.isprintable()


def _manifest(data: bytes) -> None:
    for content_type in ("", OCI_INDEX):
        parse_manifest(data, content_type)


def _challenge(data: bytes) -> None:
    # aiohttp decodes headers in this way.
    text = data.decode("utf-8", "surrogateescape")
    challenge = parse_challenge(text.split("\n"))
    if challenge:
        problem = realm_problem(challenge.realm, ())
        assert printable(problem).isprintable()
        pull_scope("a/b", challenge.scope)
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0


def _in_file(read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(data)
            read(path)

    return run


def _kubeconfig(path: Path) -> None:
    with connect(None, path):
        pass


def _docker_config(path: Path) -> None:
    file: AuthFile = read_docker_config(path)
    file.matching("registry.example:5000", "a/b")
    file.helper("registry.example")


def _stack_file(data: bytes) -> None:
    file = StackFile(data.decode(), "Pulumi.prod.yaml")
    file.set(("config", "archshift:arm_ratio"), "0.5")


def _settings(data: bytes) -> None:
    text = data.decode()
    for key in ("node_groups", "workloads", "images", "gate", "arm_ratio", "ramp"):
        load("prod", {f"archshift:{key}": text})


def _texts(data: bytes) -> None:
    for text in (data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        assert printable(text).isprintable()
        assert "hunter2" not in Redactor(["hunter2"]).text(text)


def _tar(*infos: tarfile.TarInfo) -> bytes:
    return b"".join(info.tobuf() for info in infos) + bytes(1024)


def _info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, size, 0o755
    return info


def _pax(records: dict[str, str]) -> bytes:
    """A pax header with these records."""
    content = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode()
        length = len(rest) + len(str(len(rest) + 4))
        content += str(length).encode() + rest
    info = _info("pax", tarfile.XHDTYPE, len(content))
    return info.tobuf() + content + bytes(-len(content) % 512)


def _sparse() -> bytes:
    """A sparse file whose map is broken, as pax writes it."""
    names = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "app"}
    return _pax(names) + _tar(_info("app"))


_DIGEST: Final = "sha256:" + "0" * 64
_FILES: Final = layer({"app": elf("arm64"), "bin/sh": Link("/app"), "run": b"#!/bin/sh\nexec app\n"}, "none")

TARGETS: Final = {
    "manifests": Target(
        _manifest,
        (UnreadableError,),
        (
            b'{"manifests": [{"mediaType": "%s", "digest": "%s", "size": 1, "platform": {"os": "\\ud800"}}]}'
            % (OCI_INDEX.encode(), _DIGEST.encode()),
            b'{"config": {"digest": "%s", "size": %s}, "layers": []}' % (_DIGEST.encode(), b"9" * 4299),
            b'{"schemaVersion": 2, "Manifests": [], "manifests": [], "manifests": null}',
            b'{"layer\xc5\xbf": [], "config": {}}',
            b"[" * 10_000,
        ),
    ),
    "configs": Target(
        parse_config,
        (UnreadableError,),
        (
            b'{"os": "linux", "architecture": "arm64", "config": {"Entrypoint": ["\\ud800"]}}',
            b'{"os": "linux", "OS": "windows", "architecture": "\\u202e"}',
        ),
    ),
    "layers": Target(
        _layer,
        (UnreadableError,),
        (
            _FILES,
            gzip.compress(_FILES, mtime=0),
            zstandard.compress(_FILES),
            deep_paths(2),
            long_names(100),
            _sparse(),
            _tar(_info("x", size=1 << 62)),
            _pax({"path": "y" * 5000}) + _tar(_info("x")),
            _pax({"size": "9" * 5000}) + _tar(_info("x")),
            gzip.compress(bytes(1024), mtime=0)[:-9],
            _tar(_info("a/.wh..wh..opq"), _info(".wh.b"), _info("../c", tarfile.LNKTYPE)),
        ),
    ),
    "challenges": Target(
        _challenge,
        (),
        (
            b'Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull"',
            b'Basic realm="\\"\\\\", Bearer realm="http://[", x',
            b"Fri, 31 Dec 9999 23:59:59 +99999999999",
            b"9" * 5000,
        ),
    ),
    "tokens": Target(lambda data: read_token(data, "auth.example"), (UnreadableError,), (
        b'{"token": "a", "expires_in": 1e999}',
        b'{"access_token": "\\ud800"}',
        b'{"token": "a", "expires_in": "x"}',
    )),
    "references": Target(lambda data: parse_reference(data.decode("latin-1")), (ArchshiftError,), (
        b"r.example:" + b"9" * 5000 + b"/a",
        b"a" * 100_000,
        b"r.example/a:1@" + _DIGEST.encode(),
        b"a@\x1b[31m",
    )),
    "kubeconfigs": Target(_in_file(_kubeconfig), (ArchshiftError,), (
        b"apiVersion: v1\nclusters:\n- name: c\n  cluster: {server: 'https://a'}\ncontexts:\n- name: x\n"
        b"  context: {cluster: c, user: u}\nusers:\n- name: u\n  user: {token: t}\ncurrent-context: x\n",
        b"&a [*a]",
        b"clusters: [{name: [], cluster: 1}]",
    )),
    "docker configs": Target(_in_file(_docker_config), (ArchshiftError,), (
        b'{"auths": {"https://r.example/v1/": {"auth": "dTpw"}}, "credHelpers": {"r.example": "ecr-login"}}',
        b'{"auths": {"[": {"username": "\\ud800"}}, "credsStore": "../x"}',
    )),
    "gate evidence": Target(_in_file(read_evidence_file), (ArchshiftError,), (
        b'{"stack": "prod", "arm_ratio": 0.5, "verdict": "pass", "at": "2026-01-01T00:00:00Z"}',
        b'{"stack": "\\ud800", "reasons": [{}], "arm_ratio": 1e999}',
    )),
    "stack files": Target(_stack_file, (ArchshiftError, UnicodeDecodeError), (
        b"config:\n  archshift:arm_ratio: 0.2 # now\n",
        b"config: &a {b: *a}",
        b"config: {archshift:arm_ratio: }",
    )),
    "settings": Target(_settings, (ArchshiftError, UnicodeDecodeError), (
        b'{"x86": {"architecture": "amd64", "min": 1}}',
        b'[{"a": 1e999}]',
        b"&a [*a]",
        b'{"gate": {"window": "1d"}}',
    )),
    "texts": Target(_texts, (), (
        "a\u202eb\u200b\ud800".encode("utf-8", "surrogatepass"),
        b"-eyJ" * 100,
        b"https://a:b/c@d@e token: hunter2",
    )),
}  # fmt: skip


_WORDS: Final = (b"\xff", b"\0", b"9", b"\x80", b"-", b'"', b"\\ud800")


def mutate(data: bytes, source: random.Random, others: tuple[bytes, ...]) -> bytes:
    """Return data with a few changes of the kinds that parsers are weak against."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 8)):
        at = source.randrange(len(changed) + 1)
        end = min(len(changed), at + source.choice((1, 2, 8, 100, 512)))
        match source.randrange(7):
            case 0:
                changed[at:end] = source.randbytes(end - at)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end] * source.choice((1, 2, 100))
            case 3:
                changed[at:end] = source.choice(_WORDS) * (end - at)
            case 4:
                other = source.choice(others)
                start = source.randrange(len(other) + 1)
                changed[at:at] = other[start : start + 600]
            case 5 if at < len(changed):
                changed[at] ^= 1 << source.randrange(8)
            case _:
                del changed[at:]
        del changed[1 << 18 :]
    return bytes(changed)
