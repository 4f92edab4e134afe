"""What the stack's state says of images, and what a preview says and stops."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import Autoscaler, Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, UNKNOWN, ImageVerdict, Verdict
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan.model import DaemonSetBlocker, Plan, PlannedWorkload
from components.image_audit import ImageAudit, ImageAuditArgs, evidence_values
from components.preflight import report
from tests.build import deployment, plan_node, planned
from tests.components.recorder import record

Logged = Callable[[Plan, ClusterEvidence | None], list[tuple[str, str]]]

DIGEST = "sha256:" + "a" * 64
BLOCKER = DaemonSetBlocker(
    "shop/DaemonSet/log",
    "would start on Graviton nodes and agent:2 is amd64-only: container log: why",
    steered=True,
)


def image(name: str, verdict: Verdict, hour: int = 12) -> ImageVerdict:
    """The verdict on an image, found at this hour and a bit."""
    digest = "" if verdict == UNKNOWN else DIGEST
    when = datetime(2026, 3, 1, hour, 30, 15, 999_999, tzinfo=UTC)
    return ImageVerdict(name, verdict, (), digest, "HTTP 503" if verdict == UNKNOWN else "", when)


EVIDENCE = ClusterEvidence(
    {
        "shop/Deployment/cart": WorkloadVerdict(
            "shop/Deployment/cart",
            MULTI_ARCH,
            (),
            (image("cart:1", MULTI_ARCH, 12), image("mesh:2", MULTI_ARCH, 9), image("log:1", MULTI_ARCH, 10)),
        ),
        "shop/Deployment/pay": WorkloadVerdict(
            "shop/Deployment/pay",
            AMD64_ONLY,
            (
                Blocking("pay", "pay:1", AMD64_ONLY, "container pay: its image has linux/amd64"),
                Blocking("vault", "vault:3", UNKNOWN, "init vault: HTTP 503"),
            ),
            (image("pay:1", AMD64_ONLY), image("vault:3", UNKNOWN)),
        ),
        "shop/Pod/debug": WorkloadVerdict(
            "shop/Pod/debug", UNKNOWN, (Blocking("", "", UNKNOWN, "it has no containers"),), ()
        ),
    },
    ("pull secret shop/robot was not used: not allowed",),
)

INVENTORY = Inventory(
    workloads={
        one.key: one
        for one in (
            # Room is kept for what an autoscaler may ask for, and for one of what is scaled to zero.
            Workload(
                "shop",
                "Deployment",
                "cart",
                3,
                Template(),
                Resources(250, 64),
                autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=9),
            ),
            Workload("shop", "Deployment", "pay", 0, Template(), Resources(100, 32)),
        )
    },
    unsteered_workloads={
        "shop/Pod/debug": Workload("shop", "Pod", "debug", 2, Template(), Resources(10, 16))
    },
)

VALUES = {
    "shop/Deployment/cart": {
        "verdict": "multi-arch",
        "blocking": [],
        "images": [
            {"image": name, "digest": DIGEST, "verdict": "multi-arch"}
            for name in ("cart:1", "mesh:2", "log:1")
        ],
        "checkedAt": "2026-03-01T09:30:15+00:00",
        "pods": 9,
        "requests": {"millicpu": 250, "memory": 64},
    },
    "shop/Deployment/pay": {
        "verdict": "amd64-only",
        "blocking": [
            {
                "container": "pay",
                "image": "pay:1",
                "verdict": "amd64-only",
                "reason": "container pay: its image has linux/amd64",
            },
            {
                "container": "vault",
                "image": "vault:3",
                "verdict": "unknown",
                "reason": "init vault: HTTP 503",
            },
        ],
        "images": [
            {"image": "pay:1", "digest": DIGEST, "verdict": "amd64-only"},
            {"image": "vault:3", "digest": "", "verdict": "unknown"},
        ],
        "checkedAt": "2026-03-01T12:30:15+00:00",
        "pods": 1,
        "requests": {"millicpu": 100, "memory": 32},
    },
    "shop/Pod/debug": {
        "verdict": "unknown",
        "blocking": [{"container": "", "image": "", "verdict": "unknown", "reason": "it has no containers"}],
        "images": [],
        "checkedAt": "",
        "pods": 2,
        "requests": {"millicpu": 10, "memory": 16},
    },
}


def test_the_evidence_is_in_the_state_as_plain_values() -> None:
    """Policies and reports read it in a preview: every value is known, and nothing else is registered."""
    done = record(lambda: ImageAudit("images", ImageAuditArgs(evidence=EVIDENCE, inventory=INVENTORY)))
    (component,) = done.registered
    assert (component.type, component.name, component.inputs) == (
        "archshift:index:ImageAudit",
        "images",
        {},
    )
    assert done.outputs["images"] == {"workloads": VALUES}


def test_evidence_is_as_old_as_its_oldest_part() -> None:
    """checkedAt is what a policy on the evidence's age has to look at, in UTC and to the second."""
    assert evidence_values(EVIDENCE, INVENTORY) == VALUES


@pytest.mark.parametrize(
    ("spec", "tolerates", "reaches"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"node-selector": {"kubernetes.io/arch": "amd64"}}, True, False),
        ({"node-selector": {"disk": "gpu"}}, True, False),
    ],
    ids=["tolerates all", "tolerates no taint", "pins amd64", "selects other nodes"],
)
def test_of_a_daemonset_it_is_stated_whether_it_reaches_graviton(
    spec: dict[str, Any], tolerates: bool, reaches: bool
) -> None:
    """By its own rules and the nodes' taints; a policy lets one pass that starts on none. Without Graviton
    nodes to ask, nothing is stated.
    """
    everything: tuple[Mapping[str, Any], ...] = ({"operator": "Exists"},) if tolerates else ()
    agent = Workload("infra", "DaemonSet", "agent", 0, Template(spec=spec), tolerations=everything)
    evidence = ClusterEvidence({agent.key: WorkloadVerdict(agent.key, "unknown", (), ())})
    taint = Taint(key="team", effect="NoSchedule")
    nodes = [
        Node(name="x86-0", labels={"kubernetes.io/arch": "amd64", "disk": "gpu"}),
        Node(name="arm-0", labels={"kubernetes.io/arch": "arm64"}, taints=(taint,)),
    ]
    (stated,) = evidence_values(evidence, Inventory(workloads={agent.key: agent}), nodes).values()
    assert stated["reachesGraviton"] is reaches
    assert stated.get("pins") == (spec.get("node-selector") or {}).get("kubernetes.io/arch")
    (stated,) = evidence_values(evidence, Inventory(unsteered_workloads={agent.key: agent})).values()
    assert "reachesGraviton" not in stated


@pytest.mark.parametrize(
    ("selector", "running", "nodes", "served"),
    [
        ({}, 0, ("amd64", "arm64"), True),
        ({"kubernetes.io/arch": "arm"}, 0, ("amd64", "arm64"), False),
        ({"gpu": "true"}, 0, ("amd64",), False),
        # Its pods started under other rules.
        ({"gpu": "true"}, 1, ("amd64",), True),
        # Without x86 nodes there is nothing to compare with.
        ({"gpu": "true"}, 0, ("arm64",), True),
    ],
)
def test_the_evidence_says_what_no_x86_node_can_run(
    selector: dict[str, str], running: int, nodes: tuple[str, ...], served: bool
) -> None:
    """The policy pack sees no live nodes, so it learns here who has no x86 capacity to lose."""
    agent = deployment("agent", 0, kind="DaemonSet", template=Template(spec={"node-selector": selector}))
    there = Inventory(
        unsteered_workloads={agent.key: agent},
        nodes=tuple(plan_node(name, name) for name in nodes),
        pods={(agent.key, "amd64"): running},
    )
    evidence = ClusterEvidence({agent.key: WorkloadVerdict(agent.key, UNKNOWN, (), ())})
    (stated,) = evidence_values(evidence, there).values()
    assert stated.get("needsX86Room", True) is served


def test_unguarded_daemonsets_are_not_in_the_evidence() -> None:
    """Where nothing is guarded, they are judged for the plan only."""
    agent = deployment("agent", 0, kind="DaemonSet")
    evidence = ClusterEvidence({agent.key: WorkloadVerdict(agent.key, UNKNOWN, (), ())})
    outside = {agent.key: agent}
    assert evidence_values(evidence, Inventory(outside_daemonsets=outside)) == {}
    guarded = Inventory(outside_daemonsets=outside, unsteered_workloads=outside)
    assert list(evidence_values(evidence, guarded)) == [agent.key]


def test_a_cluster_of_nothing_has_empty_evidence() -> None:
    """The component is there all the same, so that its absence means that images are not checked."""
    done = record(
        lambda: ImageAudit("images", ImageAuditArgs(evidence=ClusterEvidence(), inventory=Inventory()))
    )
    assert done.outputs["images"] == {"workloads": {}}


def row(
    name: str, verdict: WorkloadVerdict | None, *, movable: bool = False, reason: str = "", **more: Any
) -> PlannedWorkload:
    return planned(name, 2, 0, verdict=verdict, movable=movable, reason=reason, **more)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Report a plan as the program does on EKS; what the engine was told, in order."""

    def run(plan: Plan, evidence: ClusterEvidence | None) -> list[tuple[str, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            record(lambda: report(plan, evidence, fixed_capacity=False))
        told = ("arm_ratio", "shop/", "2 of 2", "2 workloads with")
        return [
            (entry.levelname, entry.getMessage())
            for entry in caplog.records
            # What an event loop of another test says when it is collected is not the engine's.
            if entry.name != "asyncio"
            and (entry.levelno > logging.INFO or entry.getMessage().startswith(told))
        ]

    return run


def test_the_first_graviton_node_is_not_made_while_a_daemonset_would_break(logged: Logged) -> None:
    """The run stops before anything is registered; the sentence has every DaemonSet and both ways out."""
    plan = Plan(
        arm_ratio=0.1,
        blockers=(BLOCKER, DaemonSetBlocker("shop/DaemonSet/dns", "too", steered=True)),
        first_graviton_node=True,
    )
    with pytest.raises(ArchshiftError) as error:
        logged(plan, EVIDENCE)
    assert str(error.value) == (
        f"no Graviton node is created, because DaemonSets would break on it: {BLOCKER}; shop/DaemonSet/dns: "
        f"too; "
        "give them images for arm64, or the node selector kubernetes.io/arch: amd64 in their manifests, "
        "or set archshift:images.daemonsets: pin"
    )


def test_a_daemonset_that_is_not_steered_gets_no_advice_to_pin(logged: Logged) -> None:
    """archshift pins only what it steers."""
    blocker = replace(BLOCKER, steered=False)
    plan = Plan(arm_ratio=0.1, blockers=(blocker,), first_graviton_node=True)
    with pytest.raises(ArchshiftError) as error:
        logged(plan, EVIDENCE)
    assert str(error.value) == (
        f"no Graviton node is created, because DaemonSets would break on it: {blocker}; give them images for "
        "arm64, or the node selector kubernetes.io/arch: amd64 in their manifests"
    )


@pytest.mark.parametrize(("waits", "level"), [(True, "WARNING"), (False, "INFO")])
def test_nodes_that_take_no_pods_now_are_named(logged: Logged, waits: bool, level: str) -> None:
    """They stop no update. A warning only if a change waits for them."""
    note = "2 of 2 Graviton nodes take no pods now: cordoned, not ready or with a temporary taint"
    rows = (row("cart", None, action="keep", reason="waits"),) if waits else ()
    told = logged(Plan(arm_ratio=0.1, workloads=rows, node_notes=(note,)), EVIDENCE)
    assert (level, note) in told
    assert (("INFO", "shop/Deployment/cart: waits") in told) is waits


def test_later_nodes_are_not_stopped_and_the_blocker_is_a_warning(logged: Logged) -> None:
    """The damage, if any, is there already: a fleet must not be stuck half way for it."""
    told = logged(Plan(arm_ratio=0.1, blockers=(BLOCKER,)), ClusterEvidence())
    assert told[0] == ("WARNING", str(BLOCKER))
    assert told[1][1].startswith("arm_ratio 0.1: ")


def test_the_first_node_without_blockers_is_nothing_special(logged: Logged) -> None:
    """Only DaemonSets that would break stop it."""
    ((level, message),) = logged(Plan(arm_ratio=0.1, first_graviton_node=True), ClusterEvidence())
    assert level == "INFO"
    assert message.startswith("arm_ratio 0.1: ")


def test_what_is_held_and_what_was_not_seen_is_said(logged: Logged) -> None:
    """Notes warn; a held workload is a line with its reason; proven ones are silent; both totals."""
    cart, pay = (EVIDENCE.verdicts[f"shop/Deployment/{name}"] for name in ("cart", "pay"))
    rows = (
        row("cart", cart, movable=True),
        row("pay", pay, reason="held on x86: pay:1 is amd64-only"),
        row("unchecked", None, reason="left alone: its rollouts are paused (spec.paused)"),
    )
    assert logged(Plan(arm_ratio=0.5, workloads=rows), EVIDENCE) == [
        ("WARNING", "pull secret shop/robot was not used: not allowed"),
        ("INFO", "shop/Deployment/pay: held on x86: pay:1 is amd64-only"),
        (
            "INFO",
            "arm_ratio 0.5: 0 of 2 movable pods belong on Graviton (6 pods in all), 0 are there; "
            "0 workloads roll out",
        ),
    ]


def test_what_is_kept_or_refused_is_said(logged: Logged) -> None:
    """A refusal is a warning. What the owners do every day is only a line, once for each reason."""
    paused = "left alone: its rollouts are paused (spec.paused); its present placement stays"
    frozen = "left alone: the API server refuses its patch (a change freeze is on)"
    rows = (
        *(planned(name, 2, None, action="keep", reason=paused) for name in ("cart", "pay")),
        planned("frozen", 2, None, action="keep", reason=frozen),
        planned("new", 2, None, action="leave", reason=frozen),
        planned("pinned", 2, None, action="leave", reason="left alone: pins amd64 by its own nodeSelector"),
    )
    refused = dict.fromkeys(("shop/Deployment/frozen", "shop/Deployment/new"), "a change freeze is on")
    assert logged(Plan(arm_ratio=0.5, workloads=rows, refused=refused), EVIDENCE)[1:-1] == [
        (
            "WARNING",
            f"2 workloads with 4 pods do not move: {frozen}: shop/Deployment/frozen, shop/Deployment/new",
        ),
        (
            "INFO",
            f"2 workloads with 4 pods do not move: {paused}: shop/Deployment/cart, shop/Deployment/pay",
        ),
    ]


def test_a_stop_comes_after_the_notes(logged: Logged, caplog: pytest.LogCaptureFixture) -> None:
    """A secret that could not be read may be why a DaemonSet counts as unknown."""
    plan = Plan(arm_ratio=0.1, blockers=(BLOCKER,), first_graviton_node=True)
    with pytest.raises(ArchshiftError, match="no Graviton node is created"):
        logged(plan, EVIDENCE)
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING] == [
        "pull secret shop/robot was not used: not allowed"
    ]


def test_where_images_are_not_checked_nothing_is_said_of_them(logged: Logged) -> None:
    """In the lab with check: false."""
    told = logged(Plan(arm_ratio=0.5, workloads=(row("cart", None, movable=True),)), None)
    assert [level for level, _ in told] == ["INFO"]


def test_a_workload_that_only_x86_nodes_can_run_says_so() -> None:
    """Its images are proven, and a policy still has to keep x86 nodes for it."""
    bound = Workload("shop", "Deployment", "bound", 1, Template(spec={"node-selector": {"disk": "gpu"}}))
    evidence = ClusterEvidence({bound.key: WorkloadVerdict(bound.key, "multi-arch", (), ())})
    nodes = (
        Node(name="x86-0", labels={"kubernetes.io/arch": "amd64", "disk": "gpu"}),
        Node(name="arm-0", labels={"kubernetes.io/arch": "arm64"}),
    )
    found = Inventory(workloads={bound.key: bound}, nodes=nodes)
    (stated,) = evidence_values(evidence, found, nodes).values()
    assert stated["onlyX86"] == "no Graviton node matches its own node selector or affinity"
    (stated,) = evidence_values(evidence, found, ()).values()
    assert "onlyX86" not in stated
