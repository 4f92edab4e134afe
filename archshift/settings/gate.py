"""``archshift:gate``: how the gate judges a step by measurements from Prometheus."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from msgspec import Meta

from archshift.common.errors import ArchshiftError
from archshift.ramp.figures import FIGURES, Figure, Tolerance, WorkloadTolerances
from archshift.ramp.gate import GateSettings
from archshift.ramp.prometheus import TOKEN
from archshift.ramp.promql import AppMetrics
from archshift.settings.reading import (
    InvalidValueError,
    Model,
    Problems,
    invalid,
    join,
    read,
    says,
    shown,
    use,
)
from archshift.settings.times import Length
from archshift.settings.values import Ratio, Samples

_DEFAULTS: Final = GateSettings()
_METRICS: Final = AppMetrics()

_METRIC_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_MATCHER: Final = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\\n{}]*"'


class Address(str):
    """The address of a Prometheus, without a slash at its end."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return "an address such as https://prometheus.example"

    @classmethod
    def parse(cls, value: Any) -> "Address":
        """Return the address.

        Raises:
            ValueError: It is none, or has more in it than an address.
        """
        import httpx2

        if not isinstance(value, str):
            raise ValueError
        try:
            parsed = httpx2.URL(value)
        except httpx2.InvalidURL:
            raise ValueError from None
        if parsed.userinfo:
            # The message leaves out the address, because it contains a password.
            raise InvalidValueError(
                "", f"the address of {parsed.host} has a user in it", f"give credentials as {TOKEN}"
            )
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
            raise ValueError
        return cls(str(parsed).rstrip("/"))


class _Window(Length):
    __slots__ = ()
    least: ClassVar = timedelta(minutes=15)
    most: ClassVar = timedelta(weeks=2)
    example: ClassVar = "24h"


class _Soak(Length):
    __slots__ = ()
    most: ClassVar = timedelta(weeks=8)
    example: ClassVar = "5d"


class FigureName(str):
    """The name of a figure."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return f"one of the figures {', '.join(FIGURES)}"

    @classmethod
    def parse(cls, value: Any) -> "FigureName":
        """Return the name; raises ValueError where there is no such figure."""
        if value not in tuple(FIGURES):
            raise ValueError
        return cls(value)


class ToleranceModel(Model, frozen=True, kw_only=True):
    """By how much a figure may be worse on Graviton than on x86.

    A number of events is per pod and day. A share is absolute for errors and throttling. For all other
    figures it is relative (0.1 is 10 % more).
    """

    hold: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None,
        says(
            "If a figure is worse by more than this, its verdict is hold.",
            0.2,
            default="by figure, see [gate.md](gate.md)",
        ),
    ] = None
    step_back: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None,
        says(
            "If a figure is worse by more than this, it counts as much worse. It must not be below `hold`.",
            0.5,
            default="by figure, see [gate.md](gate.md)",
        ),
    ] = None

    def tolerance(self, key: str, figure: Figure) -> Tolerance:
        """Return the tolerance of a figure.

        Raises:
            ArchshiftError: A share is above 1.0, or step_back is below hold.
        """
        for name, number in (("hold", self.hold), ("step_back", self.step_back)):
            if figure.unit == "share" and number is not None and number > 1:
                raise ArchshiftError(f"{key}.{name}: {number:g} is invalid", "use a share from 0.0 to 1.0")
        default = figure.tolerance
        tolerance = Tolerance(
            default.hold if self.hold is None else self.hold,
            default.step_back if self.step_back is None else self.step_back,
        )
        if tolerance.step_back < tolerance.hold:
            raise ArchshiftError(
                f"{key}: step_back {tolerance.step_back:g} is less than hold {tolerance.hold:g}",
                "raise step_back or lower hold",
            )
        return tolerance


Tolerances: TypeAlias = dict[str, ToleranceModel]


class GateWorkloadModel(Model, frozen=True, kw_only=True):
    """Settings for one workload, which replace the general ones."""

    tolerances: Annotated[
        Tolerances, says("Tolerances of its own, by figure.", {"latency_p95": {"hold": 0.2}})
    ] = {}
    min_samples: Annotated[
        Samples | None, says("Requests that it needs.", 20, default="the number of the gate")
    ] = None
    skip: Annotated[
        bool | tuple[FigureName, ...],
        Meta(extra=use("true for all figures, or a list of figures")),
        says("Figures that are not judged; true for all.", ["latency_p95"], default="none"),
    ] = False
    reason: Annotated[
        str, says("Why figures are skipped; `skip` needs it.", "a batch job", default="none")
    ] = ""

    def __post_init__(self) -> None:
        if self.skip and not self.reason.strip():
            raise InvalidValueError(
                "skip", "nobody judges these figures, so a reason is required", "add reason: with text"
            )

    def tolerances_of(self, key: str) -> WorkloadTolerances:
        """Return the settings of the workload.

        Raises:
            SettingsError: Tolerances are invalid.
        """
        skip = FIGURES if self.skip is True else self.skip or ()
        return WorkloadTolerances(
            tolerances=_tolerances(f"{key}.tolerances", self.tolerances),
            min_samples=self.min_samples,
            skip=frozenset(skip),
            reason=self.reason.strip(),
        )


class MetricsModel(Model, frozen=True, kw_only=True):
    """The names of the applications' own metrics."""

    latency: Annotated[
        str,
        Meta(
            pattern=rf"\A({_METRIC_NAME})?\Z",
            extra=use('the name of a histogram without _bucket, or "" for none'),
        ),
        says("A histogram of the latency in seconds.", "http_server_duration_seconds"),
    ] = _METRICS.latency
    requests: Annotated[
        str,
        Meta(pattern=rf"\A({_METRIC_NAME})?\Z", extra=use('the name of a counter, or "" for none')),
        says("A counter of requests.", "http_server_requests_total"),
    ] = _METRICS.requests
    errors: Annotated[
        str,
        Meta(pattern=rf"\A{_MATCHER}\Z", extra=use('a label matcher such as code=~"5.."')),
        says("Which of the requests failed.", 'status="error"'),
    ] = _METRICS.errors


class GateModel(Model, frozen=True, kw_only=True):
    """How archshift judges a step."""

    prometheus: Annotated[
        Address, says("The address of Prometheus.", "https://prometheus.prod.example", default="none")
    ] = Address()
    window: Annotated[
        _Window,
        says(
            "The length of time that archshift compares. It ends now and never begins before the last step.",
            "12h",
        ),
    ] = _Window(f"{_DEFAULTS.window // timedelta(hours=1)}h")
    soak: Annotated[
        _Soak | None,
        says(
            "How long a step lasts before the next.",
            "3d",
            default="`archshift:ramp.soak`, or 24h without a ramp",
        ),
    ] = None
    min_samples: Annotated[
        Samples, says("Requests that both sides need before latency and errors are judged.", 100)
    ] = _DEFAULTS.min_samples
    tolerances: Annotated[
        Tolerances,
        says("By how much a figure may be worse on Graviton, by figure.", {"latency_p95": {"hold": 0.2}}),
    ] = {}
    workloads: Annotated[
        dict[str, GateWorkloadModel],
        says(
            "Settings for single workloads, which replace the general ones, by namespace/Kind/name.",
            {"shop/Deployment/search": {"min_samples": 20}},
        ),
    ] = {}
    step_back_share: Annotated[
        Ratio,
        says(
            "If much worse workloads have more than this share of the pods on Graviton, the verdict is "
            "step-back.",
            0.5,
        ),
    ] = Ratio(_DEFAULTS.step_back_share)
    metrics: Annotated[
        MetricsModel,
        says(
            "The names of the applications' metrics.",
            {"requests": "requests_total"},
            default="the defaults in [archshift:gate.metrics](#archshiftgatemetrics)",
        ),
    ] = MetricsModel()
    selector: Annotated[
        str,
        Meta(
            pattern=rf"\A({_MATCHER}(\s*,\s*{_MATCHER})*)?\Z",
            extra=use('label matchers such as cluster="prod"'),
        ),
        says(
            "Label matchers for every series, where one Prometheus has several clusters.",
            'cluster="prod"',
            default="none",
        ),
    ] = _DEFAULTS.selector
    evidence: Annotated[
        str,
        says(
            "The file of the evidence, from the folder of Pulumi.yaml.",
            "proof.json",
            default="gates/STACK.json",
        ),
    ] = _DEFAULTS.evidence

    def __post_init__(self) -> None:
        if self.evidence.startswith("/") or ".." in self.evidence.split("/"):
            raise InvalidValueError(
                "evidence",
                f"{shown(self.evidence)} leads out of the folder of Pulumi.yaml",
                "use a path within it",
            )

    def settings(self, key: str) -> GateSettings:
        """Return how the gate judges.

        Raises:
            SettingsError: Tolerances are invalid.
        """
        problems = Problems()
        tolerances: Mapping[str, Tolerance] = {}
        workloads: dict[str, WorkloadTolerances] = {}
        with problems.collected():
            tolerances = _tolerances(f"{key}.tolerances", self.tolerances)
        for name, workload in self.workloads.items():
            with problems.collected():
                workloads[name] = workload.tolerances_of(join(f"{key}.workloads", name))
        problems.check()
        metrics = self.metrics
        return GateSettings(
            prometheus=str(self.prometheus),
            window=self.window.elapsed,
            soak=self.soak.elapsed if self.soak else None,
            min_samples=self.min_samples,
            tolerances=tolerances,
            workloads=workloads,
            step_back_share=float(self.step_back_share),
            metrics=AppMetrics(latency=metrics.latency, requests=metrics.requests, errors=metrics.errors),
            selector=self.selector,
            evidence=self.evidence,
        )


def _tolerances(key: str, models: Mapping[str, ToleranceModel]) -> dict[str, Tolerance]:
    problems = Problems()
    tolerances = {}
    for name, model in models.items():
        if name not in FIGURES:
            problems.errors.append(invalid(key, name, FigureName.use()))
            continue
        with problems.collected():
            tolerances[name] = model.tolerance(f"{key}.{name}", FIGURES[name])
    problems.check()
    return tolerances


def check_url(key: str, url: str) -> str:
    """Return the address of a Prometheus without a slash at its end.

    Raises:
        SettingsError: It is none, or has more in it than an address.
    """
    return str(read(Address, key, url))
