"""Whether a configuration may be deployed: what is deployed now, what comes, and which gate decides. Pure.

The gate that decides about a step up is that of the deployed configuration. So a change cannot loosen or
remove the gate that judges it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.ramp.schedule import same_ratio

COMMIT: Final = "ARCHSHIFT_COMMIT"
"""The environment variable with the commit that an update deploys. The pipeline sets it."""

DIGEST: Final = "ARCHSHIFT_CONFIG"
"""The environment variable with the hash of the configuration that was checked. The pipeline sets it."""

OUTPUT: Final = "commit"
"""The stack's output with the commit that was deployed last; missing after an update by hand."""

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What the stack's state says of its last update.

    Attributes:
        ratio: Its arm_ratio; None for a stack that was never deployed.
        commit: Its commit; empty if an update by hand came last.
    """

    ratio: float | None = None
    commit: str = ""

    @property
    def measurable(self) -> bool:
        """Whether pods run on Graviton, so that the gate can measure them."""
        return self.ratio is not None and self.ratio > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a commit's configuration says.

    Attributes:
        ratio: Its arm_ratio.
        gated: Whether it has ``archshift:gate``.
    """

    ratio: float
    gated: bool


def read_outputs(outputs: Mapping[str, Any]) -> Deployed:
    """Return what the stack's outputs say of its last update.

    Raises:
        ArchshiftError: The outputs have an arm_ratio that is not a number from 0 to 1.
    """
    if "arm_ratio" not in outputs:
        return Deployed()
    ratio, commit = outputs["arm_ratio"], outputs.get(OUTPUT)
    try:
        share = float(ratio) if isinstance(ratio, int | float | str) and not isinstance(ratio, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArchshiftError(
            f"the stack's output arm_ratio, {str(ratio)[:40]!r}, is not a number from 0.0 to 1.0",
            "deploy the stack by hand once",
        )
    known = isinstance(commit, str) and _COMMIT.fullmatch(commit)
    return Deployed(ratio=share, commit=str(commit) if known else "")


def commit_of(environment: Mapping[str, str]) -> str:
    """Return the commit that this update deploys; empty for an update by hand.

    Raises:
        ArchshiftError: The variable has another value.
    """
    commit = environment.get(COMMIT, "")
    if commit and not _COMMIT.fullmatch(commit):
        raise ArchshiftError(f"{COMMIT}: {commit[:80]!r} is not the full hash of a commit", "unset it")
    return commit


def check_digest(environment: Mapping[str, str], digest: str) -> None:
    """Check that the program got the configuration that ``archshift deployment check`` allowed.

    Raises:
        ArchshiftError: It got another one.
    """
    wanted = environment.get(DIGEST, "")
    if wanted and wanted != digest:
        raise ArchshiftError(
            "pulumi gives the program another configuration than archshift deployment check has read",
            "write each key once in Pulumi.yaml and the stack's file, and set no PULUMI_CONFIG",
        )


def is_step_up(deployed: Deployed, new: Configured) -> bool:
    """Return whether a configuration moves more pods to Graviton than are measurable there now."""
    ratio = deployed.ratio
    return ratio is not None and ratio > 0 and new.ratio > ratio and not same_ratio(new.ratio, ratio)


def why_no_step(deployed: Deployed, old: Configured | None, new: Configured) -> str:
    """Explain why a step up is refused before any gate is asked; empty if the old gate decides, or none is.

    Args:
        deployed: What is deployed.
        old: The configuration of the deployed commit; None if that is not known.
        new: The configuration that comes.
    """
    if old is None:
        return (
            f"nobody recorded from which commit arm_ratio {deployed.ratio:g} was deployed; set arm_ratio to "
            f"{deployed.ratio:g}, let this pipeline deploy that, and continue from there"
        )
    if deployed.ratio is None or not same_ratio(old.ratio, deployed.ratio):
        return (
            f"arm_ratio {deployed.ratio:g} is deployed, but its commit {deployed.commit[:12]} has "
            f"{old.ratio:g}; deploy arm_ratio {deployed.ratio:g} again"
        )
    if old.gated and not new.gated:
        return (
            "it removes archshift:gate and takes a step up; restore archshift:gate, or first deploy only its "
            f"removal, at arm_ratio {deployed.ratio:g}"
        )
    if new.gated and not old.gated:
        return (
            "it adds archshift:gate and takes a step up, so no gate measured the deployed ratio; first "
            f"deploy only the gate, at arm_ratio {deployed.ratio:g}"
        )
    return ""
