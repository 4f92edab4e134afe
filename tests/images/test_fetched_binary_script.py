"""The script that fetches a binary, run by real shells against servers on this machine."""

import asyncio
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiohttp import web

from archshift.images.building.fetched_binary import SCRIPT
from lab.oci import elf
from lab.processes import free_port
from tests.images.servers import Authority, Server
from tests.programs import debian_program

NEEDED = ("timeout", "sha256sum", "od", "tr", "grep", "tail", "rm", "mv", "chmod")
AMD64 = elf("amd64") + b"the one for x86" * 1000
ARM64 = elf("arm64") + b"the one for Graviton" * 1000
OTHER = elf("arm64") + b"somebody else's"


def sha256(content: bytes) -> str:
    """What sha256sum prints."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Box:
    """What an image that fetches has: a shell, and programs on its PATH.

    Attributes:
        shell: How the script is run.
        path: A folder with the programs, and no other is on PATH.
        folder: Where the binary is to go.
        settings: The script's, as the init container has them.
        trust: Variables that make the downloader trust the tests' authority.
    """

    shell: tuple[str, ...]
    path: Path
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    trust: Callable[[Path], Mapping[str, str]] = lambda _: {}

    def begin(self, machine: str, **settings: str) -> subprocess.Popen[str]:
        """Starts the script on a machine that calls itself so."""
        stand_in = self.path / "uname"
        stand_in.write_text(f"#!/bin/sh\n[ \"$*\" = -m ] && echo '{machine}'\n")
        stand_in.chmod(0o755)
        return subprocess.Popen(
            [*self.shell, "-c", SCRIPT],
            env={"PATH": str(self.path), "FOLDER": str(self.folder), **self.settings, **settings},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, machine: str, **settings: str) -> tuple[int, str]:
        """Runs it to its end: the exit code, and what it said on stderr."""
        process = self.begin(machine, **settings)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def fails(self, machine: str, **settings: str) -> str:
        """Runs it, and nothing at all may be left of it. Returns its last line."""
        code, said = self.run(machine, **settings)
        assert code == 1, said
        assert os.listdir(self.folder) == []
        return said.strip().splitlines()[-1]

    @property
    def binary(self) -> Path:
        """The binary under its final name."""
        return self.folder / "agent"


@pytest.fixture(params=["dash and curl", "dash and wget", "bash and curl", "busybox"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    """Each kind of image that one would fetch with."""
    path, folder = tmp_path / "bin", tmp_path / "volume"
    path.mkdir()
    folder.mkdir()
    if request.param == "busybox":
        shell: tuple[str, ...] = (debian_program("busybox"), "sh")
        for name in (*NEEDED, "wget"):
            (path / name).symlink_to(shell[0])
        return Box(shell, path, folder)
    shell_name, _, downloader = request.param.partition(" and ")
    for name in (*NEEDED, downloader):
        (path / name).symlink_to(debian_program(name))
    options = ("--posix",) if shell_name == "bash" else ()
    return Box((debian_program(shell_name), *options), path, folder, trust=TRUST[downloader])


def _trusted_by_wget(authority: Path) -> Mapping[str, str]:
    settings = authority.with_name("wgetrc")
    settings.write_text(f"ca_certificate = {authority}\n")
    return {"WGETRC": str(settings)}


TRUST: dict[str, Callable[[Path], Mapping[str, str]]] = {
    "curl": lambda authority: {"CURL_CA_BUNDLE": str(authority)},
    "wget": _trusted_by_wget,
}


@pytest.fixture
def site(box: Box, servers: Callable[[], Server]) -> Server:
    """A server with both binaries, which the box is set to fetch from."""
    server = servers()
    server.answer("GET /agent-amd64$", 200, AMD64)
    server.answer("GET /agent-arm64$", 200, ARM64)
    box.settings = {
        "NAME": "agent",
        "URL_AMD64": f"{server.base}/agent-amd64",
        "SHA256_AMD64": sha256(AMD64),
        "URL_ARM64": f"{server.base}/agent-arm64",
        "SHA256_ARM64": sha256(ARM64),
        "LARGEST_MIB": "4",
        "SECONDS_AT_MOST": "20",
        "ALLOW_HTTP": "yes",
    }
    return server


@pytest.mark.parametrize(
    ("machine", "content"), [("x86_64", AMD64), ("amd64", AMD64), ("aarch64", ARM64), ("arm64", ARM64)]
)
def test_the_binary_for_the_machine_is_there(box: Box, site: Server, machine: str, content: bytes) -> None:
    """Under every name that a machine of the two architectures gives itself: its own binary,
    executable and writable for nobody, and nothing else in the volume.
    """
    code, said = box.run(machine)
    assert code == 0, said
    assert box.binary.read_bytes() == content
    assert box.binary.stat().st_mode & 0o777 == 0o555
    assert os.listdir(box.folder) == ["agent"]
    assert len(site.requests) == 1


@pytest.mark.parametrize("machine", ["riscv64", "armv7l", "i686", "x86_64x", "aarch64_be", "", "*"])
def test_an_unknown_machine_gets_nothing(box: Box, site: Server, machine: str) -> None:
    """No guess for a machine that nobody configured, and no download: it says what machine it met."""
    assert box.fails(machine) == f"agent: there is no binary for {machine}, only for x86_64 and aarch64"
    assert site.requests == []


def test_a_machine_that_does_not_say_what_it_is(box: Box, site: Server) -> None:
    """A uname that fails is no machine."""
    process = box.begin("aarch64'; exit 3; echo '")
    assert "uname -m does not print the machine of this node" in process.communicate(timeout=60)[1]
    assert (process.returncode, os.listdir(box.folder), site.requests) == (1, [], [])


def test_other_content_than_promised(box: Box, site: Server) -> None:
    """A file with another checksum never becomes executable, however good it looks."""
    site.answer("GET /agent-arm64$", 200, OTHER)
    said = box.fails("aarch64")
    assert said.endswith(f"/agent-arm64 does not have the sha256 {sha256(ARM64)}")


@pytest.mark.parametrize("content", [b"", ARM64[:100]], ids=["empty", "cut off"])
def test_an_answer_that_looks_whole_and_is_not(box: Box, site: Server, content: bytes) -> None:
    """A server or proxy that sends less, with a length that fits: the checksum sees it."""
    site.answer("GET /agent-arm64$", 200, content)
    assert "does not have the sha256" in box.fails("aarch64")


def test_a_download_that_breaks_off(box: Box, site: Server) -> None:
    """A connection that ends in the middle leaves nothing."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(ARM64))})
        await response.prepare(request)
        await response.write(ARM64[: len(ARM64) // 2])
        assert request.transport
        request.transport.abort()
        return response

    site.on("GET /agent-arm64$", half)
    # wget goes on where it was, again and again; that ends too.
    said = box.fails("aarch64", SECONDS_AT_MOST="3")
    assert any(words in said for words in ("cannot be downloaded", "took longer than", "the sha256")), said


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_server_that_has_it_not(box: Box, site: Server, status: int) -> None:
    """The page that comes with an error is no binary, not even where its content is the expected one."""
    site.answer("GET /agent-arm64$", status, ARM64)
    assert "/agent-arm64 cannot be downloaded" in box.fails("aarch64")


@pytest.mark.usefixtures("site")
def test_nobody_listens(box: Box) -> None:
    """A host that is down fails the start, with the address in the sentence."""
    url = f"http://127.0.0.1:{free_port()}/agent"
    assert box.fails("aarch64", URL_ARM64=url).startswith(f"agent: {url} cannot be downloaded")


def test_a_server_that_never_ends_its_answer(box: Box, site: Server) -> None:
    """A byte now and then is not waited for longer than was said."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for byte in ARM64:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.1)
        return response

    site.on("GET /agent-arm64$", drip)
    assert box.fails("aarch64", SECONDS_AT_MOST="1").endswith("/agent-arm64 took longer than 1 s")


@pytest.mark.parametrize("length", [True, False], ids=["that says so", "that does not say so"])
def test_a_file_that_is_too_large(box: Box, site: Server, length: bool) -> None:
    """A disk is not filled: at the limit it ends, whether or not the server said how much would come."""
    sent = 0

    async def much(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(1 << 30)} if length else {})
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(b"\0" * (1 << 20))
            sent += 1 << 20
        return response

    site.on("GET /agent-arm64$", much)
    assert box.fails("aarch64", LARGEST_MIB="1").endswith(
        "/agent-arm64 cannot be downloaded, or is larger than 1 MiB"
    )
    assert sent < 1 << 28


def test_a_file_of_exactly_the_limit_is_fine(box: Box, site: Server) -> None:
    """The limit is what it says: MiB, in every shell's own unit of it."""
    content = ARM64.ljust(1 << 20, b"\0")
    site.answer("GET /agent-arm64$", 200, content)
    assert box.run("aarch64", LARGEST_MIB="1", SHA256_ARM64=sha256(content)) == (0, "")
    content += b"\0"
    site.answer("GET /agent-arm64$", 200, content)
    assert "is larger than 1 MiB" in box.fails("aarch64", LARGEST_MIB="1", SHA256_ARM64=sha256(content))


@pytest.mark.parametrize("content", [ARM64, OTHER], ids=["with the right file", "with another"])
def test_a_redirect_to_another_host(
    box: Box, site: Server, servers: Callable[[], Server], content: bytes
) -> None:
    """Releases are kept elsewhere than they are announced, so it is followed; what comes from there
    counts only with the checksum.
    """
    elsewhere = servers()
    elsewhere.answer("GET /kept$", 200, content)
    host = elsewhere.base.replace("127.0.0.1", "localhost")
    site.answer("GET /agent-arm64$", 302, Location=f"{host}/kept")
    if content == ARM64:
        assert box.run("aarch64")[0] == 0
        assert box.binary.read_bytes() == ARM64
    else:
        assert "does not have the sha256" in box.fails("aarch64")
    assert elsewhere.paths() == ["/kept"]


def test_a_redirect_in_a_circle(box: Box, site: Server) -> None:
    site.answer("GET /agent-arm64$", 302, Location=f"{site.base}/agent-arm64")
    assert "cannot be downloaded" in box.fails("aarch64")


@pytest.mark.parametrize("content", [AMD64, b"#!/bin/sh\n" + b"echo fine\n" * 10, ARM64[:19]])
def test_a_file_that_is_no_program_for_the_machine(box: Box, site: Server, content: bytes) -> None:
    """Addresses that were mixed up when they were written down, with their right checksums: the pod
    says so instead of starting what ends with an exec format error.
    """
    site.answer("GET /agent-arm64$", 200, content)
    assert box.fails("aarch64", SHA256_ARM64=sha256(content)).endswith(
        "/agent-arm64 is not a binary for aarch64"
    )


def test_nothing_is_executable_before_it_is_whole(box: Box, site: Server) -> None:
    """In the middle of a download: no file under the final name, and none that anybody may execute."""
    arrived, go_on = threading.Event(), threading.Event()

    async def two_halves(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(ARM64))})
        await response.prepare(request)
        await response.write(ARM64[:9000])
        arrived.set()
        await asyncio.to_thread(go_on.wait, 30)
        await response.write(ARM64[9000:])
        return response

    site.on("GET /agent-arm64$", two_halves)
    process = box.begin("aarch64")
    assert arrived.wait(30)
    files = {path.name: path.stat().st_mode & 0o777 for path in box.folder.iterdir()}
    go_on.set()
    process.communicate(timeout=60)
    assert "agent" not in files
    assert set(files.values()) == {0o600}
    assert process.returncode == 0
    assert os.listdir(box.folder) == ["agent"]


def test_a_pod_that_is_stopped_in_the_middle(box: Box, site: Server) -> None:
    """SIGTERM, as a deleted pod gets it: no binary, and nothing half done."""
    arrived, go_on = threading.Event(), threading.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.to_thread(go_on.wait, 30)
        return web.Response(body=ARM64)

    site.on("GET /agent-arm64$", wait)
    process = box.begin("aarch64")
    assert arrived.wait(30)
    process.send_signal(signal.SIGTERM)
    go_on.set()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert os.listdir(box.folder) == []


def test_a_container_that_starts_again(box: Box, site: Server) -> None:
    """What is there and right is not fetched again, so a node restarts while the server is away; what
    is there and is not right is replaced, or taken away where nothing better can be had.
    """
    assert box.run("aarch64")[0] == 0
    assert box.run("aarch64")[0] == 0
    assert len(site.requests) == 1
    box.binary.unlink()
    box.binary.write_bytes(OTHER)
    box.binary.chmod(0o555)
    assert box.run("aarch64")[0] == 0
    assert box.binary.read_bytes() == ARM64
    box.binary.unlink()
    box.binary.write_bytes(OTHER)
    box.binary.chmod(0o555)
    site.answer("GET /agent-arm64$", 404)
    box.fails("aarch64")
    shutil.copy("/bin/true", box.binary)
    box.fails("riscv64")


@pytest.mark.parametrize("tool", ["sha256sum", "timeout", "od", "tr", "grep", "tail"])
def test_an_image_without_a_tool(box: Box, site: Server, tool: str) -> None:
    """Fails before it asks for anything, and says what the image lacks."""
    (box.path / tool).unlink()
    assert box.fails("aarch64") == f"agent: the fetch image has no {tool}"
    assert site.requests == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/agent", "ftp://127.0.0.1:1/agent", "file:///bin/true"])
@pytest.mark.usefixtures("site")
def test_only_https_unless_told(box: Box, url: str) -> None:
    """Nothing is asked for in the open."""
    assert box.fails("aarch64", ALLOW_HTTP="no", URL_ARM64=url) == f"agent: {url} is not https"


class _Handler(BaseHTTPRequestHandler):
    redirect = ""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/redirect" else 200)
        if self.path == "/redirect":
            self.send_header("Location", self.redirect)
        self.send_header("Content-Length", str(len(ARM64)))
        self.end_headers()
        self.wfile.write(ARM64)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def tls(authority: Authority) -> Iterator[str]:
    """A server that speaks TLS with a certificate of the tests' authority: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # busybox's own TLS has none of the ciphers that a server offers by default today.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(authority.certificate, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.usefixtures("site")
def test_https(box: Box, authority: Authority, tls: str) -> None:
    """From a server whose certificate is trusted it comes."""
    trust = box.trust(authority.ca_file)
    code, said = box.run("aarch64", URL_ARM64=f"{tls}/agent", ALLOW_HTTP="no", **trust)
    assert code == 0, said
    assert box.binary.read_bytes() == ARM64


def test_https_that_leads_into_the_open(
    box: Box, site: Server, authority: Authority, tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect from https to http is not taken, not even for the right file."""
    monkeypatch.setattr(_Handler, "redirect", f"{site.base}/agent-arm64")
    trust = box.trust(authority.ca_file)
    said = box.fails("aarch64", URL_ARM64=f"{tls}/redirect", ALLOW_HTTP="no", **trust)
    # curl does not go there; of wget it is seen afterwards.
    refused = "cannot be downloaded, or is larger than 4 MiB", "redirects to an address that is not https"
    assert said == f"agent: {tls}/redirect {refused[(box.path / 'wget').exists()]}"
