"""Images made to stall an audit, to fill its memory or to end it, and a server that has them."""

import asyncio
import gzip
import io
import json
import sys
import tarfile
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import zstandard
from aiohttp import web

from lab.oci import OCI_INDEX, OCI_MANIFEST, digest_of, elf
from tests.images.build import layer
from tests.images.servers import Server

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def deep_paths(paths: int = 1000, depth: int = 2040) -> bytes:
    """A small layer of many paths, each of thousands of folders of its own."""
    members = [(tarfile.TarInfo(f"{number}/" + "a/" * depth), b"") for number in range(paths)]
    return gzip.compress(_tar(*members), 1, mtime=0)


def long_names(count: int = 3000) -> bytes:
    """A chain of headers that each announce the name of the next member."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    return gzip.compress(
        (info.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * count + bytes(1024), 1, mtime=0
    )


def gzip_bomb(members: int = 200) -> bytes:
    """Members of gzip, of 64 MiB of zeros each."""
    info = tarfile.TarInfo("zeros")
    info.size = members << 26
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    one = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    return gzip.compress(info.tobuf(), mtime=0) + one * members


def zstd_bomb(frames: int = 200) -> bytes:
    """Frames of zstd, of 64 MiB of zeros each."""
    info = tarfile.TarInfo("zeros")
    info.size = frames << 26
    return zstandard.compress(info.tobuf()) + zstandard.compress(bytes(1 << 26)) * frames


def many_folders(files: int = 300_000) -> bytes:
    """Many empty files, each in ten folders of its own."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = []
    for number in range(files):
        info = tarfile.TarInfo("/".join(f"{number:x}" for _ in range(10)))
        parts.append(packer.compress(info.tobuf()))
    return b"".join((*parts, packer.compress(bytes(1024)), packer.flush()))


class Hostile:
    """A server of hostile images. It notes nothing else about an image than its path."""

    def __init__(self) -> None:
        """Start it."""
        self.server = Server()
        self.host = self.server.host
        self._content: dict[str, tuple[bytes, str]] = {}
        self._slow: dict[str, Callable[[web.StreamResponse], AsyncIterator[None]]] = {}
        self._delays: dict[str, float] = {}
        self.server.on("", self._answer)

    def stop(self) -> None:
        self.server.stop()

    def images(self, count: int, big: bool = True) -> list[str]:
        """Make so many images, of each kind in turn; return their references."""
        kinds: list[Callable[[str], None]] = [
            self._slow_children, self._hangs, self._drips, self._endless, self._surrogates,
            self._surrogate_digest, self._slow_layer, self._endless_layer, self._huge_sizes, self._wide,
        ]  # fmt: skip
        layers = [deep_paths(), long_names(), gzip_bomb(), zstd_bomb()]
        if big:
            layers.append(many_folders())
        kinds += [lambda name, layer=one: self._image(name, layer) for one in layers]  # type: ignore[misc]
        names = []
        for number in range(count):
            name = f"bad/{number}"
            kinds[number % len(kinds)](name)
            names.append(f"{self.host}/{name}:1")
        return names

    def stalling(self, name: str, seconds: float) -> str:
        """Make an image that takes dozens of answers, each of so many seconds; return its reference."""
        self._slow_children(name)
        self._delays[name] = seconds
        return f"{self.host}/{name}:1"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        name = path.split("/manifests/")[0].split("/blobs/")[0].removeprefix("/v2/")
        await asyncio.sleep(self._delays.get(name, 0))
        if path not in self._content:
            return web.Response(status=404)
        body, content_type = self._content[path]
        headers = {"Content-Type": content_type}
        if path not in self._slow:
            if body == b"digest":
                headers["Docker-Content-Digest"] = "sha256:\x9b31m"
            return web.Response(body=body, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body)
        async for _ in self._slow[path](response):
            pass
        return response

    def _put(self, name: str, kind: str, body: bytes, content_type: str, tag: str = "") -> str:
        digest = digest_of(body)
        for one in (digest, *([tag] if tag else [])):
            self._content[f"/v2/{name}/{kind}/{one}"] = (body, content_type)
        return digest

    def _image(self, name: str, blob: bytes, tag: str = "1", size: int | None = None, **config: Any) -> str:
        """Put an image of one layer; return the path of its layer."""
        document = {"os": "linux", "architecture": "arm64", "config": {"Cmd": ["/app"]}, **config}
        # Lone surrogates are in it as escapes.
        text = json.dumps(document).encode()
        layer_digest = self._put(name, "blobs", blob, "application/octet-stream")
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": _CONFIG,
                "digest": self._put(name, "blobs", text, _CONFIG),
                "size": len(text),
            },
            "layers": [
                {"mediaType": _LAYER, "digest": layer_digest, "size": len(blob) if size is None else size}
            ],
        }
        self._put(name, "manifests", json.dumps(manifest).encode(), OCI_MANIFEST, tag)
        return f"/v2/{name}/blobs/{layer_digest}"

    def _index(self, name: str, children: list[dict[str, Any]]) -> None:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        self._put(name, "manifests", json.dumps(index).encode(), OCI_INDEX, "1")

    def _slow_children(self, name: str) -> None:
        """Many answers, each a little slow."""
        children = []
        for number in range(30):
            self._image(name, layer({"app": elf("arm64")}), f"c{number}", author=str(number))
            body, _ = self._content[f"/v2/{name}/manifests/c{number}"]
            children.append({"mediaType": OCI_MANIFEST, "digest": digest_of(body), "size": len(body)})
        self._index(name, children)
        self._delays[name] = 0.5

    def _wide(self, name: str) -> None:
        """More indexes in an index than anybody wants to read."""
        nested = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
        digest = self._put(name, "manifests", nested, OCI_INDEX)
        self._index(name, [{"mediaType": OCI_INDEX, "digest": digest, "size": len(nested)}] * 900)

    def _hangs(self, name: str) -> None:
        self._image(name, layer({"app": elf("arm64")}))
        self._delays[name] = 3600

    def _drips(self, name: str) -> None:
        """A manifest that comes a byte at a time, and never ends."""
        path = f"/v2/{name}/manifests/1"
        self._content[path] = (b"{", OCI_MANIFEST)
        self._slow[path] = _drip

    def _endless(self, name: str) -> None:
        path = f"/v2/{name}/manifests/1"
        self._content[path] = (b"[", OCI_MANIFEST)
        self._slow[path] = _flood

    def _slow_layer(self, name: str) -> None:
        path = self._image(name, layer({"app": elf("arm64")}), size=1 << 30)
        self._slow[path] = _drip

    def _endless_layer(self, name: str) -> None:
        info = tarfile.TarInfo("zeros")
        info.size = 1 << 40
        path = self._image(name, info.tobuf(), size=1 << 28)
        self._slow[path] = _flood

    def _surrogates(self, name: str) -> None:
        self._image(name, layer({"app": elf("arm64")}), os="li\ud800nux", config={"Cmd": ["\udfff"]})

    def _surrogate_digest(self, name: str) -> None:
        self._content[f"/v2/{name}/manifests/1"] = (b"digest", OCI_MANIFEST)

    def _huge_sizes(self, name: str) -> None:
        """A size that Python multiplies, and neither prints nor Go reads."""
        self._image(name, layer({"app": elf("arm64")}), size=int("9" * 4299))


async def _drip(response: web.StreamResponse) -> AsyncIterator[None]:
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.1)
        yield


async def _flood(response: web.StreamResponse) -> AsyncIterator[None]:
    while True:
        await response.write(bytes(1 << 18))
        yield


if __name__ == "__main__":
    print("\n".join(Hostile().images(int(sys.argv[1]))), flush=True)
    threading.Event().wait()
