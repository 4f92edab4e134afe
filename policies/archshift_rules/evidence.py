"""The workloads that are proven to run on arm64, according to the component ``ImageAudit``.

The rules do not trust the evidence: inconsistent or old evidence proves nothing.
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
        "description": "The maximum age of evidence in days; older evidence proves nothing.",
    }
}

_PROVEN: Final = ("multi-arch", "arm64-only")
_VERDICTS: Final = (*_PROVEN, "amd64-only", "other", "unknown")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
CLOCKS_DIFFER: Final = timedelta(hours=1)
"""The tolerated difference between our clock and the clock of the evidence's author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The evidence for one workload.

    Attributes:
        key: ``namespace/Kind/name``.
        proven: It is proven to run on arm64.
        why_not: Why it is not proven; empty if it is.
        problem: What is wrong with the evidence itself; empty if it is valid.
        images: For each of its images, whether it runs on arm64.
        replaced: Images of its template that admission replaces; ``images`` has what its pods run instead.
        need: The x86 capacity that it needs while it is not proven; of no pods if no x86 node of the cluster
            could run it when archshift took the evidence.
        reaches_graviton: Graviton nodes can run its pods. False only if the evidence says so.
        pins: The architectures that its own rules admit; empty without such rules.
        only_x86: Why only x86 nodes can run its pods, whatever its images are; empty if others can.
    """

    key: str
    proven: bool = False
    why_not: str = ""
    problem: str = ""
    images: Mapping[str, bool] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()
    need: Need = field(default_factory=Need)
    reaches_graviton: bool = True
    pins: frozenset[str] = frozenset()
    only_x86: str = ""

    @property
    def needs_x86(self) -> bool:
        """Whether it needs x86 nodes; rules of its own that admit only one side decide first."""
        if self.pins:
            return ARM64 not in self.pins or (not self.proven and self.pins != {ARM64})
        return not self.proven or bool(self.only_x86)

    @property
    def reason(self) -> str:
        """Why it needs x86 nodes."""
        pins = f"its own rules pin {', '.join(sorted(self.pins))}" if self.pins else ""
        return self.why_not or pins or self.only_x86


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stack's evidence.

    Attributes:
        workloads: By key.
        urn: The URN of the component.
        problem: Why the stack has no evidence; empty if it has.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    urn: str = ""
    problem: str = ""

    @property
    def unproven(self) -> list[Workload]:
        """The workloads that are not proven, by key."""
        return [workload for _, workload in sorted(self.workloads.items()) if not workload.proven]

    @property
    def on_x86(self) -> list[Workload]:
        """The workloads that need x86 nodes, by key: unproven ones, and those that pin x86 themselves."""
        return [workload for _, workload in sorted(self.workloads.items()) if workload.needs_x86]


def read_evidence(stack: Stack, now: datetime, max_age_days: float) -> Evidence:
    """Read the stack's evidence for its images; evidence older than ``max_age_days`` proves nothing.

    Raises:
        UnknownError: This preview does not know the evidence.
    """
    audits = list(stack.all("archshift:index:ImageAudit"))
    if len(audits) != 1:
        problem = (
            "it has no ImageAudit"
            if not audits
            else f"it has {len(audits)} resources ImageAudit instead of 1"
        )
        return Evidence(urn=stack.urn(*audits), problem=problem)
    stated = audits[0].read("workloads")
    if not isinstance(stated, dict):
        return Evidence(urn=audits[0].urn, problem="its ImageAudit has no workloads")
    age = timedelta(days=max_age_days)
    return Evidence({key: _workload(key, entry, now, age) for key, entry in stated.items()}, audits[0].urn)


def _workload(key: str, entry: Any, now: datetime, age: timedelta) -> Workload:
    if not isinstance(entry, dict):
        return Workload(key=key, problem="it is empty", why_not="no evidence")
    images = _images(entry)
    pods, size = number(entry.get("pods")), _size(entry.get("requests"))
    claims = entry.get("verdict") in _PROVEN
    replaced = entry.get("replaced")
    pins = frozenset(str(entry["pins"]).split(",")) if entry.get("pins") else frozenset()
    problem = ""
    if pods is None or size is None:
        problem = "it has no valid pods or requests"
    problem = problem or _contradiction(entry, images or {}) or _staleness(entry, now, age)
    return Workload(
        key=key,
        proven=claims and not problem,
        why_not="" if claims and not problem else problem or _why_not(entry),
        problem=problem,
        images={name: verdict in _PROVEN for name, (verdict, _) in (images or {}).items()},
        replaced=frozenset(map(str, replaced)) if isinstance(replaced, dict) else frozenset(),
        need=Need(key, 0.0, Amount())
        if entry.get("needsX86Room") is False
        else Need(key, max(1.0, pods or 0.0), size or Amount()),
        reaches_graviton=entry.get("reachesGraviton") is not False,
        pins=pins,
        only_x86="" if entry.get("verdict") == "arm64-only" else str(entry.get("onlyX86") or ""),
    )


def _images(entry: Mapping[str, Any]) -> dict[str, tuple[str, str]] | None:
    """Return image to (verdict, digest); None if the list is invalid."""
    listed = entry.get("images")
    if not isinstance(listed, list) or not all(isinstance(image, dict) for image in listed):
        return None
    return {
        str(image.get("image")): (str(image.get("verdict")), str(image.get("digest"))) for image in listed
    }


def _size(requests: Any) -> Amount | None:
    if not isinstance(requests, dict):
        return None
    millicpu, memory = number(requests.get("millicpu")), number(requests.get("memory"))
    return None if millicpu is None or memory is None else Amount(millicpu, memory, 1)


def _contradiction(entry: Mapping[str, Any], images: Mapping[str, tuple[str, str]]) -> str:
    verdict = entry.get("verdict")
    if verdict not in _VERDICTS:
        return f"its verdict {verdict!r} is invalid; use {', '.join(_VERDICTS)}"
    if verdict not in _PROVEN:
        return ""
    if not images:
        return f"it claims {verdict} without an image"
    if entry.get("blocking"):
        return f"it claims {verdict}, but also names containers that block it"
    for image, (of_image, digest) in images.items():
        if of_image not in _PROVEN:
            return f"it claims {verdict}, but {image} is {of_image}"
        if not _DIGEST.fullmatch(digest):
            return f"it claims {verdict}, but has no digest for {image}"
    return ""


def _staleness(entry: Mapping[str, Any], now: datetime, age: timedelta) -> str:
    text = entry.get("checkedAt")
    if not text and entry.get("verdict") not in _PROVEN:
        return ""  # the evidence claims nothing, so it needs no time
    checked = moment(text)
    if checked is None:
        return f"it has no valid time ({text!r})"
    if checked > now + CLOCKS_DIFFER:
        return f"its time is in the future ({text})"
    if now - checked > age:
        return f"it is {(now - checked) / timedelta(days=1):.1f} days old ({text})"
    return ""


def _why_not(entry: Mapping[str, Any]) -> str:
    blocking = entry.get("blocking")
    first = blocking[0] if isinstance(blocking, list) and blocking else None
    if not isinstance(first, dict):
        return f"its images are {entry.get('verdict')}"
    reason = f": {first['reason']}" if first.get("reason") else ""
    return f"{first.get('image')} is {first.get('verdict')}{reason}"
