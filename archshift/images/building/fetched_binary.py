"""A binary that an init container downloads for the architecture of its node.

Returns the parts of a pod as plain Kubernetes objects.
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

SCRIPT: Final = (
    resources.files("archshift.images.building").joinpath("fetched_binary.sh").read_text(encoding="utf-8")
)
"""The script of the init container. It reads its settings from environment variables."""

_COMMAND: Final = ("/bin/sh", "-c", SCRIPT)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,55}[a-z0-9])?")
_FOLDER: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# No user or password, because everybody in the cluster could read them. No fragment, because clients never
# send it. No "$", because Kubernetes would expand it.
_URL: Final = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?(/[\w.~:/?!&'()*+,;=%@-]*)", re.A
)
# The user "nonroot" of distroless images. Nodes have no user with this id.
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
"""The Pod Security Standard ``restricted`` for a container, with a read-only root file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The address of the binary for one architecture.

    Attributes:
        url: An https address. Redirects are followed, but only to https.
        sha256: The SHA-256 of the content, 64 hexadecimal digits.
    """

    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBinary:
    """A binary, and how the init container downloads it.

    Attributes:
        name: The file name. It is also the name of the volume and, with ``fetch-``, of the init container.
        sources: One source for ``amd64`` and one for ``arm64``.
        fetch_image: An image for both architectures with a POSIX shell, ``curl`` or ``wget``, and the tools
            of busybox. Name it by digest. The wget of busybox does not check certificates, so there only the
            checksum protects the file.
        folder: The folder of the binary in the pod's containers.
        largest_mib: The largest file that is accepted, in MiB.
        longest_seconds: The longest download, in seconds.
        allow_http: Also allow plain http, for tests and for servers on the node itself.

    Raises:
        ArchshiftError: A field is invalid.
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
                f"name: {self.name!r} is not a valid file name",
                "use at most 57 lower-case letters, digits, '.', '_' and '-'",
            )
        missing = [architecture for architecture in ARCHITECTURES if architecture not in self.sources]
        unknown = [architecture for architecture in self.sources if architecture not in ARCHITECTURES]
        if missing or unknown:
            what = f"{missing[0]} is missing" if missing else f"{unknown[0]!r} is not an architecture"
            raise ArchshiftError(
                f"{self.name}: sources: {what}",
                f"give a url and its sha256 for {AMD64} and for {ARM64}",
            )
        for architecture in ARCHITECTURES:
            self._check(f"{self.name}: sources.{architecture}", self.sources[architecture])
        try:
            parse_reference(self.fetch_image)
        except ArchshiftError as error:
            raise ArchshiftError(f"{self.name}: fetch_image: {error.problem}", error.way_out) from None
        if not _FOLDER.fullmatch(self.folder) or {".", ".."} & set(self.folder.split("/")):
            raise ArchshiftError(
                f"{self.name}: folder: {self.folder!r} is not a valid absolute path",
                "use names of letters, digits, '.', '_' and '-', such as /opt/fetched",
            )
        for key, value in (("largest_mib", self.largest_mib), ("longest_seconds", self.longest_seconds)):
            if value < 1:
                raise ArchshiftError(
                    f"{self.name}: {key}: {value!r} is invalid", "use a whole number of 1 or more"
                )

    def _check(self, key: str, source: Source) -> None:
        match = _URL.fullmatch(source.url)
        if not match:
            raise ArchshiftError(
                f"{key}.url: {_without_login(source.url)!r} is not a valid https address",
                "use an address with a path, without a user, '#', '$' and spaces",
            )
        if match[1] == "http" and not self.allow_http:
            raise ArchshiftError(
                f"{key}.url: {source.url!r} is plain http",
                "use https (allow_http is for servers on the node itself)",
            )
        if not _SHA256.fullmatch(source.sha256):
            raise ArchshiftError(
                f"{key}.sha256: {source.sha256!r} is not 64 hexadecimal digits in lower case",
                "use the output of sha256sum",
            )

    @property
    def path(self) -> str:
        """The path of the binary in the pod's containers."""
        return f"{self.folder}/{self.name}"

    @property
    def _volume_name(self) -> str:
        return re.sub(r"[._]+", "-", self.name)

    def init_container(self) -> dict[str, Any]:
        """Return the init container; add it to a pod's ``initContainers``."""
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
            # So `kubectl describe pod` shows the error of the script.
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }

    def volume(self) -> dict[str, Any]:
        """Return the volume for the binary; add it to a pod's ``volumes``."""
        # The volume also holds the log of the download. The kubelet evicts a pod that exceeds the limit.
        return {"name": self._volume_name, "emptyDir": {"sizeLimit": f"{self.largest_mib * 2}Mi"}}

    def volume_mount(self) -> dict[str, Any]:
        """Return the mount of the volume; add it to a container's ``volumeMounts``."""
        return {"name": self._volume_name, "mountPath": self.folder, "readOnly": True}


def on_both_architectures() -> dict[str, Any]:
    """Return an affinity that allows only Linux nodes of both architectures."""
    expressions = [
        {"key": ARCH_LABEL, "operator": "In", "values": list(ARCHITECTURES)},
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
    ]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def fetched_programs(pod_spec: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the programs that the init containers of a pod download: volume to file names.

    Only init containers with exactly the script of this version count: either the pod gets a binary for its
    node's machine, or it does not start. A volume counts only if no other container can write to it.

    Args:
        pod_spec: The ``spec`` of a pod or a pod template.
    """
    writers = Counter(
        mount.get("name")
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for container in pod_spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
        if not mount.get("readOnly")
    )
    programs: dict[str, set[str]] = {}
    for container in pod_spec.get("initContainers") or ():
        if tuple(container.get("command") or ()) != _COMMAND or container.get("args"):
            continue
        environment = {entry.get("name"): entry.get("value") for entry in container.get("env") or ()}
        for mount in container.get("volumeMounts") or ():
            if mount.get("mountPath") != environment.get("FOLDER") or _part(mount):
                continue
            if writers[mount["name"]] == 1:
                programs.setdefault(mount["name"], set()).add(str(environment.get("NAME")))
    return {volume: frozenset(names) for volume, names in programs.items()}


def _part(mount: Mapping[str, Any]) -> bool:
    return bool(mount.get("subPath") or mount.get("subPathExpr"))


def _without_login(url: str) -> str:
    """Return an address without user and password."""
    return re.sub(r"//[^/@]*@", "//...@", url)
