"""Every key of ``archshift:*``, each declared once: its type, range, default and description.

``python -m tools.settings_reference`` writes Pulumi.yaml's part, the README's table and docs/settings.md from
these declarations.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from archshift.nodes.instance_types import graviton_families
from archshift.nodes.node_pools import Provisioner
from archshift.plan.model import Placement
from archshift.settings.arm64_tests import Arm64TestsModel
from archshift.settings.cluster import ClusterModel
from archshift.settings.cost import CostModel
from archshift.settings.exceptions import BreakGlassModel, PolicyExceptionModel
from archshift.settings.gate import GateModel
from archshift.settings.images import ImagesModel
from archshift.settings.monitoring import MonitoringModel
from archshift.settings.node_groups import EksGroupModel, LabGroupModel
from archshift.settings.node_pools import PoolModel
from archshift.settings.ramp import RampModel
from archshift.settings.reading import Model, says, use
from archshift.settings.rollouts import RolloutsModel
from archshift.settings.values import Ratio
from archshift.settings.workloads import ALL_BUT_SYSTEM, WorkloadsModel

RENAMED_KEYS: Final[Mapping[str, str]] = {"compat_test": "arm64_tests", "override": "policy_exception"}
"""Old key to new key; an old key is an error that names the new one."""

NODE_GROUP_MODELS: Final = (EksGroupModel, PoolModel, LabGroupModel)
"""The kinds of groups in ``node_groups``; ``platform`` and ``provisioner`` decide which kind is valid."""


class GravitonFamily(str):
    """The name of a Graviton family."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return f"a Graviton family: {', '.join(graviton_families())}"

    @classmethod
    def parse(cls, value: Any) -> "GravitonFamily":
        """Return the name; raises ValueError where there is no such family."""
        if value not in graviton_families():
            raise ValueError
        return cls(value)


class StackModel(Model, frozen=True, kw_only=True):
    """A stack's settings."""

    arm_ratio: Annotated[
        Ratio, says("The share of the fleet's pods on Graviton. This is the number that moves weekly.", "0.2")
    ]
    kube_context: Annotated[
        str, says("The kubeconfig context of the cluster.", "my-cluster", default="the current one")
    ] = ""
    cluster_uid: Annotated[
        str,
        says(
            "The uid of the cluster's namespace `kube-system`. Set it when the stack's cluster was rebuilt: "
            "archshift stops if the kubeconfig reaches another cluster.",
            "6a0c9f1e-3f0b-4c8e-9d53-2f1f6a7b8c9d",
            default="the cluster of the stack's first update",
        ),
    ] = ""
    platform: Annotated[
        Literal["eks", "lab"],
        says("Where archshift makes node groups: `eks`, or `lab` for simulated nodes.", "lab"),
    ] = "eks"
    provisioner: Annotated[
        Provisioner,
        says(
            "What brings up nodes: `managed` for the node groups themselves. With `karpenter` or `auto-mode` "
            "(EKS Auto Mode) the node groups are NodePools.",
            "karpenter",
            document="docs/runbook.md",
        ),
    ] = "managed"
    cluster: Annotated[
        ClusterModel | None,
        says(
            "The EKS cluster of the node groups.",
            {"name": "prod", "subnets": ["subnet-0a1b2c3d", "subnet-0b1c2d3e"]},
            default="none",
        ),
    ] = None
    node_groups: Annotated[
        dict[str, Any],
        says(
            "The node groups that archshift manages, by name. Their keys depend on `platform` and "
            "`provisioner`.",
            {
                "x86": {"instance_types": ["t3.large"], "min_size": 5},
                "graviton": {"twin_of": "x86", "min_size": 3},
            },
            default="none",
        ),
    ] = {}
    graviton_families: Annotated[
        tuple[GravitonFamily, ...],
        Meta(extra=use("a list of Graviton families")),
        says(
            "The instance families that `twin_of` chooses from.",
            ["c7g", "m7g", "r7g"],
            default="all up to the 8th generation",
        ),
    ] = ()
    workloads: Annotated[
        WorkloadsModel,
        says(
            "Which workloads archshift reads, and rules for single ones.",
            {"namespaces": ["shop"]},
            default=ALL_BUT_SYSTEM,
        ),
    ] = WorkloadsModel()
    placement: Annotated[
        Placement,
        says(
            "How pods are placed: `patches` changes pod templates, so each step restarts all pods of the "
            "workloads that it moves. With `admission`, the API server places pods when they are created, "
            "and a step restarts only the pods that move. It needs Kubernetes 1.36.",
            "admission",
            document="docs/placement.md",
        ),
    ] = "patches"
    rollouts: Annotated[
        RolloutsModel,
        says(
            "How long an update waits for the rollouts that it starts.",
            {"longest_seconds": 3600},
            default="while they make progress, 4 hours at most",
            document="docs/runbook.md#when-a-rollout-is-stuck",
        ),
    ] = RolloutsModel()
    images: Annotated[
        ImagesModel,
        says(
            "How images are checked for arm64.",
            {"deep": True},
            default="checked",
            document="docs/images.md",
        ),
    ] = ImagesModel()
    arm64_tests: Annotated[
        Arm64TestsModel,
        says(
            "Which workloads are tested on arm64 before their first Graviton pod.",
            {"all": True},
            default="none",
            document="docs/arm64-tests.md",
        ),
    ] = Arm64TestsModel()
    ramp: Annotated[
        RampModel | None,
        says(
            "The steps of `arm_ratio` and their dates.",
            {"start": "2026-03-02"},
            default="none",
            document="docs/ramp.md",
        ),
    ] = None
    gate: Annotated[
        GateModel,
        says(
            "How figures from Prometheus decide about a step.",
            {"prometheus": "https://prometheus.prod.example"},
            default="none",
            document="docs/gate.md",
        ),
    ] = GateModel()
    monitoring: Annotated[
        MonitoringModel | None,
        says(
            "Rules, alerts and a dashboard by workload and architecture.",
            {"namespace": "monitoring"},
            default="none",
            document="docs/monitoring.md",
        ),
    ] = None
    cost: Annotated[
        CostModel,
        says(
            "What nodes cost, where the list prices are not what you pay.",
            {"discounts": {"all": 0.05}},
            default="list prices",
            document="docs/cost.md",
        ),
    ] = CostModel()
    break_glass: Annotated[
        BreakGlassModel | None,
        says(
            "Lets you remove x86 nodes although something needs them, for 24 hours at most.",
            {"until": "2026-03-02T18:00:00Z", "reason": "the region is lost", "ticket": "OPS-7"},
            default="none",
            document="docs/guard.md",
        ),
    ] = None
    policy_exception: Annotated[
        PolicyExceptionModel | None,
        says(
            "An exception from one rule of the policy pack that ends by itself.",
            {"rule": "arm-ratio-step", "reason": "agreed with the owners", "until": "2026-03-02T18:00:00Z"},
            default="none",
            document="docs/guard.md#a-policy-exception",
        ),
    ] = None
