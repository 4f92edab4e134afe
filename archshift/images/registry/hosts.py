"""The types of the settings in ``archshift:images``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """How to reach one registry.

    Attributes:
        plain_http: Use http. It is never the default, not even for localhost.
        ca_file: A PEM file of authorities to trust besides the system's; empty for none.
        mirrors: Hosts, each with an optional path before the repository (``mirror.example:5000/hub``). They
            get requests in this order, before the registry itself.
        token_hosts: Further hosts that may see this registry's credentials; see ``auth``.
    """

    plain_http: bool = False
    ca_file: str = ""
    mirrors: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """The settings of ``archshift:images``, and the identity for Amazon ECR.

    Attributes:
        check: Read the registries. False only in the lab, where images may not exist.
        deep: Also read the layers, because a manifest can claim arm64 while the binaries are for amd64.
        max_age_days: How old the evidence for a digest may be.
        daemonsets: The effect of a DaemonSet that is not proven: it stops the first Graviton node (``stop``),
            or archshift keeps it off Graviton nodes (``pin``).
        registries: ``host[:port]`` as in image names to the options of the registry.
        aws: With which AWS credentials archshift logs in to Amazon ECR.
    """

    check: bool = True
    deep: bool = False
    max_age_days: float = 7.0
    daemonsets: Literal["stop", "pin"] = "stop"
    registries: Mapping[str, RegistryHost] = field(default_factory=dict)
    aws: AwsIdentity = NOBODY_SPECIAL
