"""``archshift:workloads``: which workloads archshift reads, and rules for single workloads."""

from typing import Annotated, Final

from msgspec import Meta

from archshift.cluster.autoscalers import SETTING
from archshift.cluster.model import Autoscaler, Discovery
from archshift.common.kubernetes import SYSTEM_NAMESPACES
from archshift.plan.apportion import Wave
from archshift.plan.model import Rules
from archshift.settings.reading import InvalidValueError, Model, says, use
from archshift.settings.values import Names, Ratio, Replicas, WorkloadKey

ALL_BUT_SYSTEM: Final = f"all but {', '.join(f'`{name}`' for name in SYSTEM_NAMESPACES)}"
"""The default of ``archshift:workloads`` and of its namespaces, for people."""

_DISCOVERY: Final = Discovery()
_RULES: Final = Rules()


class RuleModel(Model, frozen=True, kw_only=True):
    """Settings for one workload."""

    hold: Annotated[bool, says("Keep the workload on x86.", True)] = _RULES.hold
    max_ratio: Annotated[Ratio, says("The most of its pods that may run on Graviton.", 0.5)] = Ratio(
        _RULES.max_ratio
    )
    wave: Annotated[
        Wave | None,
        says("Move the workload before or after all others.", "late", default="its place in the fleet"),
    ] = None
    force: Annotated[bool, says("Take placement fields from their owner; needs `reason`.", True)] = (
        _RULES.force
    )
    steer_owned: Annotated[
        bool,
        says("Steer the workload although another controller writes it or uses its template.", True),
    ] = _RULES.steer_owned
    reason: Annotated[
        str,
        says("The reason. archshift shows it beside the workload.", "JIT is slow on arm64", default="none"),
    ] = _RULES.reason

    def __post_init__(self) -> None:
        if self.force and not self.reason.strip():
            raise InvalidValueError(
                "force",
                "true takes fields from their owner, so a reason is required",
                "add reason: with text",
            )

    def rules(self) -> Rules:
        """Return the rules of the workload."""
        return Rules(
            hold=self.hold,
            max_ratio=float(self.max_ratio),
            wave=self.wave,
            force=self.force,
            steer_owned=self.steer_owned,
            reason=self.reason,
        )


class AutoscaledModel(Model, frozen=True, kw_only=True):
    """What changes the replicas of one workload, if no object in the cluster says so."""

    min_replicas: Annotated[
        Replicas | None, says("The fewest replicas that it sets.", 2, default="not known")
    ] = None
    max_replicas: Annotated[
        Replicas | None, says("The most replicas that it sets.", 20, default="not known")
    ] = None

    def __post_init__(self) -> None:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and least > most:
            raise InvalidValueError("max_replicas", f"{most} is less than min_replicas ({least})", "raise it")

    def autoscaler(self) -> Autoscaler:
        """Return what the settings say."""
        return Autoscaler(by=SETTING, least=self.min_replicas, most=self.max_replicas)


class WorkloadsModel(Model, frozen=True, kw_only=True):
    """Which workloads archshift reads, and rules for single ones."""

    namespaces: Annotated[
        Names, says("Only these namespaces.", ["shop", "platform"], default=ALL_BUT_SYSTEM)
    ] = _DISCOVERY.namespaces
    label_selector: Annotated[
        str,
        Meta(extra=use("a label selector such as team=shop")),
        says("Only workloads with these labels.", "team=shop", default="all"),
    ] = _DISCOVERY.label_selector
    exclude: Annotated[
        tuple[WorkloadKey, ...],
        Meta(extra=use("a list of namespace/Kind/name")),
        says("Workloads to leave out, by namespace/Kind/name.", ["shop/Deployment/legacy"], default="none"),
    ] = ()
    overrides: Annotated[
        dict[WorkloadKey, RuleModel],
        says(
            "Rules for single workloads, by namespace/Kind/name.",
            {"shop/Deployment/legacy": {"hold": True, "reason": "JIT is slow on arm64"}},
        ),
    ] = {}

    autoscaled: Annotated[
        dict[WorkloadKey, AutoscaledModel],
        says(
            "Workloads whose replicas an autoscaler changes, by namespace/Kind/name. archshift reads "
            "HorizontalPodAutoscalers and KEDA's ScaledObjects itself, so list only others.",
            {"shop/Deployment/web": {"min_replicas": 2, "max_replicas": 20}},
            document="docs/placement.md",
        ),
    ] = {}

    def discovery(self) -> Discovery:
        """Return which workloads archshift reads."""
        return Discovery(
            namespaces=self.namespaces,
            exclude=frozenset(self.exclude),
            label_selector=self.label_selector,
            autoscaled={key: model.autoscaler() for key, model in self.autoscaled.items()},
        )

    def rules(self) -> dict[str, Rules]:
        """Return the rules, by workload."""
        return {name: model.rules() for name, model in self.overrides.items()}
