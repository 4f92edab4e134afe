"""How registries are reached, and what of images is asked. Settings: nothing here reads anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """How to reach one registry.

    Attributes:
        plain_http: Speak http to it. Never assumed, not even for localhost.
        ca_file: PEM file of authorities to trust for it, besides the system's; empty for none.
        mirrors: Hosts, each with an optional path to put before the repository
            (``mirror.example:5000/hub``), asked in order before the registry itself.
        token_hosts: Further hosts that may see this registry's credentials; see ``auth``.
    """

    plain_http: bool = False
    ca_file: str = ""
    mirrors: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What the stack config says of images (``archshift:images``).

    Attributes:
        check: Read the registries. False only in the lab, where images may be mere names.
        deep: Look into the layers too: a manifest can claim arm64 and carry amd64 binaries.
        max_age_days: How old the evidence for a digest may be.
        daemonsets: What happens to a DaemonSet that is not proven: it is to ``stop`` the first
            Graviton node, or to be kept off Graviton nodes (``pin``).
        registries: By ``host[:port]`` as in image names: how to reach it.
    """

    check: bool = True
    deep: bool = False
    max_age_days: float = 7.0
    daemonsets: Literal["stop", "pin"] = "stop"
    registries: Mapping[str, RegistryHost] = field(default_factory=dict)
