"""Logs in to registries: keeps the credential and the token of each repository."""

import asyncio
import base64
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, Final

from yarl import URL

from archshift.common.failures import why_no_connection
from archshift.images.registry import auth
from archshift.images.registry.auth import authority
from archshift.images.registry.credentials import Credential, Keychain
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.transport import (
    TRANSIENT,
    USER_AGENT,
    Host,
    TransientError,
    Transport,
    proxy_for,
    raise_for,
    read_body,
    tls_for,
)

_TOKEN_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Login:
    """The state of the login for one repository.

    Attributes:
        candidates: Credentials to try. The last is always None, which is the anonymous login.
        current: The index of the candidate in use.
        challenge: How its tokens are requested; None before the first login.
        own: Whether the registry sent the challenge for this repository. Until then it is another one's.
        by_itself: Whether it must wait for its own challenge.
        header: The Authorization header; None to send none.
        expires: When the header must be renewed, in monotonic seconds.
        worked: Whether the registry has accepted the header since it was last renewed.
        serial: Counts changes. If many requests report one refusal, only the first changes the login.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    candidates: list[Credential | None] | None = None
    problems: tuple[str, ...] = ()
    current: int = 0
    challenge: auth.Challenge | None = None
    own: bool = False
    by_itself: bool = False
    header: str | None = None
    expires: float = 0.0
    worked: bool = False
    serial: int = 0


@dataclass(slots=True)
class _State:
    """The state of one registry.

    Attributes:
        challenge: The first challenge, with which other repositories log in before they are refused.
        varies: Whether challenges differ between repositories. Then each repository waits for its own.
        accepted: The last credential that the registry accepted. Images that may use it begin with it.
        logins: By the repository, and by the image in the pods, because each image has its own credentials.
    """

    challenge: auth.Challenge | None = None
    varies: bool = False
    accepted: Credential | None = None
    logins: dict[tuple[str, str], _Login] = field(default_factory=lambda: defaultdict(_Login))

    def learn(self, challenge: auth.Challenge, own: auth.Challenge, repository: str) -> None:
        """Note a repository's first challenge."""
        if self.challenge is None and not self.varies:
            self.challenge = challenge
        elif self.challenge is not None:
            general = replace(self.challenge, scope=auth.pull_scope(repository, self.challenge.scope))
            if general != own:
                self.challenge, self.varies = None, True


class Logins:
    """The logins of one run. A registry gets a credential only after it has requested a login."""

    def __init__(self, transport: Transport, keychain: Keychain) -> None:
        self._transport = transport
        self._keychain = keychain
        self._states: dict[str, _State] = defaultdict(_State)

    async def header(self, host: Host, repository: str, image: str) -> tuple[str | None, int]:
        """Return the Authorization header, and the serial to pass to ``refused``.

        Args:
            host: The registry or mirror.
            repository: The repository there.
            image: The ``registry/repository`` in the pods.
        """
        state = self._states[host.name]
        login = state.logins[repository, image]
        if login.challenge or (state.challenge and not login.by_itself):
            await self._renew(host, repository, image, state, login)
        return login.header, login.serial

    async def _renew(self, host: Host, repository: str, image: str, state: _State, login: _Login) -> None:
        if login.candidates is not None and time.monotonic() < login.expires:
            return
        async with login.lock:
            if login.candidates is not None and time.monotonic() < login.expires:
                return
            if login.challenge is None:
                if state.challenge is None or login.by_itself:
                    return
                scope = auth.pull_scope(repository, state.challenge.scope)
                login.challenge = replace(state.challenge, scope=scope)
            if login.candidates is None:
                await self._find_candidates(host, repository, image, state, login)
            try:
                await self._log_in(host, login)
            except UnreadableError:
                if login.own:
                    raise
                # Another repository's token server may not know this one: let the registry name its own.
                login.challenge = login.candidates = login.header = None
                login.by_itself, login.current = True, 0

    async def _find_candidates(
        self, host: Host, repository: str, image: str, state: _State, login: _Login
    ) -> None:
        credentials, login.problems = await self._keychain.lookup(host.name, repository, image)
        login.candidates = [
            *sorted(credentials, key=lambda credential: credential != state.accepted),
            None,
        ]

    def worked(self, host: Host, repository: str, image: str) -> None:
        """Note that the registry accepted the header."""
        state = self._states[host.name]
        login = state.logins[repository, image]
        login.worked = True
        if login.candidates is not None and (credential := login.candidates[login.current]) is not None:
            state.accepted = credential

    async def refused(
        self, host: Host, repository: str, image: str, serial: int, status: int, headers: list[str]
    ) -> None:
        """Prepare another try with another login.

        Args:
            host: The registry, which itself sent the refusal.
            repository: The repository there.
            image: The ``registry/repository`` in the pods.
            serial: The serial from :meth:`header`.
            status: 401 or 403.
            headers: The WWW-Authenticate headers.

        Raises:
            UnreadableError: There is no other login.
        """
        state = self._states[host.name]
        login = state.logins[repository, image]
        async with login.lock:
            if login.serial != serial:
                return
            login.serial += 1
            challenge = auth.parse_challenge(headers)
            own = challenge and replace(challenge, scope=auth.own_scope(repository, challenge.scope))
            if login.candidates is None:
                if status == 403 or challenge is None or own is None:
                    raise UnreadableError(_refusal(host, login, status))
                login.challenge, login.own = own, True
                state.learn(challenge, own, repository)
                await self._find_candidates(host, repository, image, state, login)
            elif status == 401 and login.worked:
                # The header was valid a moment ago, so the registry has ended its token early. The challenge
                # that worked counts, because some registries name another token server then.
                login.worked = False
            elif own is not None and not login.own and own != login.challenge:
                login.challenge, login.own, login.current = own, True, 0
                state.challenge, state.varies = None, True
            elif login.current + 1 < len(login.candidates):
                login.current += 1
            else:
                raise UnreadableError(_refusal(host, login, status))
            await self._log_in(host, login)

    async def _log_in(self, host: Host, login: _Login) -> None:
        """Set the header for the current credential, or for the next one that the token server accepts."""
        assert login.candidates is not None  # noqa: S101
        while True:
            credential = login.candidates[login.current]
            try:
                login.header, seconds = await self._authorization(host, login, credential)
                login.expires = time.monotonic() + seconds
                return
            except UnreadableError as error:
                login.problems = (*login.problems, str(error))
                if login.current + 1 >= len(login.candidates):
                    raise UnreadableError(_refusal(host, login, 401)) from None
                login.current += 1

    async def _authorization(
        self, host: Host, login: _Login, credential: Credential | None
    ) -> tuple[str | None, float]:
        """Return the header for a credential, and for how many seconds it is valid."""
        challenge = login.challenge
        assert challenge is not None  # noqa: S101
        forever = float("inf")
        if credential is not None and credential.registry_token:
            return f"Bearer {credential.registry_token}", forever
        if challenge.scheme == "basic":
            if credential is None or credential.identity_token:
                return None, forever
            return _basic(credential), forever
        problem = auth.realm_problem(challenge.realm, self._transport.plain_http)
        if problem:
            raise UnreadableError(f"{host.name}: {problem}")
        address = URL(host.base).authority
        if credential is not None and not auth.may_see_credentials(
            address, challenge.realm, host.options.token_hosts
        ):
            raise UnreadableError(
                f"{host.name} requests a login at another host, {authority(URL(challenge.realm))}; "
                "add that host to the registry's token_hosts if it may see the login"
            )
        token, seconds = await self._token(host, challenge, credential)
        return f"Bearer {token}", seconds

    async def _token(
        self, host: Host, challenge: auth.Challenge, credential: Credential | None
    ) -> tuple[str, float]:
        """Request a token. Redirects are not followed, because they would get the login."""
        fields = {"scope": challenge.scope}
        if challenge.service:
            fields["service"] = challenge.service
        realm = URL(challenge.realm)
        own = realm.host == URL(host.base).host
        options = host.options if own else self._transport.options(authority(realm))
        extra: dict[str, Any] = {
            "allow_redirects": False,
            "ssl": tls_for(options.ca_file),
            "proxy": proxy_for(realm.scheme, realm.authority),
        }
        import aiohttp

        headers = {}
        if credential is not None and not credential.identity_token:
            headers["Authorization"] = _basic(credential)
        try:
            if credential is not None and credential.identity_token:
                fields |= {
                    "grant_type": "refresh_token",
                    "refresh_token": credential.identity_token,
                    "client_id": USER_AGENT,
                }
                request = self._transport.session.post(realm, data=fields, headers=headers, **extra)
            else:
                request = self._transport.session.get(realm.extend_query(fields), headers=headers, **extra)
            async with request as response:
                if response.status in TRANSIENT:
                    raise_for(authority(realm), response, redirected=False)
                if response.status != 200:
                    raise UnreadableError(f"the token server {authority(realm)} answered {response.status}")
                body = await read_body(response, _TOKEN_BYTES, "token")
        except TimeoutError:
            raise TransientError(
                f"its token server {authority(realm)} did not answer in time", silence=2
            ) from None
        except aiohttp.ClientConnectorError as error:
            why = why_no_connection(error.os_error)
            raise TransientError(f"its token server {authority(realm)}: {why}", silence=1) from None
        except (aiohttp.ClientError, OSError):
            raise TransientError(f"the answer of its token server {authority(realm)} broke off") from None
        return read_token(body, authority(realm))


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def read_token(body: bytes, server: str) -> tuple[str, float]:
    """Read the answer of a token server: the token, and for how many seconds to use it.

    Raises:
        UnreadableError: It has no token.
    """
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
        seconds = answer.get("expires_in") or 60
        # Accept only printable ASCII, because the token becomes a header.
        if not (
            isinstance(token, str) and token and token.isascii() and token.isprintable() and " " not in token
        ):
            raise TypeError
        # The protocol's default is one minute. Renew the token early, and bound times that are too short or
        # long.
        return token, max(5.0, min(float(seconds), 3600.0) * 0.8)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UnreadableError(f"the token server {server} did not return a token") from None


def _refusal(host: Host, login: _Login, status: int) -> str:
    answer = "requires a login (401)" if status == 401 else "denies access (403)"
    tried = [credential.source for credential in login.candidates or () if credential is not None]
    logins = (
        f"refused the logins from {', '.join(dict.fromkeys(tried))}"
        if tried
        else "archshift has no login for it"
    )
    return "; ".join((f"{host.name} {answer} and {logins}", *dict.fromkeys(login.problems)))
