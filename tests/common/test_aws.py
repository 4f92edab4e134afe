"""Whose credentials a client has: real boto3, with moto in place of AWS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from archshift.common.aws import AssumedRole, AwsIdentity, aws_client, partition_of

DEPLOY = AssumedRole("arn:aws:iam::123456789012:role/deploy", "ci")
CLUSTER = AssumedRole("arn:aws:iam::222222222222:role/cluster", more={"ExternalId": "x-1"})


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An AWS with keys in the environment, and another key in a profile."""
    config = tmp_path / "config"
    config.write_text("[profile prod]\naws_access_key_id = OFPROFILE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OFENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield


def whose(identity: AwsIdentity) -> str:
    """Who AWS says that the client is."""
    client = aws_client("sts", "eu-west-1", "ask who it is", identity)
    return str(client.get_caller_identity()["Arn"])


def key(client: Any) -> str:
    return str(client._get_credentials().access_key)


def test_a_profile_counts_more_than_the_keys_of_the_environment() -> None:
    """As for the provider."""
    assert key(aws_client("eks", "eu-west-1", "test")) == "OFENVIRONMENT"
    assert key(aws_client("eks", "eu-west-1", "test", AwsIdentity("prod"))) == "OFPROFILE"


@pytest.mark.parametrize(
    ("roles", "arn"),
    [
        ((DEPLOY,), "arn:aws:sts::123456789012:assumed-role/deploy/ci"),
        ((DEPLOY, CLUSTER), "arn:aws:sts::222222222222:assumed-role/cluster/archshift"),
    ],
    ids=["one", "a chain"],
)
def test_roles_are_assumed_one_after_another(roles: tuple[AssumedRole, ...], arn: str) -> None:
    assert whose(AwsIdentity("prod", roles)) == arn


def test_each_role_is_assumed_with_the_credentials_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with everything that the trust of the role may ask for."""
    import botocore.client  # type: ignore[import-untyped]

    calls: list[tuple[str, dict[str, Any]]] = []
    call = botocore.client.BaseClient._make_api_call

    def noted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        calls.append((key(client), parameters))
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", noted)
    client = aws_client("ecr", "eu-west-1", "test", AwsIdentity("prod", (DEPLOY, CLUSTER)))
    (first, asked), (second, then) = calls
    assert (first, asked) == ("OFPROFILE", {"RoleArn": DEPLOY.arn, "RoleSessionName": "ci"})
    assert then == {"RoleArn": CLUSTER.arn, "RoleSessionName": "archshift", "ExternalId": "x-1"}
    assert len({first, second, key(client)}) == 3


@pytest.mark.parametrize(
    ("region", "name", "domain"),
    [
        ("eu-west-1", "aws", "on.aws"),
        ("cn-north-1", "aws-cn", "on.amazonwebservices.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk"),
        ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov"),
        # A region that this SDK does not list yet.
        ("ap-somewhere-9", "aws", "amazonaws.com"),
    ],
)
def test_every_partition_has_its_domains(region: str, name: str, domain: str) -> None:
    found = partition_of(region, "test")
    assert found
    assert found.name == name
    assert domain in found.domains


@pytest.mark.parametrize("region", ["", "moon-1", "eu-west-1.evil"])
def test_no_other_name_is_a_region(region: str) -> None:
    assert partition_of(region, "test") is None
