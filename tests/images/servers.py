"""Servers of the tests, all on loopback: a real registry, and one that misbehaves on order."""

import asyncio
import base64
import hashlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiohttp import ClientSession, DummyCookieJar, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from lab.processes import free_port
from tests.programs import debian_program

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Registry:
    """A registry process on loopback with its own storage."""

    def __init__(
        self,
        folder: Path,
        sections: Mapping[str, Any] | None = None,
        scheme: str = "http",
        program: Path | None = None,
    ) -> None:
        """Start one, Debian's docker-registry or another; sections are merged into its configuration."""
        for _ in range(5):
            self.host = f"127.0.0.1:{free_port()}"
            self.base = f"{scheme}://{self.host}"
            configuration: dict[str, Any] = {
                "version": 0.1,
                "log": {"accesslog": {"disabled": True}, "level": "error"},
                "storage": {
                    "filesystem": {"rootdirectory": str(folder / "data")},
                    "delete": {"enabled": True},
                    "cache": {"blobdescriptor": "inmemory"},
                },
                "http": {"addr": self.host},
            }
            for name, section in (sections or {}).items():
                configuration[name] = {**configuration.get(name, {}), **section}
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "config.yml"
            path.write_text(json.dumps(configuration))
            with (folder / "log").open("w") as log:
                self._process = subprocess.Popen(
                    [str(program or debian_program("docker-registry")), "serve", str(path)],
                    env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
                    stdout=log,
                    stderr=log,
                )
            if self._answers():
                return
        raise RuntimeError(f"the registry does not start: {(folder / 'log').read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answers(self) -> bool:
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(f"{self.base}/v2/", verify=False, trust_env=False)  # noqa: S501
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@dataclass(frozen=True)
class Seen:
    """One request that a server of ours got."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


class Server:
    """An HTTP server in a thread: rules first, else forwards to an upstream, else 404."""

    def __init__(self, upstream: str = "", port: int = 0) -> None:
        """Start one, on a free port unless it is told which."""
        self._upstream = upstream
        self._rules: list[tuple[re.Pattern[str], Handler]] = []
        self.requests: list[Seen] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(port), self._loop).result(10)
        self.host = f"127.0.0.1:{port}"
        self.base = f"http://{self.host}"

    async def _start(self, port: int) -> int:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._session = ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar())
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        return int(self._runner.addresses[0][1])

    def stop(self) -> None:
        async def close() -> None:
            await self._runner.cleanup()
            await self._session.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def clear(self) -> None:
        """Forget all rules: everything goes to the upstream again."""
        self._rules.clear()

    def on(self, pattern: str, handler: Handler) -> None:
        """Answer requests whose ``METHOD path`` matches with a handler; the last rule wins."""
        self._rules.insert(0, (re.compile(pattern), handler))

    def answer(self, pattern: str, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer requests that match with a fixed status, body and headers (``_`` for ``-``)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=status, body=body, headers=named)

        self.on(pattern, handler)

    def paths(self, method: str = "GET") -> list[str]:
        """Return the paths asked for with a method."""
        return [seen.path for seen in self.requests if seen.method == method]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode(errors="replace")
        self.requests.append(
            Seen(request.method, request.path, dict(request.query), dict(request.headers), body)
        )
        for pattern, handler in self._rules:
            if pattern.search(f"{request.method} {request.path}"):
                return await handler(request)
        return await self.forward(request)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on to the upstream unchanged."""
        if not self._upstream:
            return web.Response(status=404)
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with self._session.request(
            request.method, self._upstream + request.path_qs, headers=headers, allow_redirects=False
        ) as response:
            content = await response.read()
            kept = {
                name: value
                for name, value in response.headers.items()
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date")
            }
            if request.method == "HEAD":
                kept["Content-Length"] = response.headers.get("Content-Length", "0")
            return web.Response(status=response.status, body=content, headers=kept)


class Authority:
    """A certificate authority of the tests, and the RSA key that signs registry tokens."""

    def __init__(self, folder: Path) -> None:
        """Make a CA and a certificate for 127.0.0.1 in a folder."""
        import datetime
        import ipaddress

        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.x509.oid import NameOID

        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC)

        def certificate(
            name: str, key: rsa.RSAPrivateKey, issuer: x509.Name | None, signer: rsa.RSAPrivateKey
        ) -> x509.Certificate:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer or subject)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            )
            if issuer is not None:
                address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
                builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            return builder.sign(signer, hashes.SHA256())

        ca_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        ca = certificate("tests CA", ca_key, None, ca_key)
        leaf = certificate("127.0.0.1", self._key, ca.subject, ca_key)
        self._der = leaf.public_bytes(serialization.Encoding.DER)
        self.ca_file, self.certificate, self.key = folder / "ca.pem", folder / "leaf.pem", folder / "key.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )

    def token(self, service: str, access: list[dict[str, Any]], seconds: float = 60) -> str:
        """Return a registry token (a JWT) that grants access."""
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self._der).decode()]}
        claims = {
            "iss": "tests",
            "aud": service,
            "exp": now + int(seconds),
            "nbf": now - 10,
            "iat": now,
            "jti": hashlib.sha256(os.urandom(8)).hexdigest(),
            "access": access,
        }
        text = ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in (head, claims)
        )
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
