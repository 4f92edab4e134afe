"""The keys of Pulumi's AWS provider that say with which credentials a stack uses AWS.

The provider reads them itself (https://www.pulumi.com/registry/packages/aws/installation-configuration/).
Here they reach everything else that asks AWS: boto3 and the kubeconfig.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError

_ROLES: Final = "aws:assumeRoles"

_PROVIDER_ONLY: Final = (
    "aws:accessKey",
    "aws:assumeRoleWithWebIdentity",
    "aws:secretKey",
    "aws:sharedConfigFiles",
    "aws:sharedCredentialsFiles",
    "aws:token",
)

_DURATION: Final = re.compile(r"(?:(?P<hours>\d{1,6})h)?(?:(?P<minutes>\d{1,6})m)?(?:(?P<seconds>\d{1,6})s)?")


class _Role(msgspec.Struct, rename="camel", kw_only=True):
    """One entry of ``aws:assumeRoles``. The provider checks the keys itself."""

    role_arn: str
    session_name: str | None = None
    external_id: str | None = None
    duration: str | None = None
    policy: str | None = None
    policy_arns: list[str] | None = None
    source_identity: str | None = None
    tags: dict[str, str] | None = None
    transitive_tag_keys: list[str] | None = None

    def role(self) -> AssumedRole:
        """Return the role.

        Raises:
            ValueError: The duration is invalid.
        """
        more: dict[str, Any] = {
            "ExternalId": self.external_id,
            "DurationSeconds": _seconds(self.duration) if self.duration else None,
            "Policy": self.policy,
            "PolicyArns": [{"arn": arn} for arn in self.policy_arns or ()],
            "SourceIdentity": self.source_identity,
            "Tags": [{"Key": key, "Value": value} for key, value in (self.tags or {}).items()],
            "TransitiveTagKeys": self.transitive_tag_keys,
        }
        given = {key: value for key, value in more.items() if value}
        return AssumedRole(self.role_arn, self.session_name or "", given)


def aws_identity(config: Mapping[str, str]) -> AwsIdentity:
    """Return with which credentials a stack uses AWS.

    Args:
        config: The stack's configuration, as for ``archshift.settings.stack.load``.

    Raises:
        ArchshiftError: ``aws:assumeRoles`` is invalid, or a secret that this command cannot read.
    """
    return AwsIdentity(
        profile=config.get("aws:profile", ""),
        roles=_roles(config[_ROLES]) if _ROLES in config else (),
        provider_only=tuple(key for key in _PROVIDER_ONLY if key in config),
    )


def _roles(text: str) -> tuple[AssumedRole, ...]:
    if not text:
        # `pulumi config --json` has no value for a secret. Without the role, everything would be asked for
        # with other permissions than the provider has.
        raise ArchshiftError(
            f"{_ROLES} is a secret, and archshift cannot read it",
            "write it without --secret, or set aws:profile to a profile with role_arn and external_id",
        )
    try:
        return tuple(entry.role() for entry in msgspec.json.decode(text, type=list[_Role]) if entry.role_arn)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArchshiftError(
            f"{_ROLES} is invalid: {error}",
            "write a list of roles, each with roleArn, as for the AWS provider",
        ) from None


def _seconds(text: str) -> int:
    """Return the seconds of a duration as the provider writes it, such as ``1h30m``."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"the duration {text!r} is not written like 1h or 30m")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in ("hours", "minutes", "seconds"))
    return hours * 3600 + minutes * 60 + seconds
