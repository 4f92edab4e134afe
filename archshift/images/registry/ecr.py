"""Credentials for private registries of Amazon ECR, from the AWS identity of the stack.

``GetAuthorizationToken``:
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
"""

import asyncio
import base64
import re
from dataclasses import dataclass
from typing import Final

from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity, aws_client, partition_of
from archshift.common.errors import ArchshiftError
from archshift.images.registry.credentials import Credential, Source

# 123456789012.dkr.ecr.eu-west-1.amazonaws.com, its FIPS form, the dual-stack
# 123456789012.dkr-ecr.eu-west-1.on.aws (docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-requests.html),
# and the same below the domains of the other partitions.
_HOST: Final = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)\.(?P<domain>[a-z0-9.-]+)"
)
_PURPOSE: Final = "log in to Amazon ECR"


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """A private ECR registry: its account, its region, and whether its endpoint is a FIPS endpoint."""

    account: str
    region: str
    fips: bool


def parse_host(host: str) -> EcrRegistry | None:
    """Return the ECR registry of a host; None for any other host, also if it only looks like ECR's.

    Raises:
        ArchshiftError: boto3, which knows AWS's domains, is not installed.
    """
    match = _HOST.fullmatch(host)
    if not match:
        return None
    partition = partition_of(match["region"], _PURPOSE)
    if not partition or match["domain"] not in partition.domains:
        return None
    return EcrRegistry(match["account"], match["region"], bool(match["fips"]))


def source(identity: AwsIdentity = NOBODY_SPECIAL) -> Source:
    """Return the source of credentials for ECR's hosts, each valid for 12 hours.

    For any other host it returns None. It raises ArchshiftError if boto3 is not installed, or AWS returns an
    error.
    """

    async def credential(host: str) -> Credential | None:
        registry = parse_host(host)
        return await asyncio.to_thread(_authorize, registry, identity) if registry else None

    return credential


def _authorize(registry: EcrRegistry, identity: AwsIdentity) -> Credential:
    try:
        client = aws_client(
            "ecr",
            registry.region,
            _PURPOSE,
            identity,
            use_fips_endpoint=registry.fips or None,
            retries={"total_max_attempts": 3, "mode": "standard"},
        )
        # Without registryIds AWS returns a login for the caller's own account.
        answer = client.get_authorization_token(registryIds=[registry.account])
        pair = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    except ArchshiftError:
        raise
    # botocore's exceptions share no base class.
    except Exception as error:
        raise ArchshiftError(
            f"AWS did not return a login for ECR {registry.account} in {registry.region}: {error}",
            "check the AWS credentials and the permission ecr:GetAuthorizationToken",
        ) from None
    username, _, password = pair.partition(":")
    return Credential(username, password, source="Amazon ECR")
