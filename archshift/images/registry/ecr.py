"""Credentials for private registries of Amazon ECR, from the AWS identity of this process.

``GetAuthorizationToken``:
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
"""

import asyncio
import base64
import re
from dataclasses import dataclass
from typing import Final

from archshift.common.aws import aws_client
from archshift.common.errors import ArchshiftError
from archshift.images.registry.credentials import Credential

# 123456789012.dkr.ecr.eu-west-1.amazonaws.com, its FIPS and China forms, and the dual-stack
# 123456789012.dkr-ecr.eu-west-1.on.aws (docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html).
_HOST: Final = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)"
    r"\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)"
)


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """A private ECR registry: its account, its region, and whether its endpoint is a FIPS endpoint."""

    account: str
    region: str
    fips: bool


def parse_host(host: str) -> EcrRegistry | None:
    """Return the ECR registry of a host; None for any other host."""
    match = _HOST.fullmatch(host)
    return EcrRegistry(match["account"], match["region"], bool(match["fips"])) if match else None


async def credential(host: str) -> Credential | None:
    """Return a credential for an ECR host, valid for 12 hours; None for any other host.

    Raises:
        ArchshiftError: boto3 is not installed, or AWS returns an error.
    """
    registry = parse_host(host)
    return await asyncio.to_thread(_authorize, registry) if registry else None


def _authorize(registry: EcrRegistry) -> Credential:
    try:
        client = aws_client(
            "ecr",
            registry.region,
            "log in to Amazon ECR",
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
