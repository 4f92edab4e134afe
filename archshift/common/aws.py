"""Makes clients of the AWS SDK, with timeouts."""

import importlib
from typing import Any

from archshift.common.errors import ArchshiftError


def aws_client(service: str, region: str, purpose: str, *, profile: str = "", **more: Any) -> Any:
    """Return a boto3 client that gives up in time.

    botocore's exceptions share no base class: catch ``Exception`` around every call.

    Args:
        service: The service's name in boto3.
        region: Empty for the default region.
        purpose: Why archshift needs boto3, as it continues a sentence: ``log in to Amazon ECR``.
        profile: The AWS profile; empty for the default profile.
        more: Further fields of botocore's ``Config``.

    Raises:
        ArchshiftError: boto3 is not installed.
    """
    try:
        boto3: Any = importlib.import_module("boto3")
        config: Any = importlib.import_module("botocore.config")
    except ImportError:
        raise ArchshiftError(
            f"boto3 is not installed, and archshift needs it to {purpose}", "install archshift again"
        ) from None
    retries = {"total_max_attempts": 2, "mode": "standard"}
    return boto3.Session(profile_name=profile or None).client(
        service,
        region_name=region or None,
        config=config.Config(**{"connect_timeout": 5, "read_timeout": 10, "retries": retries, **more}),
    )
