"""Logging in, as Docker's registry really asks for it, and what never leaves for another host."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from archshift.common.errors import ArchshiftError
from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import RegistryHost
from archshift.images.registry.credentials import AuthFile, Credential
from tests.images.build import Pusher
from tests.images.login import HTPASSWD, LOGIN, secret
from tests.images.servers import Authority, Registry, Server

Options = Callable[..., AuditOptions]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real registry behind htpasswd, with one image."""
    folder = tmp_path_factory.mktemp("basic")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = {"auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}}
    running = Registry(folder, auth)
    Pusher(running.base, LOGIN).multi("team/app", "1", "linux/amd64", "linux/arm64")
    yield running
    running.stop()


class TokenServer:
    """Grants tokens for pulling (and to the pusher for all) to user/secret, a refresh token, or anybody."""

    def __init__(self, authority: Authority) -> None:
        self.server = Server()
        self.anonymous = False
        self._authority = authority

        async def grant(request: web.Request) -> web.StreamResponse:
            fields = {**request.query, **await request.post()}
            login = request.headers.get("Authorization", "")
            expected = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()
            known = login == expected or fields.get("refresh_token") == "refresh"
            if not known and (login or fields.get("refresh_token") or not self.anonymous):
                return web.Response(status=401)
            access = []
            if fields.get("scope"):
                kind, name, actions = str(fields["scope"]).split(":")
                access = [{"type": kind, "name": name, "actions": actions.split(",")}]
            token = authority.token("tests", access)
            return web.json_response({"token": token, "expires_in": 60})

        self.server.on("/token", grant)


@pytest.fixture(scope="module")
def tokens(authority: Authority) -> Iterator[TokenServer]:
    running = TokenServer(authority)
    yield running
    running.server.stop()


@pytest.fixture(scope="module")
def bearer(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, tokens: TokenServer
) -> Iterator[Registry]:
    """A real registry that wants tokens from the token server, with images in two repositories."""
    section = {
        "realm": f"{tokens.server.base}/token",
        "service": "tests",
        "issuer": "tests",
        "rootcertbundle": str(authority.ca_file),
    }
    running = Registry(tmp_path_factory.mktemp("bearer"), {"auth": {"token": section}})
    for repository in ("team/app", "team/other"):
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
        pusher = Pusher(running.base)
        pusher._client.headers["Authorization"] = f"Bearer {authority.token('tests', access)}"
        pusher.multi(repository, "1", "linux/amd64", "linux/arm64")
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _fresh(tokens: TokenServer) -> None:
    tokens.server.requests.clear()
    tokens.anonymous = False


def test_basic_with_a_pull_secret(basic: Registry, options: Options) -> None:
    """A pod's pull secret opens the registry that it is for."""
    image = f"{basic.host}/team/app:1"
    found = audit_images([image], options(basic.host, pull_secrets=(secret(basic.host),)))
    assert found[image].verdict == "multi-arch"


def test_basic_without_a_login_is_unknown(basic: Registry, options: Options) -> None:
    """A login is wanted and there is none: unknown, and the reason says which host."""
    image = f"{basic.host}/team/app:1"
    found = audit_images([image], options(basic.host))[image]
    assert found.reason == f"{basic.host} requires a login (401) and archshift has no login for it"
    assert found.verdict == "unknown"


def test_a_wrong_login_gives_way_to_the_next(basic: Registry, options: Options) -> None:
    """Every namespace's secret is tried, as the kubelet does; only if all fail is it unknown."""
    image = f"{basic.host}/team/app:1"
    wrong, right = secret(basic.host, password="old"), secret(f"https://{basic.host}/v1/")
    found = audit_images([image], options(basic.host, pull_secrets=(wrong, right)))[image]
    assert found.verdict == "multi-arch"
    found = audit_images([image], options(basic.host, pull_secrets=(wrong,)))[image]
    assert found.reason == f"{basic.host} requires a login (401) and refused the logins from Secret shop/pull"


def test_many_wrong_logins_do_not_lock_the_right_one_out(basic: Registry, options: Options) -> None:
    """Of the same namespace or of another: each is tried."""
    image = f"{basic.host}/team/app:1"
    wrong = tuple(
        secret(basic.host, password=f"old-{number}", namespace=namespace)
        for namespace in ("attacker", "shop")
        for number in range(20)
    )
    right = secret(basic.host, images=frozenset({f"{basic.host}/team/app"}))
    found = audit_images([image], options(basic.host, pull_secrets=(*wrong, right)))
    assert found[image].verdict == "multi-arch"


def test_a_secret_goes_nowhere_for_images_of_other_pods(
    basic: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """Another namespace names an image at the same host: it must not make archshift send the login there."""
    proxy = servers(basic.base)
    ours = secret(proxy.host, images=frozenset({f"{proxy.host}/team/app"}))
    image = f"{proxy.host}/attacker/app:1"
    found = audit_images([image], options(proxy.host, pull_secrets=(ours,)))[image]
    assert found.reason == f"{proxy.host} requires a login (401) and archshift has no login for it"
    assert not [seen for seen in proxy.requests if "Authorization" in seen.headers]


def test_a_secret_for_another_host_or_path_stays_home(
    basic: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """A credential goes to the host and path it was written for, and nowhere else."""
    proxy = servers(basic.base)
    image = f"{proxy.host}/team/app:1"
    files = (secret("127.0.0.1:1"), secret("example.com"), secret(f"{proxy.host}/another"))
    found = audit_images([image], options(proxy.host, pull_secrets=files))[image]
    assert found.verdict == "unknown"
    assert not [seen for seen in proxy.requests if "Authorization" in seen.headers]


def test_the_docker_config_and_its_helper(
    basic: Registry, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``docker login`` leaves behind works, written out or behind a helper program."""
    image = f"{basic.host}/team/app:1"
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"user:secret").decode()
    config.write_text(json.dumps({"auths": {basic.host: {"auth": auth}}}))
    assert audit_images([image], options(basic.host, docker_config=config))[image].verdict == "multi-arch"

    helper = tmp_path / "docker-credential-tests"
    helper.write_text(
        f"#!{sys.executable}\nimport json, sys\nhost = sys.stdin.read()\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(sys.argv[1] + ' ' + host + chr(10))\n"
        "print(json.dumps({'Username': 'user', 'Secret': 'secret'}))\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for content in ({"credsStore": "tests"}, {"credHelpers": {basic.host: "tests"}}):
        config.write_text(json.dumps(content))
        names = [image, f"{basic.host}/team/app:2"]
        found = audit_images(names, options(basic.host, docker_config=config))
        assert found[image].verdict == "multi-arch"
    # Once a run, however many images.
    assert (tmp_path / "asked").read_text().splitlines() == [f"get {basic.host}"] * 2


def test_a_failing_helper_is_named_in_the_reason(basic: Registry, options: Options, tmp_path: Path) -> None:
    """A helper that is not installed is why there is no login, so the reason says it."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credsStore": "not-installed-anywhere"}))
    image = f"{basic.host}/team/app:1"
    found = audit_images([image], options(basic.host, docker_config=config))[image]
    assert found.verdict == "unknown"
    assert found.reason.endswith(
        "; archshift cannot start the credential helper docker-credential-not-installed-anywhere: "
        "No such file or directory; install it, or remove it from the Docker config"
    )


def test_bearer_one_token_for_each_repository(
    bearer: Registry, tokens: TokenServer, options: Options
) -> None:
    """Tokens are asked for by repository, to pull only, once each."""
    names = [f"{bearer.host}/team/app:1", f"{bearer.host}/team/other:1"]
    found = audit_images(names, options(bearer.host, tokens.server.host, pull_secrets=(secret(bearer.host),)))
    assert {one.verdict for one in found.values()} == {"multi-arch"}
    asked = [seen.query for seen in tokens.server.requests]
    assert sorted(query["scope"] for query in asked) == [
        "repository:team/app:pull",
        "repository:team/other:pull",
    ]
    assert {query["service"] for query in asked} == {"tests"}


def test_bearer_for_anybody(bearer: Registry, tokens: TokenServer, options: Options) -> None:
    """Public images need a token too, without a login; a login that fails does not stand in the way."""
    tokens.anonymous = True
    image = f"{bearer.host}/team/app:1"
    plain = options(bearer.host, tokens.server.host)
    assert audit_images([image], plain)[image].verdict == "multi-arch"
    wrong = replace(plain, pull_secrets=(secret(bearer.host, password="old"),))
    assert audit_images([image], wrong)[image].verdict == "multi-arch"


def test_bearer_without_a_login_is_unknown(bearer: Registry, tokens: TokenServer, options: Options) -> None:
    """The token server's refusal is the reason."""
    image = f"{bearer.host}/team/app:1"
    found = audit_images([image], options(bearer.host, tokens.server.host))[image]
    assert found.verdict == "unknown"
    assert found.reason == (
        f"{bearer.host} requires a login (401) and archshift has no login for it; "
        f"the token server {tokens.server.host} answered 401"
    )


def test_identity_and_registry_tokens(
    bearer: Registry, tokens: TokenServer, authority: Authority, options: Options
) -> None:
    """A refresh token is traded by POST; a ready token is sent as it is."""
    image = f"{bearer.host}/team/app:1"
    plain = options(bearer.host, tokens.server.host)
    refresh = AuthFile({bearer.host: Credential(identity_token="refresh")}, images=None)
    found = audit_images([image], replace(plain, pull_secrets=(refresh,)))
    assert found[image].verdict == "multi-arch"
    posted = tokens.server.requests[0]
    assert (posted.method, "grant_type=refresh_token" in posted.body) == ("POST", True)
    tokens.server.requests.clear()
    access = [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
    token = authority.token("tests", access)
    ready = AuthFile({bearer.host: Credential(registry_token=token)}, images=None)
    found = audit_images([image], replace(plain, pull_secrets=(ready,)))
    assert found[image].verdict == "multi-arch"
    assert not tokens.server.requests


def test_a_token_that_grew_old_is_renewed(
    bearer: Registry,
    tokens: TokenServer,
    servers: Callable[[str], Server],
    options: Options,
) -> None:
    """A registry may refuse a token before its time: a new one is asked for once, not for ever."""
    proxy = servers(bearer.base)
    refused: list[str] = []

    async def once(request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers and not refused:
            refused.append(request.path)
            challenge = f'Bearer realm="{tokens.server.base}/token",service="tests"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await proxy.forward(request)

    proxy.on("GET .*manifests/sha256", once)
    tokens.anonymous = True
    image = f"{proxy.host}/team/app:1"
    found = audit_images([image], options(proxy.host, tokens.server.host))[image]
    assert (found.verdict, found.reason) == ("multi-arch", "")
    assert len(refused) == 1


@pytest.mark.parametrize("kind", ["manifests/1", "blobs/"])
def test_redirects_get_nothing_of_the_login(
    basic: Registry, servers: Callable[[str], Server], options: Options, kind: str
) -> None:
    """Blob stores and other hosts are asked without Authorization, and their 401 is not answered."""
    elsewhere = servers("")
    registry = servers(basic.base)

    async def redirect(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return await registry.forward(request)
        return web.Response(status=307, headers={"Location": f"{elsewhere.base}/store{request.path}"})

    registry.on(kind, redirect)
    Pusher(basic.base, LOGIN).image("team/single", "1", "linux/arm64")
    elsewhere.answer("/store", 401, WWW_Authenticate='Basic realm="mine"')
    image = f"{registry.host}/team/single:1"
    found = audit_images(
        [image], options(registry.host, elsewhere.host, pull_secrets=(secret(registry.host),))
    )[image]
    assert found.verdict == "unknown"
    assert found.reason == f"{registry.host}, redirected to {elsewhere.host}, answered 401"
    assert [seen.headers.get("Authorization") for seen in elsewhere.requests] == [None]


def test_a_login_does_not_go_to_a_realm_on_another_host(
    servers: Callable[[str], Server], options: Options
) -> None:
    """A registry that sends us elsewhere for a token gets us without a login, unless the user agrees."""
    registry, thief = servers(""), servers("")
    # Another name for this machine, so another host.
    realm = f"http://localhost:{thief.host.partition(':')[2]}/token"
    registry.answer("manifests", 401, WWW_Authenticate=f'Bearer realm="{realm}",service="x"')
    thief.answer("/token", 403)
    image = f"{registry.host}/team/app:1"
    thief_name = realm.split("/")[2]
    asked = options(registry.host, thief_name, pull_secrets=(secret(registry.host),))
    found = audit_images([image], asked)[image]
    assert found.verdict == "unknown"
    assert f"{registry.host} requests a login at another host, {thief_name}; add that host to" in found.reason
    assert [seen.headers.get("Authorization") for seen in thief.requests] == [None]

    thief.requests.clear()
    trusted = {registry.host: RegistryHost(plain_http=True, token_hosts=("localhost",))}
    audit_images([image], replace(asked, hosts={**asked.hosts, **trusted}))
    assert thief.requests[0].headers["Authorization"].startswith("Basic ")


def test_a_token_server_s_redirect_is_not_followed(
    servers: Callable[[str], Server], options: Options
) -> None:
    """The login would go along."""
    registry, tokens, thief = servers(""), servers(""), servers("")
    registry.answer("manifests", 401, WWW_Authenticate=f'Bearer realm="{tokens.base}/token"')
    tokens.answer("/token", 307, Location=f"{thief.base}/token")
    image = f"{registry.host}/team/app:1"
    hosts = (registry.host, tokens.host, thief.host)
    found = audit_images([image], options(*hosts, pull_secrets=(secret(registry.host),)))[image]
    assert (found.verdict, thief.requests) == ("unknown", [])
    assert f"the token server {tokens.host} answered 307" in found.reason


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b"[" * 99_999, b'{"token": "a b"}'],
)
def test_a_broken_token_is_unknown(servers: Callable[[str], Server], options: Options, body: bytes) -> None:
    """What becomes a header is looked at first."""
    registry = servers("")
    registry.answer("manifests", 401, WWW_Authenticate=f'Bearer realm="{registry.base}/token"')
    registry.answer("/token", 200, body)
    image = f"{registry.host}/a:1"
    found = audit_images([image], options(registry.host))[image]
    assert found.verdict == "unknown"
    assert found.reason.endswith(f"the token server {registry.host} did not return a token")


def test_a_ca_of_the_company(tmp_path: Path, authority: Authority, options: Options) -> None:
    """A registry with a certificate of its own CA is trusted where the user says so, and only there."""
    tls = {"http": {"tls": {"certificate": str(authority.certificate), "key": str(authority.key)}}}
    registry = Registry(tmp_path / "tls", tls, scheme="https")
    try:
        Pusher(registry.base, verify=False).multi("app", "1", "linux/arm64")
        image = f"{registry.host}/app:1"
        trusted = {registry.host: RegistryHost(ca_file=str(authority.ca_file))}
        assert audit_images([image], options(hosts=trusted))[image].verdict == "arm64-only"
        found = audit_images([image], options())[image]
        assert found.verdict == "unknown"
        assert found.reason.startswith(f"{registry.host}: its certificate is not trusted: ")
    finally:
        registry.stop()


def test_a_ca_file_that_is_not_there_stops_the_run(options: Options) -> None:
    """A mistake in the settings is said at once, not as a verdict on every image."""
    hosts = {"r.example": RegistryHost(ca_file="/nowhere/ca.pem")}
    with pytest.raises(ArchshiftError, match=r"archshift cannot read the CA file /nowhere/ca\.pem"):
        audit_images(["r.example/a"], options(hosts=hosts))
