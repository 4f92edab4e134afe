"""A server of files on loopback, with real TLS, that misbehaves on order."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.images.servers import Authority


class FileServer:
    """Serves what a test puts into ``files``.

    Attributes:
        files: Content by path.
        redirects: Where a path leads instead.
        cuts: After so many bytes the connection of a request for a path is closed, one entry a request.
        holds: A path whose answer pauses after so many bytes until the server stops.
        drips: The paths whose answers come in tiny pieces.
        ranges: Whether a request for the rest of a file is answered with the rest.
        requests: Method, path and Range header of what was asked for, without the front page.
    """

    def __init__(self, authority: Authority) -> None:
        """Start one on a free port."""
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.cuts: dict[str, deque[int]] = {}
        self.holds: dict[str, int] = {}
        self.drips: set[str] = set()
        self.ranges = True
        self.requests: list[tuple[str, str, str | None]] = []
        self._ends = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.certificate, authority.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Stop it; what it holds back ends."""
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def url(self, path: str) -> str:
        return f"https://{self.host}{path}"

    def put(self, path: str, content: bytes) -> str:
        """Serve a file and return where it is."""
        self.files[path] = content
        return self.url(path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_error(404)

            def do_GET(self) -> None:
                server.requests.append(("GET", self.path, self.headers.get("Range")))
                with contextlib.suppress(OSError):
                    server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.end_headers()
            return
        if path not in self.files:
            request.send_error(404)
            return
        content = self.files[path]
        asked = re.match(r"bytes=(\d+)-$", request.headers.get("Range", ""))
        begin = int(asked.group(1)) if asked and self.ranges else 0
        if begin and begin >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if begin else 200)
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        rest = content[begin:]
        if cuts := self.cuts.get(path):
            rest = rest[: cuts.popleft()]
        if path in self.holds:
            request.wfile.write(rest[: self.holds[path]])
            request.wfile.flush()
            self._ends.wait(60)
            return
        if path in self.drips:
            for begin in range(0, len(rest), 10):
                request.wfile.write(rest[begin : begin + 10])
                if self._ends.wait(0.05):
                    return
            return
        request.wfile.write(rest)


def trusting(authority: Authority, set_variable: Callable[[str, str], object]) -> None:
    """Have Python trust the authority, and ask loopback without a proxy."""
    set_variable("SSL_CERT_FILE", str(Path(authority.ca_file)))
    for name in ("no_proxy", "NO_PROXY"):
        set_variable(name, "127.0.0.1,localhost")
