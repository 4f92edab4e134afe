"""A binary that is another one on each architecture: fetched by an init container, for the node it runs on.

The pieces of a pod that do it, as plain Kubernetes objects. Pure.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.images.registry.reference import parse_reference

SCRIPT: Final = resources.files("archshift.images").joinpath("fetched_binary.sh").read_text(encoding="utf-8")
"""What the init container runs; its settings are environment variables, so nothing is pasted into it."""

_COMMAND: Final = ("/bin/sh", "-c", SCRIPT)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,55}[a-z0-9])?")
_FOLDER: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# No user or password, which would stand in the cluster for all to read; no fragment, which is never
# sent; no "$", which Kubernetes would expand.
_URL: Final = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?(/[\w.~:/?!&'()*+,;=%@-]*)", re.A
)
# "nonroot" in distroless images; no user of a node.
_USER: Final = 65532

CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsGroup": _USER,
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the Pod Security Standard ``restricted`` asks of a container, and a read-only root file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the binary for one architecture is.

    Attributes:
        url: https; a redirect is followed, to https alone.
        sha256: What its content hashes to, 64 hexadecimal digits.
    """

    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBinary:
    """A binary, and how it is fetched.

    Attributes:
        name: Its file name, and the name of the volume and (with ``fetch-``) of the init container.
        sources: One for ``amd64`` and one for ``arm64``.
        fetch_image: Has a POSIX shell, ``curl`` or ``wget``, and what busybox has; for both architectures.
            Name it by digest. busybox's own wget does not check certificates: there the checksum alone
            says whose file it is.
        folder: Where the pod's containers find it.
        largest_mib: A larger file is refused.
        longest_seconds: A download that takes longer is given up.
        allow_http: Plain http is allowed too. For tests and for servers on the node itself.

    Raises:
        ArchshiftError: Something of it does not do; the sentence says what.
    """

    name: str
    sources: Mapping[Architecture, Source]
    fetch_image: str
    folder: str = "/opt/fetched"
    largest_mib: int = 512
    longest_seconds: int = 600
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ArchshiftError(
                f"name: {self.name!r} is not a file name of lower-case letters, digits, '.', '_' and '-', "
                "at most 57 of them"
            )
        missing = [one for one in ARCHITECTURES if one not in self.sources]
        unknown = [one for one in self.sources if one not in ARCHITECTURES]
        if missing or unknown:
            what = f"has nothing for {missing[0]}" if missing else f"{unknown[0]!r} is no architecture"
            raise ArchshiftError(
                f"{self.name}: sources: {what}",
                f"a DaemonSet that runs on both needs a url and its sha256 for {AMD64} and for {ARM64}",
            )
        for architecture in ARCHITECTURES:
            self._check(f"{self.name}: sources.{architecture}", self.sources[architecture])
        try:
            parse_reference(self.fetch_image)
        except ArchshiftError as error:
            raise ArchshiftError(f"{self.name}: fetch_image: {error}") from None
        if not _FOLDER.fullmatch(self.folder) or {".", ".."} & set(self.folder.split("/")):
            raise ArchshiftError(
                f"{self.name}: folder: {self.folder!r} is not an absolute path of plain names"
            )
        for key, value in (("largest_mib", self.largest_mib), ("longest_seconds", self.longest_seconds)):
            if value < 1:
                raise ArchshiftError(f"{self.name}: {key}: {value!r} is not a whole number of 1 or more")

    def _check(self, key: str, source: Source) -> None:
        found = _URL.fullmatch(source.url)
        if not found:
            raise ArchshiftError(
                f"{key}.url: {_without_login(source.url)!r} is not an https address with a path, without a "
                "user and without '#', '$' and spaces"
            )
        if found[1] == "http" and not self.allow_http:
            raise ArchshiftError(
                f"{key}.url: {source.url!r} is plain http",
                "use https (allow_http is for servers on the node itself)",
            )
        if not _SHA256.fullmatch(source.sha256):
            raise ArchshiftError(
                f"{key}.sha256: {source.sha256!r} is not 64 hexadecimal digits in lower case",
                "sha256sum prints them",
            )

    @property
    def path(self) -> str:
        """Where it is in the pod's containers."""
        return f"{self.folder}/{self.name}"

    @property
    def _volume_name(self) -> str:
        return re.sub(r"[._]+", "-", self.name)

    def init_container(self) -> dict[str, Any]:
        """Return the container that fetches it; put it among a pod's ``initContainers``."""
        environment = {
            "NAME": self.name,
            "FOLDER": self.folder,
            "LARGEST_MIB": str(self.largest_mib),
            "SECONDS_AT_MOST": str(self.longest_seconds),
            "ALLOW_HTTP": "yes" if self.allow_http else "no",
        }
        for architecture in ARCHITECTURES:
            source = self.sources[architecture]
            environment[f"URL_{architecture.upper()}"] = source.url
            environment[f"SHA256_{architecture.upper()}"] = source.sha256
        return {
            "name": f"fetch-{self._volume_name}",
            "image": self.fetch_image,
            "command": list(_COMMAND),
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "volumeMounts": [{"name": self._volume_name, "mountPath": self.folder}],
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"memory": "128Mi"},
            },
            "securityContext": dict(CONTAINER_SECURITY),
            # The sentence it fails with is what `kubectl describe pod` shows.
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }

    def volume(self) -> dict[str, Any]:
        """Return the volume that holds it; put it among a pod's ``volumes``."""
        # Room for the log of the download too; the kubelet evicts a pod that holds more.
        return {"name": self._volume_name, "emptyDir": {"sizeLimit": f"{self.largest_mib * 2}Mi"}}

    def volume_mount(self) -> dict[str, Any]:
        """Return how a container sees it; put it among the container's ``volumeMounts``."""
        return {"name": self._volume_name, "mountPath": self.folder, "readOnly": True}


def on_both_architectures() -> dict[str, Any]:
    """Return the affinity of pods that run on Linux nodes of both architectures and no other."""
    expressions = [
        {"key": ARCH_LABEL, "operator": "In", "values": list(ARCHITECTURES)},
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
    ]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def fetched_programs(pod_spec: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return which programs the init containers of a pod fetch, by the volume that they end up in.

    Only init containers that run exactly this version's script count: it gives the pod a binary for the
    node's machine, or no start at all. And only volumes that no other container can write to.

    Args:
        pod_spec: A pod's or pod template's ``spec``.
    """
    writers = Counter(
        mount.get("name")
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for container in pod_spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
        if not mount.get("readOnly")
    )
    found: dict[str, set[str]] = {}
    for container in pod_spec.get("initContainers") or ():
        if tuple(container.get("command") or ()) != _COMMAND or container.get("args"):
            continue
        environment = {one.get("name"): one.get("value") for one in container.get("env") or ()}
        for mount in container.get("volumeMounts") or ():
            if mount.get("mountPath") != environment.get("FOLDER") or _part(mount):
                continue
            if writers[mount["name"]] == 1:
                found.setdefault(mount["name"], set()).add(str(environment.get("NAME")))
    return {volume: frozenset(names) for volume, names in found.items()}


def _part(mount: Mapping[str, Any]) -> bool:
    return bool(mount.get("subPath") or mount.get("subPathExpr"))


def _without_login(url: str) -> str:
    """Return an address without the password that may be in it."""
    return re.sub(r"//[^/@]*@", "//...@", url)
