"""Whether a configuration may be deployed: what is deployed now, what comes, and which gate decides. Pure.

The gate that decides about a step up is that of the deployed configuration. So a change cannot loosen or
remove the gate that judges it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.ramp.schedule import same_ratio

COMMIT: Final = "ARCHSHIFT_COMMIT"
"""The environment variable with the commit that an update deploys. The pipeline sets it."""

DIGEST: Final = "ARCHSHIFT_CONFIG"
"""The environment variable with the hash of the configuration that was checked. The pipeline sets it."""

OUTPUT: Final = "commit"
"""The output with the commit, of the stack and of the component of the patches; missing after an update by
hand."""

CLUSTER: Final = "EKS_CLUSTER"
"""The environment variable with the cluster's name at EKS, for a stack without ``archshift:cluster``."""

_CLUSTER_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
_CONTEXT: Final = re.compile(r"[0-9A-Za-z_][^\s\x00-\x1f\x7f]{0,252}")

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


_STACK: Final = "pulumi:pulumi:Stack"
_WORKLOADS: Final = "archshift:index:WorkloadPatches"
_GATE: Final = "archshift:index:Gate"
"""The types of the resources whose outputs say what an update tried, also if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An update of the stack.

    Attributes:
        ratio: Its arm_ratio.
        commit: Its commit; empty for an update by hand.
    """

    ratio: float
    commit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What the stack's state says of its last updates.

    Attributes:
        last: The last update that ended well; None if there was none.
        failed: The update after it that moved pods and failed; None if there was none.
        gated: Whether the state has a required gate.
    """

    last: Update | None = None
    failed: Update | None = None
    gated: bool = False

    @property
    def base(self) -> Update | None:
        """The update whose gate judges the next step; None if no update has moved pods yet."""
        return self.last or self.failed

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates between which the pods are now."""
        return tuple(one for one in (self.last, self.failed) if one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a commit's configuration says.

    Attributes:
        ratio: Its arm_ratio.
        gated: Whether it has ``archshift:gate``.
    """

    ratio: float
    gated: bool


def read_state(resources: Iterable[Any]) -> Deployed:
    """Return what the stack's state says of its last updates.

    The program exports the stack's outputs only after an update that ended well. The component of the patches
    records its own outputs before the first pod moves.

    Args:
        resources: The resources of the state, as ``pulumi stack export`` prints them.

    Raises:
        ArchshiftError: An arm_ratio there is not a number from 0 to 1.
    """
    outputs = {
        resource.get("type"): resource["outputs"]
        for resource in resources
        if isinstance(resource, Mapping) and isinstance(resource.get("outputs"), Mapping)
    }
    last = _update(outputs.get(_STACK, {}), "arm_ratio")
    # Earlier versions recorded no commit there.
    recorded = {OUTPUT: last.commit if last else "", **outputs.get(_WORKLOADS, {})}
    tried = _update(recorded, "ratio")
    gated = _GATE in outputs and outputs[_GATE].get("required") is not False
    same = tried and last and tried.commit == last.commit and same_ratio(tried.ratio, last.ratio)
    return Deployed(last=last, failed=None if same else tried, gated=gated)


def _update(outputs: Mapping[str, Any], name: str) -> Update | None:
    if name not in outputs:
        return None
    ratio, commit = outputs[name], outputs.get(OUTPUT)
    try:
        share = float(ratio) if isinstance(ratio, int | float | str) and not isinstance(ratio, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArchshiftError(
            f"the stack's output {name}, {str(ratio)[:40]!r}, is not a number from 0.0 to 1.0",
            "deploy the stack by hand once",
        )
    known = isinstance(commit, str) and _COMMIT.fullmatch(commit)
    return Update(ratio=share, commit=str(commit) if known else "")


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


def is_higher(new: float, than: float) -> bool:
    """Return whether an arm_ratio is above another one."""
    return new > than and not same_ratio(new, than)


def why_no_step(base: Update, old: Configured | None, new: Configured) -> str:
    """Explain why a step up is refused before any gate is asked; empty if the old gate decides, or none is.

    Args:
        base: What is deployed.
        old: The configuration of the deployed commit; None if that is not known.
        new: The configuration that comes.
    """
    at = f"{base.ratio:g}"
    if old is None:
        return (
            f"nobody recorded from which commit arm_ratio {at} was deployed; check that commit out and run "
            f"{COMMIT}=$(git rev-parse HEAD) pulumi up, or let this pipeline deploy a lower arm_ratio"
        )
    if not same_ratio(old.ratio, base.ratio):
        return (
            f"arm_ratio {at} is deployed, but its commit {base.commit[:12]} has {old.ratio:g}; check out the "
            f"commit that is deployed and run {COMMIT}=$(git rev-parse HEAD) pulumi up"
        )
    if old.gated and not new.gated:
        return (
            "it removes archshift:gate and takes a step up; restore archshift:gate, or first deploy only its "
            f"removal, at arm_ratio {at}"
        )
    if new.gated and not old.gated:
        return (
            "it adds archshift:gate and takes a step up, so no gate measured the deployed ratio; first "
            f"deploy only the gate, at arm_ratio {at}"
        )
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Whether a stack differs from its last deployment.

    Attributes:
        answer: ``yes``, ``no``, or ``later`` if a deployment is due; empty if a command failed.
        changed: Whether the engine would change something, or a rule is violated.
        misplaced: Whether pods are not where they belong.
        trouble: Whether pods are pending or a rollout is stuck.
        maybe_scaled: Whether autoscalers alone may have caused it: no rule is violated, no pod is pending.
        failed: The command that failed; empty for none.
        code: Its exit code.
    """

    answer: str = ""
    changed: bool = False
    misplaced: bool = False
    trouble: bool = False
    maybe_scaled: bool = False
    failed: str = ""
    code: int = 0


def judge_drift(compared: int, preview: int | None, status: int | None) -> Drift:
    """Judge the exit codes of three commands.

    Args:
        compared: Of ``archshift deployment compare``. 3: the configured ratio is not deployed.
        preview: Of ``pulumi preview --expect-no-changes``. 5: a rule is violated. 7: there are changes. None
            if it did not run.
        status: Of ``archshift status``. 3: counts differ. 5: pods are pending, or a rollout is stuck. None
            if it did not run.
    """
    if compared == 3:
        return Drift(answer="later")
    for name, code, valid in (
        ("archshift deployment", compared, (0,)),
        ("pulumi preview", preview, (0, 5, 7)),
        ("archshift status", status, (0, 3, 5)),
    ):
        if code not in valid:
            return Drift(failed=name, code=-1 if code is None else code)
    changed, misplaced = preview != 0, status != 0
    answer = "yes" if changed or misplaced else "no"
    return Drift(
        answer=answer,
        changed=changed,
        misplaced=misplaced,
        trouble=status == 5,
        maybe_scaled=answer == "yes" and preview != 5 and status != 5,
    )


def names_of(config: Mapping[str, Mapping[str, Any]], named: str, stack: str) -> tuple[str, str]:
    """Return the name of a stack's cluster at EKS, and that of its kubeconfig context.

    The whole configuration is not read: its preview must be able to say what is invalid in it.

    Args:
        config: The entries, as ``pulumi config --json`` prints them.
        named: The cluster that the pipeline names; empty for none. It counts first.
        stack: The stack's name.

    Raises:
        ArchshiftError: There is no cluster, or a name would be an option or several words of a command.
    """
    of_cluster = config.get("archshift:cluster", {}).get("objectValue")
    own = of_cluster.get("name") if isinstance(of_cluster, Mapping) else None
    cluster = named or str(own or "")
    if not cluster:
        raise ArchshiftError(
            f"Pulumi.{stack.rpartition('/')[2]}.yaml has no archshift:cluster",
            f"set the environment's variable {CLUSTER} to the cluster's name in EKS",
        )
    context = str(config.get("archshift:kube_context", {}).get("value") or cluster)
    for key, name, pattern in (
        ("archshift:cluster.name", cluster, _CLUSTER_NAME),
        ("archshift:kube_context", context, _CONTEXT),
    ):
        if not pattern.fullmatch(name):
            raise ArchshiftError(
                f"{key}: the name {name[:80]!r} is invalid in a kubeconfig",
                "use a name without blanks that begins with a letter or a digit",
            )
    return cluster, context
