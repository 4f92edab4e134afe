"""Credentials for registries: Docker's config file and its helpers, pull secrets, ECR.

Only ``Keychain`` and ``helper_source`` run programs or send requests; the rest is pure, except for the
readers of files.
"""

import asyncio
import base64
import binascii
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.images.registry.reference import DOCKER_HUB

MOST_LOGINS: Final = 64
"""The most logins that are tried for one image."""

HELPER_SECONDS: Final = 30.0
"""How long a credential helper may take. Helpers may open a browser."""

# Clients have written Docker Hub under all these keys.
_HUB_KEYS: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_SERVER: Final = "https://index.docker.io/v1/"
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_IDENTITY_MARK: Final = "<token>"
_RECREATE: Final = "create it again with kubectl create secret docker-registry"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential. Its repr shows no secret.

    Attributes:
        username: For Basic, and for the token endpoint of Bearer.
        password: For the same.
        identity_token: An OAuth2 refresh token, used instead of user and password.
        registry_token: A Bearer token that is sent unchanged.
        source: The origin of the credential, for messages.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class AuthFile:
    """The content of a Docker config file or a pull secret.

    Attributes:
        auths: Key as written (a host, with or without scheme, path and ``*``) to its credential.
        helpers: Host to the name of its helper program, without ``docker-credential-``.
        store: The helper for all other hosts; empty if there is none.
        namespace: The namespace of a pull secret; empty for a file of this machine.
        images: The ``registry/repository`` of the images for which it may be used; None for all.
    """

    auths: Mapping[str, Credential] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    namespace: str = ""
    images: frozenset[str] | None = frozenset()

    def matching(self, registry: str, repository: str) -> tuple[Credential, ...]:
        """Return the credentials for a repository, the most specific key first.

        Keys match in the same way as in the kubelet: ``*`` matches a part of one host label, and a path is a
        prefix (https://kubernetes.io/docs/concepts/containers/images/#config-json).
        """
        matches = [
            (key, credential)
            for key, credential in self.auths.items()
            if _matches(_stripped(key), registry, repository)
        ]
        return tuple(credential for _, credential in sorted(matches, key=lambda pair: -len(pair[0])))

    def helper(self, registry: str) -> str:
        """Return the helper program for a registry; empty if there is none."""
        for key, name in self.helpers.items():
            if _host_of(_stripped(key)) == registry or _stripped(key) == registry:
                return name
        return self.store


def docker_config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of Docker's config: ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``."""
    folder = environment.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def read_docker_config(path: Path) -> AuthFile:
    """Read a Docker config file. A missing file counts as empty.

    Raises:
        ArchshiftError: The file exists, but cannot be read or is invalid.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return AuthFile(images=None)
    except (OSError, UnicodeDecodeError) as error:
        raise ArchshiftError(
            f"archshift cannot read the Docker config {path}: "
            f"{getattr(error, 'strerror', None) or 'it is not text'}",
            "correct its permissions or content",
        ) from None
    try:
        return replace(parse_auth_file(json.loads(text), str(path)), images=None)
    except (ValueError, RecursionError) as error:
        raise ArchshiftError(f"the Docker config {path} is invalid: {error}", "correct the file") from None


def read_pull_secret(secret: Mapping[str, Any]) -> AuthFile:
    """Read a pull secret as the Kubernetes API returns it.

    Args:
        secret: A Secret of type kubernetes.io/dockerconfigjson, or of the older kubernetes.io/dockercfg.

    Returns:
        Its logins, for no image yet: only the pods that name it know for which.

    Raises:
        ArchshiftError: It has another type, or its content is invalid. Messages never quote secrets.
    """
    meta = secret.get("metadata") or {}
    name = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            content = json.loads(base64.b64decode(data[".dockerconfigjson"]))
            # Read only the logins. Helpers are programs on this machine, and the cluster must not choose
            # which programs start here. The kubelet ignores them too.
            return parse_auth_file({"auths": content.get("auths")}, f"Secret {name}")
        if ".dockercfg" in data:
            auths = json.loads(base64.b64decode(data[".dockercfg"]))
            return parse_auth_file({"auths": auths}, f"Secret {name}")
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ArchshiftError(
            f"the pull secret {name} is invalid: its content is not a Docker config", _RECREATE
        ) from None
    raise ArchshiftError(
        f"the Secret {name} is not a pull secret: it has neither .dockerconfigjson nor .dockercfg",
        _RECREATE,
    )


def parse_auth_file(data: Any, source: str) -> AuthFile:
    """Read the decoded JSON of a Docker config.

    Args:
        data: An object with ``auths``, ``credHelpers`` and ``credsStore``, all optional.
        source: The origin of the credentials, for messages.

    Raises:
        ValueError: The JSON is not a Docker config.
    """
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    auths, helpers, store = (
        data.get("auths") or {},
        data.get("credHelpers") or {},
        data.get("credsStore") or "",
    )
    if not isinstance(auths, dict) or not isinstance(helpers, dict) or not isinstance(store, str):
        raise ValueError("auths, credHelpers or credsStore has the wrong type")
    read = {}
    for key, entry in auths.items():
        if not isinstance(entry, dict):
            raise ValueError(f"auths[{key!r}] is not an object")
        credential = _credential(key, entry, source)
        # If a helper has the secret, Docker keeps an empty entry.
        if credential is not None:
            read[key] = credential
    for name in (*helpers.values(), *([store] if store else [])):
        if not isinstance(name, str) or not _HELPER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid name of a credential helper")
    return AuthFile(read, helpers, store)


def _credential(key: str, entry: Mapping[str, Any], source: str) -> Credential | None:
    values = {
        name: entry.get(name) or ""
        for name in ("username", "password", "identitytoken", "registrytoken", "auth")
    }
    if not all(isinstance(value, str) for value in values.values()):
        raise ValueError(f"auths[{key!r}] contains a value that is not a string")
    username, password = values["username"], values["password"]
    if values["auth"]:
        try:
            pair = base64.b64decode(values["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError(f"auths[{key!r}].auth is not base64") from None
        username, _, password = pair.partition(":")
        password = password.rstrip("\0")
    if not (username or values["identitytoken"] or values["registrytoken"]):
        return None
    return Credential(username, password, values["identitytoken"], values["registrytoken"], source)


def _stripped(key: str) -> str:
    rest = key.partition("://")[2] or key
    for suffix in ("/v1", "/v2"):
        rest = rest.rstrip("/").removesuffix(suffix)
    return rest


def _host_of(stripped: str) -> str:
    host = stripped.partition("/")[0]
    return DOCKER_HUB if host in _HUB_KEYS else host


def _matches(key: str, registry: str, repository: str) -> bool:
    host, prefix = _host_of(key), key.partition("/")[2]
    wanted, _, wanted_port = registry.partition(":") if not registry.startswith("[") else (registry, "", "")
    name, _, port = host.partition(":") if not host.startswith("[") else (host, "", "")
    labels, wanted_labels = name.split("."), wanted.split(".")
    if port != wanted_port or len(labels) != len(wanted_labels):
        return False
    # Escape brackets, because an IPv6 host has them and fnmatch would read a set of characters.
    if not all(
        fnmatchcase(label, glob.replace("[", "[[]"))
        for label, glob in zip(wanted_labels, labels, strict=True)
    ):
        return False
    return not prefix or repository == prefix or repository.startswith(prefix.rstrip("/") + "/")


Source = Callable[[str], Awaitable[Credential | None]]
"""Returns the credential for a registry host, or None. Raises ArchshiftError with the cause."""


class Keychain:
    """All credentials of one run. It asks helpers and AWS at most once for each host.

    Args:
        files: Pull secrets and Docker configs, in order of preference.
        sources: Further sources, such as that of :func:`archshift.images.registry.ecr.source`.
    """

    def __init__(self, files: Sequence[AuthFile] = (), sources: Sequence[Source] = ()) -> None:
        self._files = tuple(files)
        self._sources = tuple(sources)
        self._asked: dict[str, asyncio.Task[tuple[tuple[Credential, ...], tuple[str, ...]]]] = {}

    async def lookup(
        self, registry: str, repository: str, image: str
    ) -> tuple[tuple[Credential, ...], tuple[str, ...]]:
        """Return the credentials for a repository, and the errors of helpers and sources.

        Args:
            registry: The host that gets them.
            repository: The repository there.
            image: The ``registry/repository`` in the pods; at a mirror it differs from the two.
        """
        by_namespace: dict[str, list[Credential]] = {}
        for file in self._files:
            if file.images is None or image in file.images:
                by_namespace.setdefault(file.namespace, []).extend(file.matching(registry, repository))
        task = self._asked.get(registry)
        if task is None:
            task = self._asked[registry] = asyncio.create_task(self._ask(registry))
        from_sources, problems = await asyncio.shield(task)
        # One of each namespace and of the sources in turn, so that many logins of one push out no other.
        in_turn = zip_longest(*by_namespace.values(), from_sources)
        # Many namespaces have copies of one secret, so try each distinct login once.
        distinct: dict[tuple[str, str, str, str], Credential] = {}
        for credential in (credential for turn in in_turn for credential in turn if credential is not None):
            login = (
                credential.username,
                credential.password,
                credential.identity_token,
                credential.registry_token,
            )
            distinct.setdefault(login, credential)
        return tuple(distinct.values())[:MOST_LOGINS], problems

    async def _ask(self, registry: str) -> tuple[tuple[Credential, ...], tuple[str, ...]]:
        names = dict.fromkeys(file.helper(registry) for file in self._files)
        helpers = [helper_source(name) for name in names if name]
        credentials, problems = [], []
        for source in (*helpers, *self._sources):
            try:
                credential = await source(registry)
            except ArchshiftError as error:
                problems.append(str(error))
            else:
                credentials += [credential] if credential else []
        return tuple(credentials), tuple(problems)


def helper_source(name: str) -> Source:
    """Return a source that runs ``docker-credential-<name>``.

    Protocol: https://github.com/docker/docker-credential-helpers
    """

    async def ask(registry: str) -> Credential | None:
        program = f"docker-credential-{name}"
        server = _HUB_SERVER if registry == DOCKER_HUB else registry
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                "get",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise ArchshiftError(
                f"archshift cannot start the credential helper {program}: {error.strerror}",
                "install it, or remove it from the Docker config",
            ) from None
        try:
            output, _ = await asyncio.wait_for(process.communicate(server.encode()), HELPER_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ArchshiftError(
                f"the credential helper {program} did not answer within {HELPER_SECONDS:.0f} s"
            ) from None
        if process.returncode:
            # The protocol has only this text for a missing credential. All other failures are errors.
            if b"credentials not found" in output:
                return None
            raise ArchshiftError(
                f"the credential helper {program} failed with exit code {process.returncode}"
            )
        return _helper_answer(program, output)

    return ask


def _helper_answer(program: str, output: bytes) -> Credential | None:
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
        if not (isinstance(username, str) and isinstance(secret, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArchshiftError(f"the credential helper {program} returned an invalid answer") from None
    if username == _IDENTITY_MARK:
        return Credential(identity_token=secret, source=program)
    return Credential(username, secret, source=program) if secret else None
