"""``archshift:monitoring``: where rules, alerts and a dashboard go."""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, field

from archshift.ramp.monitoring_rules import MonitoringSettings
from archshift.settings.reading import Model, default_of, says, use

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_LABEL_NAME: Final = (
    r"\A([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_LABEL_VALUE: Final = r"\A([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z"

Labels: TypeAlias = dict[
    Annotated[str, Meta(pattern=_LABEL_NAME, extra=use("the name of a Kubernetes label"))],
    Annotated[
        str, Meta(pattern=_LABEL_VALUE, extra=use('the value of a Kubernetes label in quotes, as in "1"'))
    ],
]


class MonitoringModel(Model, frozen=True, kw_only=True):
    """Rules for Prometheus and a dashboard for Grafana."""

    namespace: Annotated[
        str,
        Meta(
            pattern=r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z",
            extra=use("the name of a namespace: lower-case letters, digits and -"),
        ),
        says("The namespace from which Prometheus reads rules.", "monitoring"),
    ]
    labels: Annotated[
        Labels,
        says("Labels by which Prometheus selects its rules.", {"release": "kube-prometheus-stack"}),
    ] = {}
    dashboard_labels: Annotated[
        Labels, says("Labels by which Grafana selects its dashboards.", {"grafana_dashboard": "1"})
    ] = field(default_factory=lambda: dict(default_of(MonitoringSettings, "dashboard_labels")))

    def monitoring(self) -> MonitoringSettings:
        """Return where rules and dashboard go."""
        return MonitoringSettings(
            namespace=self.namespace, labels=self.labels, dashboard_labels=self.dashboard_labels
        )
