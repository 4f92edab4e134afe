"""Which workloads are proven to run on arm64, as the component ``ImageAudit`` states it.

Nothing here is taken on trust: a statement that does not hold together, or is too old, proves
nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from archshift_rules.capacity import ARM64, Amount, Need
from archshift_rules.stack import Stack
from archshift_rules.wording import moment, number

MAX_AGE: Final = {
    # Archshift's own limit is 7 days (archshift:images.max_age_days).
    "maxAgeDays": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 8,
        "description": "How old evidence may be; older proves nothing.",
    }
}

_PROVEN: Final = ("multi-arch", "arm64-only")
_VERDICTS: Final = (*_PROVEN, "amd64-only", "other", "unknown")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
CLOCKS_DIFFER: Final = timedelta(hours=1)
"""Between the clock of who wrote evidence and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is stated of one workload.

    Attributes:
        key: ``namespace/Kind/name``.
        proven: It runs on arm64, beyond doubt.
        why_not: Why it is not proven; empty where it is.
        problem: What is wrong with the evidence itself; empty where nothing is.
        images: Its images to whether they run on arm64.
        need: What it needs of x86 nodes for as long as it is not proven.
        reaches_graviton: Its pods can land on Graviton nodes. False only where that is stated.
        pins: The architectures that its own rules admit; empty where they say nothing.
    """

    key: str
    proven: bool = False
    why_not: str = ""
    problem: str = ""
    images: Mapping[str, bool] = field(default_factory=dict)
    need: Need = field(default_factory=Need)
    reaches_graviton: bool = True
    pins: frozenset[str] = frozenset()

    @property
    def needs_x86(self) -> bool:
        """Whether it needs x86 nodes: what its own rules bind to one side needs that one."""
        if self.pins:
            return ARM64 not in self.pins or (not self.proven and self.pins != {ARM64})
        return not self.proven

    @property
    def reason(self) -> str:
        """Why it needs them."""
        return self.why_not or f"it pins {', '.join(sorted(self.pins))} itself"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stack's evidence.

    Attributes:
        workloads: By key.
        urn: The component's.
        problem: Why there is none; empty where there is.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    urn: str = ""
    problem: str = ""

    @property
    def unproven(self) -> list[Workload]:
        """The workloads that are not proven, by key."""
        return [one for _, one in sorted(self.workloads.items()) if not one.proven]

    @property
    def on_x86(self) -> list[Workload]:
        """The workloads that need x86 nodes, by key: what is not proven, and what pins x86 itself."""
        return [one for _, one in sorted(self.workloads.items()) if one.needs_x86]


def read_evidence(stack: Stack, now: datetime, max_age_days: float) -> Evidence:
    """Read what the stack states of its images.

    Args:
        stack: The stack.
        now: The time.
        max_age_days: How old evidence may be.

    Raises:
        UnknownError: It is not known in this preview.
    """
    audits = list(stack.all("archshift:index:ImageAudit"))
    if len(audits) != 1:
        problem = "it has no ImageAudit" if not audits else f"it has {len(audits)} of ImageAudit, not one"
        return Evidence(urn=stack.urn(*audits), problem=problem)
    stated = audits[0].read("workloads")
    if not isinstance(stated, dict):
        return Evidence(urn=audits[0].urn, problem="its ImageAudit names no workloads")
    age = timedelta(days=max_age_days)
    return Evidence({key: _workload(key, entry, now, age) for key, entry in stated.items()}, audits[0].urn)


def _workload(key: str, entry: Any, now: datetime, age: timedelta) -> Workload:
    if not isinstance(entry, dict):
        return Workload(key=key, problem="is empty", why_not="no evidence")
    images = _images(entry)
    pods, size = number(entry.get("pods")), _size(entry.get("requests"))
    claims = entry.get("verdict") in _PROVEN
    pins = frozenset(str(entry["pins"]).split(",")) if entry.get("pins") else frozenset()
    problem = ""
    if pods is None or size is None:
        problem = "lacks pods or requests"
    problem = problem or _contradiction(entry, images or {}) or _staleness(entry, now, age)
    return Workload(
        key=key,
        proven=claims and not problem,
        why_not="" if claims and not problem else problem or _why_not(entry),
        problem=problem,
        images={name: verdict in _PROVEN for name, (verdict, _) in (images or {}).items()},
        need=Need(key, max(1.0, pods or 0.0), size or Amount()),
        reaches_graviton=entry.get("reachesGraviton") is not False,
        pins=pins,
    )


def _images(entry: Mapping[str, Any]) -> dict[str, tuple[str, str]] | None:
    """Return image to (verdict, digest); None if the list is not one."""
    listed = entry.get("images")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    return {str(one.get("image")): (str(one.get("verdict")), str(one.get("digest"))) for one in listed}


def _size(requests: Any) -> Amount | None:
    if not isinstance(requests, dict):
        return None
    millicpu, memory = number(requests.get("millicpu")), number(requests.get("memory"))
    return None if millicpu is None or memory is None else Amount(millicpu, memory, 1)


def _contradiction(entry: Mapping[str, Any], images: Mapping[str, tuple[str, str]]) -> str:
    verdict = entry.get("verdict")
    if verdict not in _VERDICTS:
        return f"has the verdict {verdict!r}, which is none of {', '.join(_VERDICTS)}"
    if verdict not in _PROVEN:
        return ""
    if not images:
        return f"says {verdict} of no image"
    if entry.get("blocking"):
        return f"says {verdict} and names containers that block it"
    for image, (of_image, digest) in images.items():
        if of_image not in _PROVEN:
            return f"says {verdict}, but of {image} it says {of_image}"
        if not _DIGEST.fullmatch(digest):
            return f"says {verdict}, but has no digest for {image}"
    return ""


def _staleness(entry: Mapping[str, Any], now: datetime, age: timedelta) -> str:
    text = entry.get("checkedAt")
    if not text and entry.get("verdict") not in _PROVEN:
        return ""  # nothing was checked and nothing is claimed
    checked = moment(text)
    if checked is None:
        return f"has no time ({text!r})"
    if checked > now + CLOCKS_DIFFER:
        return f"is from the future ({text})"
    if now - checked > age:
        return f"is {(now - checked) / timedelta(days=1):.1f} days old ({text})"
    return ""


def _why_not(entry: Mapping[str, Any]) -> str:
    blocking = entry.get("blocking")
    first = blocking[0] if isinstance(blocking, list) and blocking else None
    if not isinstance(first, dict):
        return f"its images are {entry.get('verdict')}"
    reason = f": {first['reason']}" if first.get("reason") else ""
    return f"{first.get('image')} is {first.get('verdict')}{reason}"
