"""The client for Prometheus: what it says when there is no answer, and where its token goes."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from archshift.common.errors import ArchshiftError
from archshift.ramp import prometheus
from archshift.ramp.measurement import PrometheusError
from archshift.ramp.prometheus import TOKEN, TOKEN_FILE, Prometheus, read_token
from archshift.settings.gate import check_url
from tests.images.servers import Authority

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
URL = "https://prometheus.example"
Handler = Callable[[httpx2.Request], httpx2.Response]


def answering(answer: Handler | httpx2.Response, token: str = "") -> Prometheus:
    """Return a client whose Prometheus answers so."""
    handler = answer if callable(answer) else lambda _: answer
    return Prometheus(URL, token, transport=httpx2.MockTransport(handler))


def success(kind: str, result: Any, **more: Any) -> httpx2.Response:
    """Return an answer as Prometheus gives it."""
    return httpx2.Response(
        200, json={"status": "success", "data": {"resultType": kind, "result": result}, **more}
    )


def refusal(answer: Handler | httpx2.Response) -> str:
    """Return the sentence with which a query fails."""
    with answering(answer) as prometheus, pytest.raises(PrometheusError) as error:
        prometheus.query("up", AT)
    return str(error.value)


def test_samples_and_series_are_read_with_their_times() -> None:
    """Values come as text, NaN and Inf among them."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        if request.url.path.endswith("_range"):
            return success("matrix", [{"metric": {"arch": "arm64"}, "values": [[1, "2"], [61.5, "+Inf"]]}])
        return success("vector", [{"metric": {"arch": "arm64"}, "value": [1, "0.5"]}])

    with answering(answer, "s3cret") as prometheus:
        (sample,) = prometheus.query("up", AT)
        (series,) = prometheus.query_range("up", AT, AT + timedelta(hours=1), timedelta(minutes=5))
    assert (sample.labels, sample.value) == ({"arch": "arm64"}, 0.5)
    assert series.values == {1.0: 2.0, 61.5: float("inf")}
    assert [request.headers["Authorization"] for request in asked] == ["Bearer s3cret"] * 2
    assert asked[0].content == b"query=up&time=1773144000.000"
    assert asked[1].content == b"query=up&start=1773144000.000&end=1773147600.000&step=300"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            httpx2.Response(401, text="who are you"),
            f"{URL} refuses the credentials (HTTP 401); set {TOKEN} or {TOKEN_FILE} to a token that may "
            "query",
        ),
        (
            httpx2.Response(502, text="<html>bad gateway</html>"),
            f"{URL} answered HTTP 502; check that Prometheus runs behind it",
        ),
        (
            httpx2.Response(
                503, json={"status": "error", "error": "query timed\nout in \u001b[31mexpression"}
            ),
            f"{URL} cannot answer: query timed out in \ufffd[31mexpression",
        ),
        (
            success("vector", [], warnings=["store 3 is away"]),
            f"{URL} gave only a part of the answer: store 3 is away",
        ),
        (
            httpx2.Response(302, headers={"Location": "https://login.example/"}),
            f"{URL} redirects, and archshift does not follow redirects; set archshift:gate.prometheus to the "
            "address of Prometheus itself",
        ),
    ]
    + [
        (answer, f"{URL} does not answer like Prometheus; check archshift:gate.prometheus (its path too)")
        for answer in (
            httpx2.Response(200, text="<html>Grafana</html>"),
            httpx2.Response(200, json=["success"]),
            httpx2.Response(200, json={"status": "success"}),
            success("matrix", []),
            success("vector", {}),
            success("vector", [{"metric": {}}]),
            success("vector", [{"metric": {}, "value": [1, "many"]}]),
            httpx2.Response(200, text="[" * 100_000),
        )
    ],
)
def test_what_is_no_answer_is_one_sentence(answer: httpx2.Response, sentence: str) -> None:
    """Every way in which a proxy or a Prometheus may fail is said, and none is taken for no data."""
    assert refusal(answer) == sentence


def test_a_hint_of_an_older_prometheus_is_no_missing_part() -> None:
    """Before 3.0 remarks about an expression came among the warnings."""
    hint = "PromQL info: metric might not be a counter, name does not end in _total"
    with answering(success("vector", [], warnings=[hint])) as prometheus:
        assert prometheus.query("up", AT) == []


def test_one_that_cannot_be_reached_or_does_not_answer_is_one_sentence() -> None:
    """Neither waits forever nor ends in a traceback."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("[Errno 111] Connection refused", request=request)

    def late(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("", request=request)

    assert refusal(refuse) == (
        f"{URL} cannot be reached: Connection refused; check archshift:gate.prometheus and your network"
    )
    assert refusal(late) == (
        f"{URL} gave no answer in time; check that it is reachable, or shorten archshift:gate.window"
    )


def test_an_answer_of_any_size_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than the bound is given up while it is read."""
    monkeypatch.setattr(prometheus, "MAX_ANSWER_BYTES", 1000)
    assert refusal(httpx2.Response(200, content=b"x" * 2000)) == (
        f"{URL}: the answer is larger than 1000 bytes; name fewer archshift:workloads.namespaces"
    )


@contextmanager
def listening(
    location: str = "", authority: Authority | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server on this machine that redirects, or has no samples; yields its address and what it was sent."""
    seen: list[dict[str, str]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(dict(self.headers))
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
            self.send_response(307 if location else 200)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    if authority:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority.certificate, authority.key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if authority else ''}://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_gets_neither_the_token_nor_the_last_word() -> None:
    """A real redirect on real sockets: the other host is not even asked."""
    with (
        listening() as (other, stolen),
        listening(f"{other}/api/v1/query") as (url, seen),
        Prometheus(url, "s3cret") as prometheus,
        pytest.raises(PrometheusError, match="redirects"),
    ):
        prometheus.query("up", AT)
    assert seen[0]["Authorization"] == "Bearer s3cret"
    assert stolen == []


def test_a_certificate_of_nobody_known_gets_no_token(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real handshake: it fails before anything is sent, and works once the authority is trusted."""
    with listening(authority=authority) as (url, seen):
        with Prometheus(url, "s3cret") as prometheus, pytest.raises(PrometheusError) as error:
            prometheus.query("up", AT)
        assert str(error.value).startswith(f"{url} cannot be reached: [SSL: CERTIFICATE_VERIFY_FAILED]")
        assert seen == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        with Prometheus(url, "s3cret") as prometheus:
            assert prometheus.query("up", AT) == []


def test_a_proxy_of_the_environment_does_not_get_what_is_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token may go to a loopback address by http only since nobody else reads that."""
    with listening() as (proxy, stolen), listening() as (url, seen):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Prometheus(url, "s3cret") as prometheus:
            prometheus.query("up", AT)
    assert (len(seen), stolen) == (1, [])


def test_no_token_goes_over_plain_http_to_another_machine() -> None:
    """In a cluster http without a token is common; a token is not for everybody on the way."""
    with pytest.raises(ArchshiftError) as error:
        Prometheus("http://prometheus.monitoring:9090", "s3cret")
    assert str(error.value) == (
        "archshift:gate.prometheus: http://prometheus.monitoring:9090 is plain http, and a token needs "
        "https; use https"
    )
    Prometheus("http://prometheus.monitoring:9090")
    Prometheus("http://localhost:9090", "s3cret")
    Prometheus("http://[::1]:9090", "s3cret")
    with pytest.raises(ArchshiftError):
        Prometheus("http://localhost.example:9090", "s3cret")


def test_an_address_keeps_its_path_and_no_password() -> None:
    """Behind a proxy Prometheus has a path; a password in an address would be printed with it."""
    assert check_url("key", "https://p.example/prom/") == "https://p.example/prom"
    for url in ("ftp://p", "p:9090", "", "https://p/?x=1", "https://p/#x", "http://"):
        with pytest.raises(ArchshiftError, match="is invalid; use an address such as"):
            check_url("key", url)
    with pytest.raises(ArchshiftError) as error:
        check_url("key", "https://me:hunter2@p.example")
    assert "hunter2" not in str(error.value)


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """A file as Kubernetes mounts it ends in a newline or not; what is no token is said without it."""
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert read_token({}) == ""
    assert read_token({TOKEN: "s3cret"}) == "s3cret"
    assert read_token({TOKEN_FILE: str(file)}) == "s3cret"
    with pytest.raises(ArchshiftError, match="are both set; unset one of them"):
        read_token({TOKEN: "s3cret", TOKEN_FILE: str(file)})
    with pytest.raises(ArchshiftError, match="cannot be read: No such file or directory; correct the path"):
        read_token({TOKEN_FILE: str(tmp_path / "none")})
    file.write_text("")
    with pytest.raises(ArchshiftError, match="is empty; write the token into it, or unset"):
        read_token({TOKEN_FILE: str(file)})
    for bad in ("two s3cret", "s3cret\r\nX-Evil: 1", "s3cret\N{SNOWMAN}"):
        with pytest.raises(ArchshiftError, match="is not a token: one word of printable characters") as error:
            read_token({TOKEN: bad})
        assert "s3cret" not in str(error.value)
