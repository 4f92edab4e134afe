"""A stand-in for the service that packs are published to: it takes one and keeps it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

ORGANISATION: Final = "acme"


class Cloud:
    """Answers the requests of ``pulumi policy publish`` on loopback.

    Attributes:
        url: Where it listens.
        pack: What was said of the pack: name, version, policies with their levels and configuration.
        archive: The pack itself, a gzipped tar.
        published: The pack was declared complete.
    """

    def __init__(self) -> None:
        self.pack: dict[str, Any] = {}
        self.archive = b""
        self.published = False
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                login = {"githubLogin": ORGANISATION, "GitHubLogin": ORGANISATION, "name": ORGANISATION}
                self._answer({**login, "organizations": [login]} if self.path.startswith("/api/user") else {})

            def do_POST(self) -> None:
                body = self._body()
                if self.path == f"/api/orgs/{ORGANISATION}/policypacks":
                    cloud.pack = json.loads(body)
                    self._answer({"version": 1, "uploadURI": f"{cloud.url}/upload"})
                elif self.path.endswith("/complete"):
                    cloud.published = True
                    self._answer({})
                else:
                    self.send_error(404)

            def do_PUT(self) -> None:
                cloud.archive = self._body()
                self._answer({})

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer(self, value: dict[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
