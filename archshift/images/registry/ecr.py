"""Credentials for Amazon ECR's private registries, from whatever AWS identity this process has.

``GetAuthorizationToken``: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
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
    """A private ECR registry: the account that owns it, its region, and whether by a FIPS endpoint."""

    account: str
    region: str
    fips: bool


def parse_host(host: str) -> EcrRegistry | None:
    """Return which ECR registry a host is; None if it is none."""
    found = _HOST.fullmatch(host)
    return EcrRegistry(found["account"], found["region"], bool(found["fips"])) if found else None


async def credential(host: str) -> Credential | None:
    """Return a login for an ECR host, good for 12 hours; None for any other host.

    Raises:
        ArchshiftError: boto3 is not installed, or AWS refused.
    """
    registry = parse_host(host)
    return await asyncio.to_thread(_authorize, registry) if registry else None


def _authorize(registry: EcrRegistry) -> Credential:
    try:
        client = aws_client(
            "ecr",
            registry.region,
            "Amazon ECR is logged in to",
            use_fips_endpoint=registry.fips or None,
            retries={"total_max_attempts": 3, "mode": "standard"},
        )
        # registryIds names the owner: without it AWS answers for the caller's own account.
        answer = client.get_authorization_token(registryIds=[registry.account])
        pair = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    except ArchshiftError:
        raise
    # botocore has no common base for what credentials, network and service raise.
    except Exception as error:
        raise ArchshiftError(
            f"AWS gave no login for ECR {registry.account} in {registry.region}: {error}"
        ) from None
    username, _, password = pair.partition(":")
    return Credential(username, password, source="Amazon ECR")
