"""Surveys of made-up fleets, as the tests of the report have them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import Inventory, Load, Requests, Workload
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import AMD64, ARM64
from archshift.cost.bill import Tariff
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, UNKNOWN, ImageVerdict, Verdict
from archshift.images.workload import Blocking, Container, ImageUse, WorkloadVerdict
from archshift.nodes.groups import Node
from archshift.plan.arm64_tests import Arm64Test, Arm64TestState, Proof
from archshift.plan.guard import needs
from archshift.plan.model import Rules
from archshift.plan.planner import make_plan
from archshift.report.history import History, make_history
from archshift.report.report import Report, make_report
from archshift.report.savings import Savings, make_savings
from archshift.report.step_cost import comparisons
from archshift.settings.stack import Settings, load
from archshift.survey import Survey
from tests.objects import ARCH

AT = datetime(2026, 3, 30, 9, 30, tzinfo=UTC)
GIB = 1024**3
GROUPS = {
    "x86": {"instance_type": "m6i.xlarge", "size": 4},
    "graviton": {"instance_type": "m7g.xlarge", "size": 4},
}
RAMP = '{"start": "2026-03-09", "since": "2026-03-25T09:30:00+00:00", "time_zone": "UTC"}'


def settings(**config: str) -> Settings:
    """The settings of a stack of the lab at 0.5, with a group of each side."""
    values = {"arm_ratio": "0.5", "platform": "lab", "node_groups": json.dumps(GROUPS), **config}
    return load("prod", {f"archshift:{key}": value for key, value in values.items()}, {})


def workload(
    name: str, replicas: int = 2, *, millicpu: int = 500, owner: str = "", **values: Any
) -> Workload:
    """A Deployment of ``shop``, or what the values make of it."""
    base = Workload(
        namespace="shop",
        kind="Deployment",
        name=name,
        replicas=replicas,
        template=Template(),
        requests=Requests(millicpu, GIB),
        owner=owner,
    )
    return replace(base, **values)


def verdict(key: str, *images: tuple[str, str, Verdict]) -> WorkloadVerdict:
    """The evidence for a workload: (container, image, verdict) each; none for a proven yes."""
    blocking = tuple(
        Blocking(container, image, found, f"container {container}: why") for container, image, found in images
    )
    kinds = {found for _, _, found in images}
    whole: Verdict = AMD64_ONLY if AMD64_ONLY in kinds else UNKNOWN if kinds else MULTI_ARCH
    seen = tuple(
        ImageVerdict(image, found, ("linux/amd64",), "", "2.0 has arm64", AT) for _, image, found in images
    )
    return WorkloadVerdict(key, whole, blocking, seen)


def nodes(number: int = 4) -> tuple[Node, ...]:
    """Nodes of both groups."""
    kinds = (("x86", AMD64, "m6i.xlarge"), ("graviton", ARM64, "m7g.xlarge"))
    return tuple(
        Node(
            name=f"{group}-{index}",
            labels={
                ARCH: architecture,
                "archshift/node-group": group,
                "node.kubernetes.io/instance-type": kind,
                "topology.kubernetes.io/zone": "eu-west-1a",
            },
            millicpu=3920,
            memory=15 * GIB,
            pods=58,
        )
        for group, architecture, kind in kinds
        for index in range(number)
    )


def survey_of(
    stack: Settings,
    workloads: Sequence[tuple[Workload, int]],
    verdicts: Mapping[str, WorkloadVerdict] | None = None,
    *,
    unsteered: Sequence[tuple[Workload, int]] = (),
    loads: Mapping[str, Load] | None = None,
    tests: Arm64TestState | None = None,
    number: int = 4,
) -> Survey:
    """A survey of workloads of which some pods are on Graviton, the rest on x86.

    Args:
        stack: The settings.
        workloads: Each with the number of its pods on Graviton.
        verdicts: The evidence that is not a proven yes.
        unsteered: Workloads outside the discovery, each with the number of its pods on x86.
        loads: What runs on which node.
        tests: Tests on arm64.
        number: Nodes of each group.
    """
    state = tests or Arm64TestState()
    pods = {(one.key, ARM64): there for one, there in workloads}
    pods |= {(one.key, AMD64): one.replicas - there for one, there in workloads}
    pods |= {(one.key, AMD64): there for one, there in unsteered}
    inventory = Inventory(
        workloads={one.key: one for one, _ in workloads},
        nodes=nodes(number),
        pods=pods,
        unsteered_workloads={one.key: one for one, _ in unsteered},
        loads=loads or {},
    )
    known = {key: verdict(key) for key in (*inventory.workloads, *inventory.unsteered_workloads)} | dict(
        verdicts or {}
    )
    evidence = ClusterEvidence(known)
    rules = state.rules(stack.rules)
    return Survey(
        inventory=inventory,
        evidence=evidence,
        plan=make_plan(
            arm_ratio=stack.arm_ratio,
            inventory=inventory,
            rules=rules,
            groups=stack.groups,
            verdicts=known,
            pin_daemonsets=stack.images.daemonsets == "pin",
        ),
        needs=needs(inventory, known, state.strict_rules(stack.rules)) if stack.guarded else None,
        tests=state,
        rules=rules,
    )


def savings_of(stack: Settings, found: Survey, **rules: Any) -> Savings:
    """What moving saves in eu-west-1."""
    tariff = Tariff(region="eu-west-1", now=AT, rules=replace(stack.cost, **rules))
    return make_savings(stack.arm_ratio, comparisons(stack, found, 0.15), tariff, 0.15)


def version(ratio: object) -> bytes:
    """A stack's file at a ratio."""
    return f"config:\n  archshift:arm_ratio: {ratio}\n".encode()


def evidence_at(days: int, ratio: float, word: str, reason: str = "", stack: str = "prod") -> bytes:
    """The gate's evidence, so many days before ``AT``."""
    at = (AT - timedelta(days=days)).isoformat()
    reasons = [reason] if reason else []
    value = {"stack": stack, "arm_ratio": ratio, "verdict": word, "at": at, "reasons": reasons}
    return json.dumps(value).encode()


def history_of(stack: Settings) -> History:
    """Three weeks: 0.2, back to 0, 0.2 again and 0.5, with a verdict before each step."""
    files = [(21, "0.0"), (20, "0.2"), (16, "0.0"), (12, "0.2"), (5, "0.5")]
    return make_history(
        stack="prod",
        arm_ratio=stack.arm_ratio,
        now=AT,
        files=[(AT - timedelta(days=days), version(ratio)) for days, ratio in files],
        evidence=[
            evidence_at(16, 0.2, "step-back", "shop/Deployment/cart: p95 latency 840 ms, the limit is 600"),
            evidence_at(5, 0.2, "pass"),
            evidence_at(1, 0.5, "hold", "0.5 has soaked for 4 of 5 days"),
        ],
        ramp=stack.ramp,
    )


def fleet(
    number: int, *, name: str = "service-{}", image: str = "registry.example/team/app-{}:1.4.2"
) -> Report:
    """The report of a fleet with something of everything.

    Args:
        number: Its workloads.
        name: How they are called, by their number; their owners are too.
        image: How images that keep them on x86 are called.
    """
    overrides = {
        f"shop/Deployment/{name.format(3)}": Rules(max_ratio=0.5),
        f"shop/Deployment/{name.format(4)}": Rules(hold=True, reason=name.format("JIT")),
    }
    # Not from a configuration: names that no cluster takes would be refused there.
    stack = replace(settings(ramp=RAMP), rules=overrides)
    workloads: list[tuple[Workload, int]] = []
    verdicts: dict[str, WorkloadVerdict] = {}
    proofs: dict[str, Proof] = {}
    missing: dict[str, Arm64Test] = {}
    for index in range(number):
        owner = name.format(f"team-{index % 7}")
        one = workload(name.format(index), 1 + index % 9, millicpu=50 * (1 + index % 11), owner=owner)
        one = replace(one, containers=(Container("app", "container", ImageUse(image.format(index))),))
        if index % 13 == 5:
            one = replace(one, obstacle=f"its rollouts are paused ({name.format('spec')})")
        if index % 6 == 1:
            kind: Verdict = UNKNOWN if index % 12 == 7 else AMD64_ONLY
            shared = image.format(f"base-{index % 5}")
            verdicts[one.key] = verdict(one.key, (name.format("main"), shared, kind))
        elif index % 10 == 2:
            proofs[one.key] = Proof(
                workload=one.key,
                tested="t",
                passed=index % 20 == 2,
                machine="aarch64",
                message=name.format("illegal instruction"),
                at=AT - timedelta(days=3),
                job=f"archshift-test-{index}",
            )
        elif index % 10 == 8:
            missing[one.key] = Arm64Test()
        workloads.append((one, one.replicas // 2 if one.key not in verdicts else 0))
    agent = workload("agent", 0, kind="DaemonSet", namespace="kube-system")
    size = max(4, number // 8)
    found = survey_of(
        stack,
        workloads,
        verdicts | {agent.key: verdict(agent.key, ("agent", image.format("agent"), AMD64_ONLY))},
        unsteered=[(agent, 4)],
        loads={node.name: Load(9, 2400, 6 * GIB) for node in nodes(size)},
        tests=Arm64TestState(proofs=proofs, missing=missing),
        number=size,
    )
    return make_report(
        stack,
        found,
        at=AT,
        history=history_of(stack),
        savings=savings_of(stack, found),
        notes=[name.format("x")],
    )
