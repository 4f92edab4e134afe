"""Makes clients of the AWS SDK: with the stack's identity and with timeouts."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from archshift.common.errors import ArchshiftError


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """A role that the AWS provider assumes.

    Attributes:
        arn: The role's ARN.
        session_name: The name of the session; empty for a default.
        more: Further parameters of ``AssumeRole``, with the names of the STS API.
    """

    arn: str
    session_name: str = ""
    # External IDs are often secrets.
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def request(self) -> dict[str, Any]:
        """The parameters of ``AssumeRole``."""
        # Without a name the provider invents one. CloudTrail shows this one.
        return {"RoleArn": self.arn, "RoleSessionName": self.session_name or "archshift", **self.more}


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """With which credentials a stack uses AWS, as the configuration of its AWS provider says.

    Attributes:
        profile: The AWS profile (``aws:profile``); empty for the credentials of the environment.
        roles: The roles to assume, each with the credentials of the one before (``aws:assumeRoles``).
        provider_only: Keys of the configuration that change the identity of the provider alone.
    """

    profile: str = ""
    roles: tuple[AssumedRole, ...] = ()
    provider_only: tuple[str, ...] = ()

    @property
    def fits_kubeconfig(self) -> bool:
        """Whether ``aws eks get-token`` can use it: it takes one role at most, and nothing but its ARN."""
        return len(self.roles) <= 1 and not any(role.more.keys() - _NOT_FOR_TRUST for role in self.roles)


NOBODY_SPECIAL: Final = AwsIdentity()
"""The credentials of the environment."""

_NOT_FOR_TRUST: Final = frozenset({"DurationSeconds"})
"""Parameters of ``AssumeRole`` that change neither whether a role can be assumed nor what it may do."""


def aws_client(
    service: str, region: str, purpose: str, identity: AwsIdentity = NOBODY_SPECIAL, **more: Any
) -> Any:
    """Return a boto3 client that gives up in time. This is the only place that makes sessions.

    botocore's exceptions share no base class: catch ``Exception`` around this call and every call of the
    client.

    Args:
        service: The service's name in boto3.
        region: Empty for the default region.
        purpose: Why archshift needs boto3, as it continues a sentence: ``log in to Amazon ECR``.
        identity: With which credentials.
        more: Further fields of botocore's ``Config``.

    Raises:
        ArchshiftError: boto3 is not installed.
    """
    boto3, config = _sdk("boto3", purpose), _sdk("botocore.config", purpose)
    limits = {
        "connect_timeout": 5,
        "read_timeout": 10,
        "retries": {"total_max_attempts": 2, "mode": "standard"},
    }
    session: Any = boto3.Session(botocore_session=_core(identity.profile))
    for role in identity.roles:
        sts = session.client("sts", region_name=region or None, config=config.Config(**limits))
        credentials = sts.assume_role(**role.request)["Credentials"]
        session = boto3.Session(
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            region_name=session.region_name,
            botocore_session=_core(),
        )
    return session.client(service, region_name=region or None, config=config.Config(**{**limits, **more}))


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of AWS with accounts, regions and domains of its own, such as ``aws-cn``.

    Attributes:
        name: Its name, as in ARNs.
        global_region: The region that serves its global APIs.
        domains: The domains of its endpoints.
    """

    name: str
    global_region: str
    domains: tuple[str, ...]


def partition_of(region: str, purpose: str) -> Partition | None:
    """Return the partition of a region, from the SDK's own data; None if the SDK knows no such region.

    Args:
        region: A region, such as ``eu-west-1``.
        purpose: As for ``aws_client``.

    Raises:
        ArchshiftError: boto3 is not installed.
    """
    # Whoever has no boto3 gets the same error here as from the client.
    _sdk("boto3", purpose)
    for entry in _partitions():
        if region in entry["regions"] or re.fullmatch(entry["regionRegex"], region):
            outputs = entry["outputs"]
            dual_stack = outputs["dualStackDnsSuffix"]
            return Partition(
                entry["id"],
                outputs["implicitGlobalRegion"],
                # Hosts that people name are below `on.`, and APIs below `api.` (on.aws and api.aws).
                (outputs["dnsSuffix"], dual_stack, re.sub(r"\Aapi\.", "on.", dual_stack)),
            )
    return None


def _core(profile: str = "") -> Any:
    """Return a botocore session that shares the descriptions of services: EC2's alone takes half a second."""
    core: Any = importlib.import_module("botocore.session").get_session()
    if profile:
        core.set_config_variable("profile", profile)
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    return core


@cache
def _loader(search_path: str | None) -> Any:
    return importlib.import_module("botocore.loaders").create_loader(search_path)


def served_regions(service: str, partition: str) -> list[str]:
    """Return the regions of a partition in which a service has endpoints, from the SDK's own data.

    Args:
        service: The service's name in boto3, which must be installed.
        partition: Such as ``aws-cn``.
    """
    regions: list[str] = _core().get_available_regions(service, partition)
    return regions


@cache
def _partitions() -> list[dict[str, Any]]:
    partitions: list[dict[str, Any]] = _loader(None).load_data("partitions")["partitions"]
    return partitions


def _sdk(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ArchshiftError(
            f"boto3 is not installed, and archshift needs it to {purpose}", "install archshift again"
        ) from None
