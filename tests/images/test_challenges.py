"""Registries whose challenge is one repository's own: another realm, or another scope."""

import base64
import urllib.parse
from collections.abc import Callable

import pytest
from aiohttp import web

from archshift.images.audit import AuditOptions, audit_images
from tests.images.build import Pusher
from tests.images.login import secret
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]

REPOSITORIES = [f"own/{number}" for number in range(22)]


@pytest.fixture(autouse=True)
def _images(push: Pusher) -> None:
    for name in REPOSITORIES:
        push.multi(name, "1", "linux/amd64", "linux/arm64")


class Guarded:
    """A registry that gives out a token for a scope, and opens each repository only to its own."""

    def __init__(self, server: Server, challenge: Callable[[str], str]) -> None:
        self.server = server
        self.names: Callable[[str], str] = lambda repository: repository
        self.denied: set[str] = set()
        self.expire_once: set[str] = set()

        async def grant(request: web.Request) -> web.StreamResponse:
            # The first scope counts, as at nvcr.io.
            scope = request.query.getall("scope")[0]
            if scope in self.denied:
                return web.Response(status=401)
            return web.json_response({"token": base64.urlsafe_b64encode(scope.encode()).decode()})

        async def guard(request: web.Request) -> web.StreamResponse:
            repository = request.path.removeprefix("/v2/").rsplit("/", 2)[0]
            scope = f"repository:{self.names(repository)}:pull"
            wanted = "Bearer " + base64.urlsafe_b64encode(scope.encode()).decode()
            if request.headers.get("Authorization") != wanted or repository in self.expire_once:
                self.expire_once.discard(repository)
                return web.Response(status=401, headers={"WWW-Authenticate": challenge(repository)})
            return await server.forward(request)

        server.on("/v2/", guard)
        server.on("/token", grant)

    def audit(self, options: Options, *names: str) -> set[str]:
        images = [f"{self.server.host}/{name}:1" for name in names]
        found = audit_images(images, options(self.server.host))
        return {verdict.verdict for verdict in found.values()}


def test_a_realm_with_the_repository_in_it(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """Each repository asks at its own realm; none takes another's."""
    server = servers(registry.base)

    def challenge(repository: str) -> str:
        scope = urllib.parse.quote(f"repository:{repository}:pull", safe="")
        return f'Bearer realm="{server.base}/token?scope={scope}"'

    assert Guarded(server, challenge).audit(options, *REPOSITORIES) == {"multi-arch"}
    # A repository that waits for its own challenge costs one refusal and one token; only what was under way
    # before that was known asked for another token.
    refused = [
        seen for seen in server.requests if "/v2/" in seen.path and "Authorization" not in seen.headers
    ]
    assert len(refused) <= len(REPOSITORIES)
    assert len([seen for seen in server.requests if seen.path == "/token"]) <= len(REPOSITORIES) + 16


def test_a_scope_that_is_not_the_path(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """A registry behind a prefix calls its repositories by other names; only pulling is asked for."""
    server = servers(registry.base)
    guarded = Guarded(
        server,
        lambda name: f'Bearer realm="{server.base}/token",scope="repository:inner/{name}:pull,push"',
    )
    guarded.names = lambda name: f"inner/{name}"
    assert guarded.audit(options, *REPOSITORIES) == {"multi-arch"}
    scopes = {seen.query["scope"] for seen in server.requests if seen.path == "/token"}
    assert all(scope.endswith(":pull") for scope in scopes)


def test_a_token_server_that_serves_only_one_repository(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """If the first realm refuses another repository, the registry names the realm of that repository."""
    server = servers(registry.base)

    def challenge(repository: str) -> str:
        key = repository.rpartition("/")[2]
        return f'Bearer realm="{server.base}/token/{key}"'

    guarded = Guarded(server, challenge)

    async def of_key(request: web.Request) -> web.StreamResponse:
        scope = request.query["scope"]
        if scope.split(":")[1].rpartition("/")[2] != request.path.rpartition("/")[2]:
            return web.Response(status=401)
        return web.json_response({"token": base64.urlsafe_b64encode(scope.encode()).decode()})

    server.on("/token/", of_key)
    assert guarded.audit(options, *REPOSITORIES) == {"multi-arch"}


def test_the_challenge_that_worked_counts_after_an_early_end(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """Some registries name another token server when a token ends; the first one is still right."""
    server = servers(registry.base)
    asked: dict[str, int] = {}

    def challenge(repository: str) -> str:
        asked[repository] = asked.get(repository, 0) + 1
        realm = "token" if asked[repository] == 1 else "elsewhere"
        return f'Bearer realm="{server.base}/{realm}"'

    guarded = Guarded(server, challenge)

    async def once(request: web.Request) -> web.StreamResponse:
        if "ended" not in asked:
            asked["ended"] = 1
            return web.Response(
                status=401, headers={"WWW-Authenticate": f'Bearer realm="{server.base}/elsewhere"'}
            )
        return await server.forward(request)

    server.on("manifests/sha256", once)
    assert guarded.audit(options, REPOSITORIES[0]) == {"multi-arch"}
    assert asked["ended"] == 1
    assert not [seen for seen in server.requests if seen.path == "/elsewhere"]


def test_one_realm_for_all_is_learned_once(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """The usual registry: only the first repository is refused."""
    server = servers(registry.base)
    guarded = Guarded(
        server, lambda name: f'Bearer realm="{server.base}/token",scope="repository:{name}:pull"'
    )
    assert guarded.audit(options, *REPOSITORIES) == {"multi-arch"}
    bare = [seen for seen in server.requests if "/v2/" in seen.path and "Authorization" not in seen.headers]
    assert len(bare) == 1


def test_a_later_realm_on_another_host_gets_no_login(
    registry: Registry, servers: Callable[[str], Server], options: Options
) -> None:
    """A repository's own challenge is trusted no more than the first one."""
    server, thief = servers(registry.base), servers("")
    elsewhere = f"http://localhost:{thief.host.partition(':')[2]}/token"
    thief.answer("/token", 403)

    def challenge(repository: str) -> str:
        realm = f"{server.base}/token" if repository == REPOSITORIES[0] else elsewhere
        return f'Bearer realm="{realm}"'

    guarded = Guarded(server, challenge)
    guarded.denied = {f"repository:{name}:pull" for name in REPOSITORIES[1:]}
    images = [f"{server.host}/{name}:1" for name in REPOSITORIES[:2]]
    wanted = options(server.host, thief.host, elsewhere.split("/")[2], pull_secrets=(secret(server.host),))
    found = audit_images(images, wanted)
    assert [verdict.verdict for verdict in found.values()] == ["multi-arch", "unknown"]
    assert "requests a login at another host" in found[images[1]].reason
    assert thief.requests
    assert not [seen for seen in thief.requests if "Authorization" in seen.headers]
