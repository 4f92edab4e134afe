"""A stand-in for GitHub's REST API: as much of it as the scripts of the pipelines ask, on this machine.

The real ``gh`` talks to it: for the host ``github.localhost`` it speaks plain HTTP, and a proxy of the
environment leads it here.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

REPOSITORY = "acme/shop"
TOKEN = "gho-of-the-test"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
# What GitHub answers with 422 when a text is longer.
LONGEST_TEXT = 65536

Json = dict[str, Any]


@dataclass
class GitHub:
    """What is at GitHub, and what was asked of it."""

    pulls: list[Json] = field(default_factory=list)
    issues: list[Json] = field(default_factory=list)
    comments: dict[int, list[Json]] = field(default_factory=dict)
    dispatches: list[tuple[str, Json]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tip: str = ""  # of main
    down: bool = False
    page: int = 2  # small, so that every listing has to be read to its end
    _numbers: int = 0

    # --- for tests ----------------------------------------------------------------------------

    def comment(self, number: int, body: str, user: Json | None = None) -> Json:
        """Puts a comment under an issue or a pull request."""
        made = {"id": self._next(), "body": body, "user": user or BOT}
        self.comments.setdefault(number, []).append(made)
        return made

    def pull(self, branch: str, title: str = "", user: Json | None = None) -> Json:
        return self._open(self.pulls, {"title": title, "body": "", "head": branch}, user)

    def issue(self, title: str, body: str, user: Json | None = None) -> Json:
        return self._open(self.issues, {"title": title, "body": body}, user)

    def open_pulls(self) -> list[Json]:
        return [pull for pull in self.pulls if pull["state"] == "open"]

    def changes(self) -> list[tuple[str, str]]:
        """What was asked that changes something."""
        return [(method, path) for method, path in self.asked if method != "GET"]

    # --- the routes ---------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> tuple[int, Any]:
        """Answers one request with a status and a JSON value."""
        if self.down:
            return 503, {"message": "No server is currently available"}
        for verb, pattern, route in (
            ("GET", r"/pulls", self._list_pulls),
            ("POST", r"/pulls", self._post_pull),
            ("PATCH", r"/pulls/(\d+)", self._patch_pull),
            ("GET", r"/issues", self._list_issues),
            ("POST", r"/issues", self._post_issue),
            ("PATCH", r"/issues/(\d+)", self._patch_issue),
            ("GET", r"/issues/(\d+)/comments", self._list_comments),
            ("POST", r"/issues/(\d+)/comments", self._post_comment),
            ("PATCH", r"/issues/comments/(\d+)", self._patch_comment),
            ("POST", r"/actions/workflows/([a-z.]+)/dispatches", self._dispatch),
        ):
            match = re.fullmatch(f"/repos/{REPOSITORY}{pattern}", path)
            if verb == method and match:
                if any(len(str(value)) > LONGEST_TEXT for value in body.values()):
                    return 422, {"message": "Body is too long (maximum is 65536 characters)"}
                return route(*match.groups(), query=query, body=body)
        return 404, {"message": "Not Found"}

    def _list_pulls(self, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del body
        _, _, branch = query.get("head", "").partition(":")
        return 200, [pull for pull in self.open_pulls() if pull["head"]["ref"] == branch]

    def _post_pull(self, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        if any(pull["head"]["ref"] == body["head"] for pull in self.open_pulls()):
            return 422, {"message": f"A pull request already exists for acme:{body['head']}."}
        return 201, self._open(self.pulls, body)

    def _patch_pull(self, number: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        return self._patch(self.pulls, number, body)

    def _list_issues(self, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del body, query
        # As GitHub does: pull requests are issues.
        pulls = [{**pull, "pull_request": {}} for pull in self.open_pulls()]
        return 200, [one for one in self.issues if one["state"] == "open"] + pulls

    def _post_issue(self, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        return 201, self._open(self.issues, body)

    def _patch_issue(self, number: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        return self._patch(self.issues, number, body)

    def _list_comments(self, number: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query, body
        return 200, self.comments.get(int(number), [])

    def _post_comment(self, number: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        return 201, self.comment(int(number), body["body"])

    def _patch_comment(self, id_: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        for comment in (one for under in self.comments.values() for one in under):
            if comment["id"] == int(id_):
                comment.update(body)
                return 200, comment
        return 404, {"message": "Not Found"}

    def _dispatch(self, workflow: str, *, query: dict[str, str], body: Json) -> tuple[int, Any]:
        del query
        self.dispatches.append((workflow, body))
        return 204, None

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _open(self, those: list[Json], body: Json, user: Json | None = None) -> Json:
        made = {**body, "number": self._next(), "state": "open", "user": user or BOT}
        if "head" in body:
            made["head"] = {"ref": body["head"]}
        those.append(made)
        return made

    @staticmethod
    def _patch(those: list[Json], number: str, body: Json) -> tuple[int, Any]:
        for one in those:
            if one["number"] == int(number):
                one.update(body)
                return 200, one
        return 404, {"message": "Not Found"}


class Server:
    """Serves a `GitHub` until it is closed; `environment` and `proxy` lead gh to it."""

    def __init__(self, github: GitHub) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                # gh asks its proxy, so the whole address stands in the request.
                parts = urlsplit(self.path)
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size) or b"{}") if size else {}
                github.asked.append((self.command, parts.path))
                if self.headers.get("Authorization") != f"token {TOKEN}":
                    self._send(401, {"message": "Bad credentials"})
                    return
                query = dict(parse_qsl(parts.query))
                status, answer = github.answer(self.command, parts.path, query, body)
                if status == HTTPStatus.OK and isinstance(answer, list):
                    page = int(query.get("page", 1))
                    start = (page - 1) * github.page
                    more = len(answer) > start + github.page
                    next_page = (
                        f"http://{parts.netloc}{parts.path}?{urlencode({**query, 'page': str(page + 1)})}"
                    )
                    self._send(status, answer[start : start + github.page], next_page if more else None)
                else:
                    self._send(status, answer)

            do_GET = do_POST = do_PATCH = _serve  # noqa: N815 - http.server's names

            def _send(self, status: int, answer: Any, next_page: str | None = None) -> None:
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                if next_page:
                    self.send_header("Link", f'<{next_page}>; rel="next"')
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def proxy(self) -> str:
        """The address that leads gh here as its HTTP proxy."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """The host and the token for gh."""
        return {"GH_HOST": "github.localhost", "GH_TOKEN": TOKEN}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
