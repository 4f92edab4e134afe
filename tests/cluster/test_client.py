"""The client for the API server: pages, and one sentence for whatever goes wrong."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from archshift.cluster import client
from archshift.cluster.client import APPLY, MERGE, BusyError, Cluster, RefusedError, connect
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.polling import retry_until

SERVER = "https://cluster.example"
PODS = "/api/v1/pods"

Handler = Callable[[httpx2.Request], httpx2.Response]


def serve(handler: Handler) -> Cluster:
    """A connection whose requests are answered by a function."""
    return Cluster(httpx2.Client(transport=httpx2.MockTransport(handler), base_url=SERVER), SERVER)


def refusal(handler: Handler) -> str:
    """The sentence with which reading the pods fails."""
    with serve(handler) as cluster, pytest.raises(ArchshiftError) as error:
        list(cluster.list(PODS))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for an answer does so without time going by, but for tests of the waiting itself."""
    monkeypatch.setattr("archshift.cluster.client._PATIENCE_SECONDS", 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the client sees, which goes by where it sleeps; the real patience."""
    now = [1000.0]
    monkeypatch.setattr("archshift.cluster.client._PATIENCE_SECONDS", 15.0)
    monkeypatch.setattr("archshift.cluster.client.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "archshift.cluster.client.time.sleep", lambda seconds: now.append(now.pop() + seconds)
    )
    return now


def test_a_collection_is_read_page_by_page() -> None:
    """10,000 pods come in pages of 500, each asked for with the token of the one before."""
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        token = asked[-1].get("continue", "")
        following = {"": "one", "one": "two", "two": ""}[token]
        return httpx2.Response(200, json={"metadata": {"continue": following}, "items": [{"page": token}]})

    with serve(answer) as cluster:
        items = list(cluster.list(PODS, labelSelector="team=shop"))
    assert items == [{"page": ""}, {"page": "one"}, {"page": "two"}]
    assert [query.get("continue") for query in asked] == [None, "one", "two"]
    assert all(query["limit"] == "500" and query["labelSelector"] == "team=shop" for query in asked)


@pytest.mark.parametrize("page", [{}, {"items": None}, {"metadata": None, "items": []}])
def test_an_empty_collection_is_no_error(page: Mapping[str, Any]) -> None:
    """API servers write empty lists in several ways."""
    with serve(lambda _: httpx2.Response(200, json=page)) as cluster:
        assert list(cluster.list(PODS)) == []


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        (httpx2.Response(404, json={"message": "not found"}), False),
        (httpx2.Response(200, json={"resources": [{"kind": "PrometheusRule"}, {"kind": "Probe"}]}), True),
        (httpx2.Response(200, json={"resources": [{"kind": "Probe"}]}), False),
        (httpx2.Response(200, json={"resources": None}), False),
    ],
)
def test_a_kind_is_served_where_discovery_says_so(answer: httpx2.Response, served: bool) -> None:
    """A cluster without an operator does not know its group at all; one with an old one knows a part."""
    with serve(lambda _: answer) as cluster:
        assert cluster.serves("monitoring.coreos.com/v1", "PrometheusRule") is served


def test_a_kind_that_cannot_be_asked_for_is_no_missing_kind() -> None:
    """A refusal must not turn the operator's rules into a file that nobody reads."""
    refused = httpx2.Response(403, json={"message": "forbidden"})
    with serve(lambda _: refused) as cluster, pytest.raises(ArchshiftError, match="not allowed: forbidden"):
        cluster.serves("monitoring.coreos.com/v1", "PrometheusRule")


def test_an_object_is_got_and_patched() -> None:
    """An apply patch forces, as the giver-back must; a merge patch names its manager only."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"kind": "Deployment"})

    with serve(answer) as cluster:
        assert cluster.get("/thing") == {"kind": "Deployment"}
        cluster.patch("/thing", {"a": 1}, APPLY, "helm")
        cluster.patch("/thing", {"a": 2}, MERGE, "kubectl")
    assert [(request.method, dict(request.url.params)) for request in asked] == [
        ("GET", {}),
        ("PATCH", {"fieldManager": "helm", "force": "true"}),
        ("PATCH", {"fieldManager": "kubectl"}),
    ]
    assert asked[1].headers["content-type"] == "application/apply-patch+yaml"
    assert json.loads(asked[2].content) == {"a": 2}


def test_refused_credentials_say_to_log_in_again() -> None:
    """401 with the API server's own word."""
    assert refusal(lambda _: httpx2.Response(401, json={"message": "Unauthorized"})) == (
        "https://cluster.example: the cluster refuses the credentials (Unauthorized); log in again or check "
        "the kubeconfig's user"
    )


def test_a_missing_permission_is_named() -> None:
    """403 names what was not allowed and where the list of permissions is."""
    message = 'pods is forbidden: User "ci" cannot list resource "pods" in API group ""'
    assert refusal(lambda _: httpx2.Response(403, json={"message": message})) == (
        f"https://cluster.example: not allowed: {message}; docs/permissions.md lists what archshift reads"
    )


def test_an_error_of_the_server_names_the_path() -> None:
    """500 with the server's own word."""
    assert refusal(lambda _: httpx2.Response(500, json={"message": "etcd is gone"})) == (
        "https://cluster.example: /api/v1/pods: etcd is gone"
    )


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"message": 5', b""])
def test_an_error_without_a_message_gives_its_number(body: bytes) -> None:
    """A load balancer's page of HTML is not printed; its status is."""
    assert refusal(lambda _: httpx2.Response(502, content=body)) == (
        "https://cluster.example: /api/v1/pods: HTTP 502"
    )


def test_a_long_message_is_cut() -> None:
    """A sentence stays one even where a server answers with a novel."""
    assert len(refusal(lambda _: httpx2.Response(500, json={"message": "x" * 100_000}))) < 400


def test_a_page_that_expired_stops_the_reading() -> None:
    """410 in the middle of a list is an error, not the end of the list."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if "continue" in request.url.params:
            return httpx2.Response(410, json={"message": "The provided continue parameter is too old"})
        return httpx2.Response(200, json={"metadata": {"continue": "x"}, "items": [{}]})

    assert refusal(answer) == (
        "https://cluster.example: /api/v1/pods: The provided continue parameter is too old"
    )


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"[]", b"null", b'"text"', b"\xff\xfe{"])
def test_an_answer_that_is_no_object_is_said(body: bytes) -> None:
    """A proxy's login page is not an API server."""
    assert refusal(lambda _: httpx2.Response(200, content=body)) == (
        "https://cluster.example: the answer to /api/v1/pods is not a JSON object; is this a Kubernetes "
        "API server?"
    )


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the limit, not at the end of the memory."""
    monkeypatch.setattr(client, "MAX_PAGE_BYTES", 1000)
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100

    assert refusal(lambda _: httpx2.Response(200, content=chunks())) == (
        "https://cluster.example: the answer to /api/v1/pods is larger than 1000 bytes; is this a "
        "Kubernetes API server?"
    )
    assert sent < 100_000


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused"), "Connection refused"),
        (httpx2.ReadTimeout("timed out"), "timed out"),
        (httpx2.RemoteProtocolError(""), "RemoteProtocolError"),
        (ConnectionResetError(104, "Connection reset by peer"), "the connection was reset"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_one_sentence(error: Exception, reason: str) -> None:
    """Refused, timed out, broken off: the sentence says which, and where to look."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    assert refusal(answer) == (
        f"https://cluster.example: the cluster cannot be reached: {reason}; check the kubeconfig's server "
        "and your network"
    )


def kubeconfig(
    cluster: Mapping[str, Any] | None = None,
    user: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> str:
    """A kubeconfig with one context, ``lab``."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": context or {"cluster": "lab", "user": "me"}}],
            "clusters": [{"name": "lab", "cluster": cluster or {"server": "http://127.0.0.1:9"}}],
            "users": [{"name": "me", "user": user or {"token": "made-up"}}],
        }
    )


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write a kubeconfig and point KUBECONFIG at it."""

    def write(text: str) -> None:
        (tmp_path / "config").write_text(text)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    return write


def connect_error(context: str | None = None) -> str:
    """The sentence with which connecting and reading fail."""
    with pytest.raises(ArchshiftError) as error, connect(context) as cluster:
        list(cluster.list(PODS))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_current_context_is_used(use: Callable[[str], None]) -> None:
    """As kubectl does."""
    use(kubeconfig())
    with connect() as current, connect("lab") as named:
        assert (current.server, named.server) == ("http://127.0.0.1:9", "http://127.0.0.1:9")


def test_another_kubeconfig_is_used_if_it_is_named(use: Callable[[str], None], tmp_path: Path) -> None:
    """A program with several clusters needs no environment variable for each."""
    use(kubeconfig())
    other = tmp_path / "other"
    other.write_text(kubeconfig(cluster={"server": "http://127.0.0.1:10"}))
    with connect() as current, connect("lab", other) as named:
        assert (current.server, named.server) == ("http://127.0.0.1:9", "http://127.0.0.1:10")


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sentence has the path that was tried and the variable that sets it."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    message = connect_error()
    assert str(tmp_path / "none") in message
    assert message.endswith("not found; set KUBECONFIG to a readable kubeconfig")


@pytest.mark.parametrize(
    "text",
    ["", "hello", "- 1", "%%%: [", "\x00", "contexts: 5"],
    ids=["empty", "text", "list", "no-yaml", "binary", "wrong-type"],
)
def test_a_file_that_is_no_kubeconfig_is_said(use: Callable[[str], None], text: str) -> None:
    """Garbage is answered with one sentence, on one line, that names the way out."""
    use(text)
    message = connect_error()
    assert message.startswith("kubeconfig: not readable as one: ")
    assert message.endswith("; set KUBECONFIG")


def test_an_unknown_context_is_answered_with_the_known_ones(use: Callable[[str], None]) -> None:
    """A typing slip is seen at once."""
    use(kubeconfig())
    assert connect_error("prod") == (
        "archshift:kube_context: 'prod' is not in the kubeconfig, which has: lab"
    )


def test_a_kubeconfig_without_a_current_context_is_said(use: Callable[[str], None]) -> None:
    """Nothing is guessed: not the first one, not the only one."""
    use(kubeconfig().replace("current-context: lab\n", ""))
    message = connect_error()
    assert "current context" in message
    assert message.endswith("; set archshift:kube_context or KUBECONFIG")


@pytest.mark.parametrize("part", ["user", "cluster"])
def test_a_context_that_names_nothing_is_said(use: Callable[[str], None], part: str) -> None:
    """The sentence says what is missing: which user or which cluster."""
    use(kubeconfig(context={"cluster": "lab", "user": "me", part: "gone"}))
    message = connect_error()
    assert message.startswith("kubeconfig: ")
    assert "'gone'" in message
    assert part in message


def test_a_port_without_a_server_is_said(use: Callable[[str], None]) -> None:
    """A kubeconfig that points nowhere: the real refusal of a real socket."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        use(kubeconfig({"server": f"http://127.0.0.1:{port}"}))
        assert connect_error() == (
            f"http://127.0.0.1:{port}: the cluster cannot be reached: the connection was refused; check "
            "the kubeconfig's server and your network"
        )


def test_connections_made_at_once_leave_the_tls_settings_alone(
    use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one thread sets while another makes its connection is freed under it (python/cpython#141012), and
    a server refuses that one's handshake. Each of them still says that it speaks HTTP/1.1.
    """
    changes: list[list[str]] = []
    change = ssl.SSLContext.set_alpn_protocols

    def counted(context: ssl.SSLContext, protocols: list[str]) -> None:
        changes.append(protocols)
        change(context, protocols)

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", counted)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
        use(kubeconfig({"server": f"https://127.0.0.1:{server.getsockname()[1]}"}))
        with connect() as cluster:
            made = list(changes)
            asked = [threads.submit(cluster.get, PODS) for _ in range(4)]
            for _ in asked:
                caller, _ = server.accept()
                with caller:
                    assert b"\x00\x09\x08http/1.1" in caller.recv(4096)
            for one in asked:
                with pytest.raises(UnavailableError, match="cannot be reached"):
                    one.result()
    assert made[-1:] == [["http/1.1"]]
    assert changes == made


@pytest.mark.parametrize(
    "cluster",
    [
        {"server": "https://127.0.0.1:9", "certificate-authority-data": "AAAA"},
        {"server": "https://127.0.0.1:9", "certificate-authority": "/does/not/exist"},
        {"server": "http://[::1"},
        {"server": "no-scheme.example"},
    ],
    ids=["broken-authority", "no-authority", "broken-address", "no-scheme"],
)
def test_an_unusable_cluster_entry_is_one_sentence(
    use: Callable[[str], None], cluster: Mapping[str, Any]
) -> None:
    """A traceback helps nobody who mistyped an address or lost a file."""
    use(kubeconfig(cluster))
    assert "kubeconfig" in connect_error()


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "AAAA", "client-key-data": "AAAA"},
        {"client-certificate-data": "AAAA"},
        {"auth-provider": {"name": "gcp"}},
    ],
    ids=["broken-certificate", "certificate-without-key", "old-provider"],
)
def test_an_unusable_user_entry_is_one_sentence(use: Callable[[str], None], user: Mapping[str, Any]) -> None:
    """Half a client certificate is as unusable as a broken one."""
    use(kubeconfig({"server": "https://127.0.0.1:9"}, user))
    assert "kubeconfig" in connect_error()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("/does/not/exist", []), ("false", []), ("echo", ["hello"]), ("echo", ["{}"])],
    ids=["missing", "fails", "no-json", "no-status"],
)
def test_a_credential_program_that_fails_is_one_sentence(
    use: Callable[[str], None], command: str, arguments: list[str]
) -> None:
    """On EKS the token comes from a program (aws); where it is missing, the network is not at fault."""
    version = "client.authentication.k8s.io/v1beta1"
    use(kubeconfig(user={"exec": {"apiVersion": version, "command": command, "args": arguments}}))
    assert connect_error().startswith("http://127.0.0.1:9: no credentials: ")


@pytest.mark.parametrize(
    ("status", "answer"), [(201, True), (404, True), (429, False)], ids=["done", "gone", "budget"]
)
def test_what_an_eviction_is_answered(status: int, answer: bool) -> None:
    """A budget's refusal is an answer, not an error; a pod that is gone needs no eviction."""
    asked: list[httpx2.Request] = []

    def serving(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(status, json={"message": "no"})

    with serve(serving) as cluster:
        assert cluster.evict("shop", "cart-1") is answer
    (request,) = asked
    assert (request.method, request.url.path) == ("POST", "/api/v1/namespaces/shop/pods/cart-1/eviction")
    assert json.loads(request.content) == {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "cart-1", "namespace": "shop"},
    }


def test_an_eviction_that_is_not_allowed_is_an_error() -> None:
    """The sentence says what is not allowed and where the permissions are listed."""
    with (
        serve(lambda _: httpx2.Response(403, json={"message": "pods/eviction is forbidden"})) as cluster,
        pytest.raises(ArchshiftError) as error,
    ):
        cluster.evict("shop", "cart-1")
    assert str(error.value) == (
        f"{SERVER}: not allowed: pods/eviction is forbidden; docs/permissions.md lists what archshift reads"
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, BusyError),
        (500, BusyError),
        (503, BusyError),
        (401, RefusedError),
        (403, RefusedError),
        (404, RefusedError),
    ],
)
def test_what_is_worth_asking_again(status: int, kind: Any) -> None:
    """A server that throttles or restarts is; one that knows and refuses is not."""
    assert issubclass(BusyError, UnavailableError)
    assert not issubclass(RefusedError, UnavailableError)
    with (
        serve(lambda _: httpx2.Response(status, json={"message": "no"})) as cluster,
        pytest.raises(kind) as error,
    ):
        cluster.get(PODS)
    assert (error.value.status, error.value.words) == (status, "no")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("away", [(503, {"message": "starting"}), (429, {"message": "slow down"})])
def test_a_server_that_answered_is_asked_again(away: tuple[int, Any]) -> None:
    """An API server that restarts or throttles does not end the reading; one that forbids does."""
    first: tuple[int, Any] = (200, {"metadata": {"continue": "one"}, "items": [{"page": 1}]})
    last: tuple[int, Any] = (200, {"items": [{"page": 2}]})
    forbidden = (403, {"message": "no"})
    answers: list[tuple[int, Any]] = [away, first, away, away, last]

    def answer(_: httpx2.Request) -> httpx2.Response:
        status, body = answers.pop(0)
        return httpx2.Response(status, json=body)

    with serve(answer) as cluster:
        assert list(cluster.list(PODS)) == [{"page": 1}, {"page": 2}]
    answers[:] = [first, away, forbidden, away]
    with serve(answer) as cluster, pytest.raises(ArchshiftError, match="not allowed: no"):
        list(cluster.list(PODS))
    assert answers == [away]


@pytest.mark.usefixtures("clock")
def test_discovery_is_read_again_while_a_server_restarts() -> None:
    answers = [
        httpx2.Response(503, json={"message": "starting"}),
        httpx2.Response(200, json={"resources": [{"kind": "Rollout"}]}),
    ]
    with serve(lambda _: answers.pop(0)) as cluster:
        assert cluster.serves("argoproj.io/v1alpha1", "Rollout")


@pytest.mark.usefixtures("clock")
def test_a_patch_is_never_sent_twice() -> None:
    """The first may have had its effect: whoever asked for it has to look."""
    answers = [httpx2.Response(200, json={}), httpx2.Response(503, json={"message": "starting"})]
    with serve(lambda _: answers.pop(0)) as cluster:
        cluster.get(PODS)
        with pytest.raises(UnavailableError, match="starting"):
            cluster.patch("/thing", {"a": 1}, APPLY, "helm")


@pytest.mark.parametrize("answered", [True, False])
def test_the_patience_with_a_server_ends(clock: list[float], answered: bool) -> None:
    """One that stays away is told as that, a quarter of a minute later; one that never answered at once."""
    alive = answered

    def answer(_: httpx2.Request) -> httpx2.Response:
        if not alive:
            raise httpx2.ConnectError("connection refused")
        return httpx2.Response(200, json={})

    with serve(answer) as cluster:
        if answered:
            cluster.get(PODS)
        alive = False
        with pytest.raises(UnavailableError, match="cannot be reached: connection refused"):
            cluster.get(PODS)
    assert clock == [1015.0 if answered else 1000.0]


def test_insisting_ends_with_an_answer_a_refusal_or_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks again for what was unavailable alone, and not for ever."""
    monkeypatch.setattr("archshift.cluster.client.time.sleep", lambda _: None)
    said: list[ArchshiftError | str] = [UnavailableError("away"), UnavailableError("away"), "here"]

    def ask() -> str:
        answer = said.pop(0)
        if isinstance(answer, ArchshiftError):
            raise answer
        return answer

    assert retry_until(ask, time.monotonic() + 60) == "here"
    said[:] = [UnavailableError("away"), ArchshiftError("forbidden"), "never asked"]
    with pytest.raises(ArchshiftError, match=r"^forbidden$"):
        retry_until(ask, time.monotonic() + 60)
    said[:] = [UnavailableError("away"), "never asked"]
    with pytest.raises(UnavailableError, match=r"^away$"):
        retry_until(ask, time.monotonic() - 1)
