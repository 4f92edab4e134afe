"""How registries ask for a login, and who may see a credential. Pure..

https://distribution.github.io/distribution/spec/auth/token/ and RFC 9110 section 11.

Who may see a credential. The registry chooses the token endpoint (``realm``) in its challenge, so the
choice is only as good as the registry. A credential goes to a realm only if it is https (or plain http
where the user allowed that for the realm's host) and its host is

- the registry's own, at any port; or
- a parent domain of it (registry.gitlab.com -> gitlab.com): whoever owns the parent's DNS owns the child; or
- Docker Hub's auth.docker.io for registry-1.docker.io; or
- named by the user for that registry (``token_hosts``).

Any other realm is asked for an anonymous token only. Challenges are read from the registry itself, never
from where it redirected to (CVE-2020-15157 was that), and token endpoints are not followed elsewhere.
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
_LONGEST_HEADER: Final = 8192

_SIBLINGS: Final = {"registry-1.docker.io": ("auth.docker.io",)}


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a registry wants a login.

    Attributes:
        scheme: ``basic`` or ``bearer``.
        realm: Bearer's token endpoint, a URL.
        service: What to tell it; may be empty.
        scope: What the registry says is needed; may be empty.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(headers: Collection[str]) -> Challenge | None:
    """Read WWW-Authenticate headers.

    Returns:
        Bearer with a realm if offered, else Basic, else None.
    """
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
    """Return the scope to ask a token for: to pull from one repository, and nothing more.

    The registry's own word counts only where it speaks of no repository (public.ecr.aws says ``aws``):
    what it says for one repository would be asked for all.
    """
    return offered if re.fullmatch(r"[A-Za-z0-9._-]+", offered) else f"repository:{repository}:pull"


def realm_problem(realm: str, plain_http: Collection[str]) -> str:
    """Return why a realm may not be asked at all; empty if it may.

    Args:
        realm: The token endpoint's URL.
        plain_http: ``host``, or ``host:port`` where it is not 80, that the user allowed plain http for.
    """
    try:
        url = URL(realm)
        host = authority(url)
    except ValueError:
        return f"its token endpoint {realm[:200]!r} is not a URL"
    if not url.host or url.user or url.password or url.scheme not in ("http", "https"):
        return f"its token endpoint {realm[:200]!r} is not an http(s) URL of a host"
    if url.scheme == "http" and host not in plain_http:
        return f"its token endpoint {realm[:200]!r} is plain http, which is not allowed for {host}"
    return ""


def may_see_credentials(host: str, realm: str, token_hosts: Collection[str]) -> bool:
    """Return whether a registry's credential may go to a token endpoint; see the module's rules.

    Args:
        host: The registry's ``host[:port]`` as it is connected to.
        realm: The token endpoint's URL, without a ``realm_problem``.
        token_hosts: Hosts, with or without port, that the user named for this registry.
    """
    # The same parser as the one that sends the request: two could see two hosts in one text.
    url = URL(realm)
    target = (url.host or "").lower().rstrip(".")
    own = (URL(f"https://{host}").host or "").lower().rstrip(".")
    # A parent domain has a dot itself: "com" is nobody's token server. Numbers have no parents.
    parent = "." in target and own.endswith(f".{target}") and not target.replace(".", "").isdigit()
    named = {target, f"{target}:{url.port}"} & set(token_hosts)
    return target == own or parent or target in _SIBLINGS.get(own, ()) or bool(named)


def authority(url: URL) -> str:
    """Return a URL's ``host[:port]`` as in image names: the port only where it is not the scheme's."""
    host = f"[{url.host}]" if url.host and ":" in url.host else (url.host or "")
    return host if url.is_default_port() or url.port is None else f"{host}:{url.port}"
