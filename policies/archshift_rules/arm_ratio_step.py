"""arm-ratio-step: the fleet moves one configured step at a time, not before its date and the gate's pass."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from archshift_rules.evidence import CLOCKS_DIFFER
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack, Violation
from archshift_rules.wording import moment, number

_CONFIG: Final[Mapping[str, Mapping[str, Any]]] = {
    "steps": {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1},
        "minItems": 1,
        "default": [0.0, 0.2, 0.5, 0.8, 1.0],
        "description": "The ratios that the fleet rests at.",
    },
    "earliest": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "default": {},
        "description": "Step to the date or time (ISO 8601, UTC) before which nothing moves up to it.",
    },
    "freeUpTo": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.2,
        # Pods that nobody placed yet land anywhere on a mixed cluster: the first step may go down
        # from any share.
        "description": "A ratio of at most this may be set from everywhere.",
    },
    "tolerance": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.5,
        "default": 0.02,
        "description": "By how much the observed share may miss a step that it counts as having reached.",
    },
    "gate": {
        "type": "string",
        "enum": ["stack", "required", "off"],
        "default": "stack",
        "description": "Whether a step up needs a pass of archshift gate for the step before: where the "
        "stack has a gate (archshift:gate), always (required), or never (off).",
    },
    "gateMaxAgeDays": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 8,
        "description": "How old the pass may be when the step is taken.",
    },
}

_WAY_OUT: Final = "Or set archshift:policy_exception (rule, reason, until), which ends by itself."


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is asked for and what is.

    Attributes:
        ratio: The configured arm_ratio.
        pods: Movable pods.
        wanted: How many of them belong on Graviton at that ratio.
        graviton: How many are there now.
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
        steps: The ratios it rests at, ascending, from 0.
        earliest: Step to the time before which nothing moves up to it.
        free_up_to: A ratio of at most this may be set from everywhere.
        tolerance: The share by which a step may be missed and count as reached.
    """

    steps: tuple[float, ...]
    earliest: Mapping[float, datetime] = field(default_factory=dict)
    free_up_to: float = 0.0
    tolerance: float = 0.0


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:
    """Yield the step that is too long, or too early."""
    component = stack.component("WorkloadPatches")
    if component is None:
        return
    fleet = _fleet(component)
    if fleet is None:
        yield Violation(
            "The stack does not state its arm_ratio and its fleet (ratio; fleet.pods, .wanted, .graviton), "
            "so the step cannot be judged; run archshift of the pack's version.",
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


def judge(fleet: Fleet, ramp: Ramp, now: datetime) -> Iterator[str]:
    """Yield what is wrong with a move."""
    steps, ratio = ramp.steps, fleet.ratio
    slack = math.floor(ramp.tolerance * fleet.pods)
    # Counted in pods, as the plan rounds them, so that a small fleet's shares are no obstacle.
    here = max(index for index, step in enumerate(steps) if fleet.graviton >= fleet.at(step) - slack)
    below, above = steps[max(here - 1, 0)], steps[min(here + 1, len(steps) - 1)]
    observed = f"{fleet.graviton:g} of {fleet.pods:g} pods are on Graviton, step {steps[here]:g}"
    # Where workloads are capped or held, less moves than a ratio says: then that is what counts.
    if ratio > max(above, ramp.free_up_to) and fleet.wanted > fleet.at(above):
        yield f"arm_ratio {ratio:g} is more than one step up: {observed}. Set it to {above:g}."
    if ramp.free_up_to < ratio < below and fleet.wanted < fleet.at(below):
        yield (
            f"arm_ratio {ratio:g} is more than one step down: {observed}. Set it to {below:g}; "
            f"{ramp.free_up_to:g} or less is allowed at once."
        )
    if fleet.wanted <= fleet.graviton:
        return  # nothing moves up
    for last, step in pairwise(steps[here:]):
        if last < ratio and step in ramp.earliest and now < ramp.earliest[step]:
            yield (
                f"arm_ratio {ratio:g} begins step {step:g} before its earliest time, "
                f"{ramp.earliest[step].isoformat(' ', 'minutes')}: {observed}. Set it to {last:g} until then."
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
        return  # nothing is on Graviton yet that could be judged
    # What an autoscaler moved within its step is set right without asking: a step has more than half of
    # its pods still to move. Of what is wanted, because workloads may be capped.
    of_step = fleet.wanted * (1 - previous / fleet.ratio)
    if 2 * (fleet.wanted - fleet.graviton) <= of_step:
        return
    why = _no_pass(gate, fleet.ratio, previous, config["gateMaxAgeDays"], now) if gate else "there is none"
    if why:
        yield (
            f"arm_ratio {fleet.ratio:g} goes up ({fleet.graviton:g} of {fleet.pods:g} pods are on Graviton), "
            f"and no pass of the gate for step {previous:g} allows it: {why}. Run archshift gate --output at "
            f"{previous:g} and keep its file with the step, or set arm_ratio to {previous:g}."
        )


def _no_pass(gate: Resource, ratio: float, previous: float, max_age: float, now: datetime) -> str:
    problem, verdict, stack = gate.read("problem"), gate.read("verdict"), gate.read("stack")
    judged, at, since = number(gate.read("ratio")), moment(gate.read("at")), moment(gate.read("since"))
    if problem or judged is None or at is None:
        return str(problem or "its evidence is not whole")
    if str(stack).rpartition("/")[2] != gate.urn.split(":")[2]:
        return f"it is about the stack {stack}"
    if not previous <= judged < ratio:
        return f"it is about arm_ratio {judged:g}"
    if at > now + CLOCKS_DIFFER:
        return f"it is from the future ({gate.read('at')})"
    # It had to be fresh when the step was taken; where that is not written down, now.
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


def _dates(config: Mapping[str, Any]) -> tuple[dict[float, datetime], str]:
    dates: dict[float, datetime] = {}
    for text, value in config["earliest"].items():
        step = next((one for one in config["steps"] if text in (f"{one:g}", f"{one:.1f}", str(one))), None)
        date = moment(value)
        if step is None or date is None:
            return dates, (
                f"The pack's configuration of arm-ratio-step is wrong: earliest has {text!r}: {value!r}, and "
                'wants a step and a date, such as "0.5": "2026-12-01".'
            )
        dates[step] = date
    return dates, ""


RULE: Final = StackRule(
    name="arm-ratio-step",
    description="arm_ratio must move at most one step at a time, and up only from the step's date on and "
    "with the gate's pass, where there is a gate.",
    check=check,
    config=_CONFIG,
)
