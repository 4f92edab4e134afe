"""arm-ratio-step: the fleet moves one configured step at a time, after its date and with the gate's pass."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from archshift_rules.capacity import AMD64, ARM64, Group, node_groups
from archshift_rules.evidence import CLOCKS_DIFFER
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import listed, moment, number

RETIRED: Final = "archshift/retired"
"""The taint of a group with ``retired: true``."""

_CONFIG: Final[Mapping[str, Mapping[str, Any]]] = {
    "steps": {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1},
        "minItems": 1,
        "default": [0.0, 0.2, 0.5, 0.8, 1.0],
        "description": "The ratios at which the fleet may stay.",
    },
    "earliest": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "default": {},
        "description": "Each step's earliest date or time (ISO 8601, UTC).",
    },
    "freeUpTo": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.2,
        # On a mixed cluster, pods that archshift has not placed yet run anywhere. So the first step may
        # go down from any share.
        "description": "You can set a ratio up to this value from any share.",
    },
    "tolerance": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.5,
        "default": 0.02,
        "description": "How far below a step the observed share may be and still count as that step.",
    },
    "gate": {
        "type": "string",
        "enum": ["stack", "required", "off"],
        "default": "stack",
        "description": "When a step up needs a pass of archshift gate for the step before: if the stack "
        "has a gate (stack), always (required), or never (off).",
    },
    "gateMaxAgeDays": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 8,
        "description": "The maximum age of the pass, in days, when you take the step.",
    },
}

_WAY_OUT: Final = "Or set archshift:policy_exception (rule, reason, until), which expires by itself."


@dataclass(frozen=True, slots=True)
class Fleet:
    """The configured share of pods on Graviton, and the observed one.

    Attributes:
        ratio: The configured arm_ratio.
        pods: Movable pods.
        wanted: How many of these pods belong on Graviton at that ratio.
        graviton: How many run there now.
    """

    ratio: float
    pods: float
    wanted: float
    graviton: float

    def at(self, ratio: float) -> int:
        """Return how many pods belong on Graviton at a ratio."""
        return round(ratio * self.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """How the fleet may move.

    Attributes:
        steps: The ratios at which it may stay, ascending, from 0.
        earliest: Each step's earliest time; no move up to it is allowed before.
        free_up_to: A ratio up to this value is allowed from any share.
        tolerance: How far below a step the observed share may be and still count as that step.
    """

    steps: tuple[float, ...]
    earliest: Mapping[float, datetime] = field(default_factory=dict)
    free_up_to: float = 0.0
    tolerance: float = 0.0


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield why the configured step is too long, too early, not allowed by the gate, or without nodes."""
    component = stack.component("WorkloadPatches")
    if component is None:
        return
    fleet = _fleet(component)
    if fleet is None:
        yield Violation(
            "The stack does not state its arm_ratio and its fleet (ratio; fleet.pods, .wanted, .graviton), "
            "so the rule cannot check the step. Use the archshift version that belongs to this pack.",
            component.urn,
        )
        return
    dates, problem = _dates(config)
    if problem:
        yield Violation(problem, component.urn)
    ramp = Ramp(
        steps=tuple(sorted({0.0, *config["steps"]})),
        earliest=dates,
        free_up_to=config["freeUpTo"],
        tolerance=config["tolerance"],
    )
    for message in judge(fleet, ramp, now):
        yield Violation(f"{message} {_WAY_OUT}", component.urn)
    for message in judge_gate(fleet, ramp.steps, stack.component("Gate"), config, now):
        yield Violation(f"{message} {_WAY_OUT}", component.urn)
    for message in judge_sides(fleet, node_groups(stack)):
        yield Violation(message, component.urn)


def judge(fleet: Fleet, ramp: Ramp, now: datetime) -> Iterator[str]:
    """Yield why a move is too long or too early."""
    steps, ratio = ramp.steps, fleet.ratio
    slack = math.floor(ramp.tolerance * fleet.pods)
    # Compare pods and not shares: the plan rounds to whole pods, which matters in a small fleet.
    here = max(index for index, step in enumerate(steps) if fleet.graviton >= fleet.at(step) - slack)
    below, above = steps[max(here - 1, 0)], steps[min(here + 1, len(steps) - 1)]
    observed = f"{fleet.graviton:g} of {fleet.pods:g} pods are on Graviton, step {steps[here]:g}"
    # With capped or held workloads, fewer pods move than the ratio says. Then the pods count.
    if ratio > max(above, ramp.free_up_to) and fleet.wanted > fleet.at(above):
        yield f"arm_ratio {ratio:g} is more than one step up: {observed}. Set it to {above:g}."
    if ramp.free_up_to < ratio < below and fleet.wanted < fleet.at(below):
        yield (
            f"arm_ratio {ratio:g} is more than one step down: {observed}. Set it to {below:g}; "
            f"{ramp.free_up_to:g} or less is always allowed."
        )
    if fleet.wanted <= fleet.graviton:
        return  # nothing moves up
    for last, step in pairwise(steps[here:]):
        if last < ratio and step in ramp.earliest and now < ramp.earliest[step]:
            yield (
                f"arm_ratio {ratio:g} starts step {step:g} before its earliest time, "
                f"{ramp.earliest[step].isoformat(' ', 'minutes')}: {observed}. Set it to {last:g} until then."
            )


def judge_sides(fleet: Fleet, groups: Iterable[Group]) -> Iterator[str]:
    """Yield why the nodes of a side take none of the pods that belong there: all of them are retired.

    Other taints may be there for these very pods, so the rule does not judge them.
    """
    groups = list(groups)
    for architecture, name, pods in (
        (ARM64, "Graviton", fleet.wanted),
        (AMD64, "x86", fleet.pods - fleet.wanted),
    ):
        side = [group for group in groups if architecture in group.architectures]
        if pods > 0 and side and all(RETIRED in group.repels for group in side):
            yield (
                f"{pods:g} of {fleet.pods:g} pods belong on {name}, and all {name} node groups are retired "
                f"(taint {RETIRED}): {listed(group.name for group in side)}. Remove retired from one of them."
            )


def judge_gate(
    fleet: Fleet, steps: tuple[float, ...], gate: Resource | None, config: Mapping[str, Any], now: datetime
) -> Iterator[str]:
    """Yield why the gate does not allow a step up."""
    wanted = config["gate"]
    if wanted == "off" or (wanted == "stack" and not (gate and gate.read("required"))):
        return
    previous = max((step for step in steps if step < fleet.ratio), default=0.0)
    if previous == 0:
        return  # no pods run on Graviton yet, so the gate has nothing to measure
    # An autoscaler may have moved pods within a step. Correcting that needs no pass: only a new step still
    # has more than half of its pods to move. Count wanted pods, because workloads may be capped.
    of_step = fleet.wanted * (1 - previous / fleet.ratio)
    if 2 * (fleet.wanted - fleet.graviton) <= of_step:
        return
    why = (
        _no_pass(gate, fleet.ratio, previous, config["gateMaxAgeDays"], now)
        if gate
        else "there is no evidence"
    )
    if why:
        yield (
            f"arm_ratio {fleet.ratio:g} is a step up ({fleet.graviton:g} of {fleet.pods:g} pods are on "
            f"Graviton), but it needs a pass of the gate for step {previous:g}: {why}. Run archshift gate "
            f"--output at {previous:g} and commit its file with the step, or set arm_ratio to {previous:g}."
        )


def _no_pass(gate: Resource, ratio: float, previous: float, max_age: float, now: datetime) -> str:
    problem, verdict, stack = gate.read("problem"), gate.read("verdict"), gate.read("stack")
    judged, at, since = number(gate.read("ratio")), moment(gate.read("at")), moment(gate.read("since"))
    if problem or judged is None or at is None:
        return str(problem or "its evidence is incomplete")
    if str(stack).rpartition("/")[2] != gate.urn.split(":")[2]:
        return f"it is about the stack {stack}"
    if not previous <= judged < ratio:
        return f"it is about arm_ratio {judged:g}"
    if at > now + CLOCKS_DIFFER:
        return f"its time is in the future ({gate.read('at')})"
    # The pass must be fresh at the time of the step; if the stack does not state that time, now.
    taken = since if since and since >= at else now
    if taken - at > timedelta(days=max_age):
        return f"it is from {gate.read('at')}, more than {max_age:g} days ago"
    return "" if verdict == "pass" else f"it says {verdict}"


def _fleet(component: Resource) -> Fleet | None:
    ratio = number(component.read("ratio"))
    pods, wanted, graviton = (number(component.read("fleet", key)) for key in ("pods", "wanted", "graviton"))
    if ratio is None or pods is None or wanted is None or graviton is None or ratio > 1:
        return None
    return Fleet(ratio, pods, wanted, graviton)


def _spellings(step: float) -> tuple[str, ...]:
    return f"{step:g}", f"{step:.1f}", str(step)


def _dates(config: Mapping[str, Any]) -> tuple[dict[float, datetime], str]:
    dates: dict[float, datetime] = {}
    for text, value in config["earliest"].items():
        step = next((step for step in config["steps"] if text in _spellings(step)), None)
        date = moment(value)
        if step is None or date is None:
            return dates, (
                f"The pack's configuration of arm-ratio-step is invalid: earliest has {text!r}: {value!r}. "
                'Each entry must be a step and a date, such as "0.5": "2026-12-01".'
            )
        dates[step] = date
    return dates, ""


RULE: Final = StackRule(
    name="arm-ratio-step",
    description="arm_ratio must move at most one step at a time. A step up must wait for its date and, if "
    "the stack has a gate, for the gate's pass.",
    check=check,
    config=_CONFIG,
)
