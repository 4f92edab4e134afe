"""The deletion costs of pods: written after the pods of an update have moved, and removed in a destroy.

The engine runs the provider in a process of its own, in `pulumi destroy` without the program. The state names
the class by this module's name. So a renamed module could not delete what an older one made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from archshift.actions.deletion_costs import Written, give_back, write_costs
from archshift.actions.rollouts import StepResult
from archshift.cluster.access import Right, is_granted
from archshift.cluster.client import connect
from archshift.cluster.identity import is_cluster
from archshift.common.errors import ArchshiftError
from archshift.plan.deletion_costs import Proportion
from archshift.plan.model import Plan
from components import engine_text


class DeletionCostsProvider(ResourceProvider):
    """Writes the deletion costs of a stack, and gives them back."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Take the stack's configuration."""
        self._context = req.config.get("archshift:kube_context") or None

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Accept everything: the program has made it."""
        return CheckResult(news, [])

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Say whether there are costs to write or to give back.

        Costs that the API server refused last time are no change, as long as this user may not write them.
        Otherwise each preview would show a change that no update can make.
        """
        due = {key.partition("/")[0] for key in news.get("due") or ()}
        changes = bool(due) and not (due <= (olds.get("problems") or {}).keys() and self._may_not(due))
        return DiffResult(changes=changes, replaces=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Write the costs for the first time."""
        return CreateResult("deletion-costs", self._write(props))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Write the costs that are not right."""
        return UpdateResult(self._write(news))

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Give all costs back."""
        with connect(self._context) as cluster:
            # The pods of a cluster that was built anew have none.
            if is_cluster(cluster, props.get("cluster")):
                give_back(cluster, props["fieldManager"])

    def _may_not(self, namespaces: Iterable[str]) -> bool:
        """Return whether the API server says that this user may change no pods in these namespaces."""
        try:
            with connect(self._context) as cluster:
                rights = (Right("patch", "pods", namespace) for namespace in namespaces)
                return all(is_granted(cluster, right) is False for right in rights)
        except ArchshiftError:
            return False

    def _write(self, props: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: _proportion(*share) for key, share in (props.get("shares") or {}).items()}
        with connect(self._context) as cluster:
            ours = is_cluster(cluster, props.get("cluster"))
            done = write_costs(cluster, kept, props["fieldManager"]) if ours else Written()
        return {**props, "problems": dict(done.problems)}


def _proportion(graviton: float, replicas: float, fewest: float = 1, *mixed: bool) -> Proportion:
    # The engine's protocol knows only floats.
    return Proportion(int(graviton), int(replicas), int(fewest), mixed=any(mixed))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionCostsArgs:
    """Arguments of ``DeletionCosts``.

    Attributes:
        plan: The plan.
        field_manager: The stack's name for costs in ``managedFields``.
        cluster: The uid of the cluster.
        after: How the rollouts and the moves of this update end.
    """

    plan: Plan
    field_manager: str
    cluster: str
    after: Sequence[pulumi.Output[StepResult]]


class DeletionCosts(Resource, module="archshift", name="DeletionCosts"):
    """The deletion costs of a stack's pods."""

    TYPE: Final = "pulumi-python:dynamic/archshift:DeletionCosts"

    problems: pulumi.Output[Mapping[str, str]]
    """Namespace to why costs of its pods could not be changed."""

    def __init__(
        self, name: str, args: DeletionCostsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        shares = {key: list(astuple(share)) for key, share in args.plan.kept_shares.items()}
        inputs = {
            "shares": shares,
            "due": list(args.plan.costs_due),
            "fieldManager": args.field_manager,
            "cluster": args.cluster,
            # The engine waits for it: the pods get their costs where they are in the end.
            "ended": pulumi.Output.all(*args.after).apply(lambda _: True),
        }
        super().__init__(DeletionCostsProvider(), name, {**inputs, "problems": None}, opts)
        self.problems.apply(_warn)


def _warn(problems: Mapping[str, str] | None) -> None:
    for namespace, problem in sorted((problems or {}).items()):
        engine_text.warn(f"{namespace}: no deletion costs, so scaling down may change shares: {problem}")
