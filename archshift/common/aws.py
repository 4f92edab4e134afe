"""Clients of AWS' own SDK, which is an extra: one way to make them, with timeouts."""

import importlib
from typing import Any

from archshift.common.errors import ArchshiftError


def aws_client(service: str, region: str, purpose: str, *, profile: str = "", **more: Any) -> Any:
    """Return a boto3 client that gives up in time.

    What it, and whatever is called on it, raises has no common base.

    Args:
        service: The service's name at boto3.
        region: The region to ask; empty for the usual one.
        purpose: What it is for, as the subject of a sentence: ``Amazon ECR is logged in to``.
        profile: The AWS profile; empty for the usual one.
        more: More of botocore's ``Config``.

    Raises:
        ArchshiftError: boto3 is not installed.
    """
    try:
        boto3: Any = importlib.import_module("boto3")
        config: Any = importlib.import_module("botocore.config")
    except ImportError:
        raise ArchshiftError(
            f"boto3 is not installed, and {purpose} with it", "install archshift[aws]"
        ) from None
    retries = {"total_max_attempts": 2, "mode": "standard"}
    return boto3.Session(profile_name=profile or None).client(
        service,
        region_name=region or None,
        config=config.Config(**{"connect_timeout": 5, "read_timeout": 10, "retries": retries, **more}),
    )
