"""How registries request a login, and which hosts may see a credential. Pure.

https://distribution.github.io/distribution/spec/auth/token/ and RFC 9110 section 11.

The registry chooses the token endpoint (``realm``) in its challenge, so archshift must not trust it blindly.
A credential goes to a realm only if the realm uses https (or plain http, if the user allowed that for the
realm's host) and its host is

- the registry's own host, at any port; or
- a parent domain of it (registry.gitlab.com -> gitlab.com), because its owner also controls the child; or
- auth.docker.io for registry-1.docker.io; or
- a host that the user named for this registry (``token_hosts``).

Any other realm gets only requests for anonymous tokens. archshift reads challenges only from the registry
itself, never from the target of a redirect (CVE-2020-15157), and does not follow redirects of token
endpoints.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from yarl import URL

_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)")
_PARAMETER: Final = re.compile(
    r"\s*,?\s*([A-Za-z_][A-Za-z0-9_-]*)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))"
)
_REPOSITORY_SCOPE: Final = re.compile(r"(repository(?:\([^()\s]+\))?:\S+):[^:\s]+")
_LONGEST_HEADER: Final = 8192

_SIBLINGS: Final = {"registry-1.docker.io": ("auth.docker.io",)}


@dataclass(frozen=True, slots=True)
class Challenge:
    """The login that a registry requests.

    Attributes:
        scheme: ``basic`` or ``bearer``.
        realm: The URL of the token endpoint, for ``bearer``.
        service: The name of the registry at the token endpoint; may be empty.
        scope: The scope that the registry requests; may be empty.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(headers: Collection[str]) -> Challenge | None:
    """Read WWW-Authenticate headers: Bearer with a realm if offered, else Basic, else None."""
    offered: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        text = header[:_LONGEST_HEADER]
        at = 0
        while at < len(text):
            parameter = _PARAMETER.match(text, at) if offered else None
            if parameter:
                quoted, plain = parameter[2], parameter[3]
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                offered[-1][1].setdefault(parameter[1].lower(), value)
                at = parameter.end()
                continue
            scheme = _SCHEME.match(text, at)
            if not scheme:
                break
            offered.append((scheme[1].lower(), {}))
            at = scheme.end()
    for name, values in offered:
        if name == "bearer" and values.get("realm"):
            return Challenge("bearer", values["realm"], values.get("service", ""), values.get("scope", ""))
    return Challenge("basic") if any(name == "basic" for name, _ in offered) else None


def pull_scope(repository: str, offered: str) -> str:
    """Return the scope of a token: the permission to pull from one repository, and nothing more.

    A scope that the registry offers counts only if it names no repository (public.ecr.aws offers ``aws``),
    because it may be the scope of another repository.
    """
    return offered if re.fullmatch(r"[A-Za-z0-9._-]+", offered) else f"repository:{repository}:pull"


def own_scope(repository: str, offered: str) -> str:
    """Return the scope of a token, if the registry offered it for this repository itself.

    The registry may know the repository by another name than the path, for instance behind a prefix.
    """
    named = _REPOSITORY_SCOPE.fullmatch(offered)
    return f"{named[1]}:pull" if named else pull_scope(repository, offered)


def realm_problem(realm: str, plain_http: Collection[str]) -> str:
    """Return why archshift must not send requests to a realm; empty if it may.

    Args:
        realm: The token endpoint's URL.
        plain_http: The hosts for which the user allowed plain http, as ``host``, or ``host:port`` for another
            port than 80.
    """
    try:
        url = URL(realm)
        host = authority(url)
    except ValueError:
        return f"its token endpoint {realm[:200]!r} is not a URL"
    if not url.host or url.user or url.password or url.scheme not in ("http", "https"):
        return f"its token endpoint {realm[:200]!r} is not an http or https URL with a host"
    if url.scheme == "http" and host not in plain_http:
        return f"its token endpoint {realm[:200]!r} uses plain http, which is not allowed for {host}"
    return ""


def may_see_credentials(host: str, realm: str, token_hosts: Collection[str]) -> bool:
    """Return whether a registry's credential may go to a token endpoint; see the module's rules.

    Args:
        host: The registry's ``host[:port]`` as used for connections.
        realm: The token endpoint's URL, for which ``realm_problem`` is empty.
        token_hosts: Hosts, with or without port, that the user named for this registry.
    """
    # Use the parser that also sends the request. Two parsers could read two hosts from one text.
    url = URL(realm)
    target = (url.host or "").lower().rstrip(".")
    own = (URL(f"https://{host}").host or "").lower().rstrip(".")
    # A parent domain must contain a dot, so "com" does not count. IP addresses have no parent domain.
    parent = "." in target and own.endswith(f".{target}") and not target.replace(".", "").isdigit()
    named = {target, f"{target}:{url.port}"} & set(token_hosts)
    return target == own or parent or target in _SIBLINGS.get(own, ()) or bool(named)


def authority(url: URL) -> str:
    """Return a URL's ``host[:port]`` as in image names, without the default port of the scheme."""
    host = f"[{url.host}]" if url.host and ":" in url.host else (url.host or "")
    return host if url.is_default_port() or url.port is None else f"{host}:{url.port}"
