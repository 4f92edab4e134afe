"""The verdict on an image: the architectures on which it runs, and the evidence."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from archshift.common.architectures import AMD64, ARM64
from archshift.common.text import one_line
from archshift.images.registry.manifest import Platform

Verdict: TypeAlias = Literal["multi-arch", "amd64-only", "arm64-only", "other", "unknown"]

MULTI_ARCH: Final = "multi-arch"
AMD64_ONLY: Final = "amd64-only"
ARM64_ONLY: Final = "arm64-only"
OTHER: Final = "other"
UNKNOWN: Final = "unknown"

MOST_WORDS: Final = 1000
"""The most characters of a reason."""


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """The verdict on one image.

    Attributes:
        image: The reference, unchanged.
        verdict: multi-arch (Linux on amd64 and arm64), amd64-only, arm64-only, other (neither) or unknown.
        platforms: The platforms with evidence, as ``os/architecture[/variant]``, sorted. Windows and other
            systems are listed but do not count.
        digest: The current digest of the reference; empty if it is unknown.
        reason: Why, if the platforms alone do not explain the verdict. Never empty for unknown.
        checked_at: The time of the oldest evidence, in UTC.
        manifests: (platform, digest) of the images in the index. A node may report one of these digests as
            running, instead of ``digest``.
        away: The registry that does not answer; empty if it answers.
    """

    image: str
    verdict: Verdict
    platforms: tuple[str, ...]
    digest: str
    reason: str
    checked_at: datetime
    manifests: tuple[tuple[str, str], ...] = ()
    away: str = ""

    def __post_init__(self) -> None:
        # A registry may have written a part of it.
        object.__setattr__(self, "reason", one_line(self.reason, MOST_WORDS))

    @property
    def runs_on_arm64(self) -> bool:
        """Whether the evidence proves it. Unknown counts as no."""
        return self.verdict in (MULTI_ARCH, ARM64_ONLY)

    @property
    def runs_on_amd64(self) -> bool:
        """Whether the evidence proves it. Unknown counts as no."""
        return self.verdict in (MULTI_ARCH, AMD64_ONLY)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: image, verdict, platforms, digest, reason, checked_at (ISO 8601, UTC)."""
        return {
            "image": self.image,
            "verdict": self.verdict,
            "platforms": list(self.platforms),
            "digest": self.digest,
            "reason": self.reason,
            "checked_at": self.checked_at.isoformat(timespec="seconds"),
        }


def unknown(
    image: str, reason: str, checked_at: datetime, digest: str = "", *, away: str = ""
) -> ImageVerdict:
    """Return the verdict for an image that could not be read."""
    return ImageVerdict(image, UNKNOWN, (), digest, reason, checked_at, away=away)


def classify(platforms: Iterable[Platform]) -> Verdict:
    """Return the verdict for a set of platforms; never unknown.

    An arm64 platform with a variant above v8 does not count, because not every node runs it.
    """
    linux = {platform for platform in platforms if platform.os == "linux"}
    return from_support(
        amd64=any(platform.architecture == AMD64 for platform in linux),
        arm64=any(platform.architecture == ARM64 and not platform.variant for platform in linux),
    )


def from_support(*, amd64: bool, arm64: bool) -> Verdict:
    """Return the verdict for the supported architectures."""
    if amd64 and arm64:
        return MULTI_ARCH
    if amd64:
        return AMD64_ONLY
    return ARM64_ONLY if arm64 else OTHER


def without_arm64(verdict: ImageVerdict, reason: str, *, runs_on_amd64: bool) -> ImageVerdict:
    """Return a verdict without arm64.

    Args:
        verdict: The verdict from the manifests.
        reason: Why the image does not run on arm64.
        runs_on_amd64: Whether the same evidence proves amd64. It counts if the manifests do not list amd64.
    """
    arm64 = f"linux/{ARM64}"
    return replace(
        verdict,
        verdict=from_support(amd64=verdict.runs_on_amd64 or runs_on_amd64, arm64=False),
        platforms=tuple(name for name in verdict.platforms if name != arm64),
        reason=reason,
    )
