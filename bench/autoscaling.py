"""Measures how shares hold through a day of load: 30 workloads, each with an autoscaler.

Run ``python -m bench.autoscaling [RATIO ...]``. For each ratio (0.2, 0.5, 0.8) a new lab gets three
namespaces with the same workloads:

- ``rule``: placed as archshift does it now, with deletion costs written once, by the update before the day.
- ``renewed``: the same, and every four hours an update moves surplus pods and renews the costs.
- ``exact``: placed by the rule of workloads without an autoscaler, as all were before.

Each namespace has nodes of its own, so that one rule does not fill the nodes of another. Autoscalers are
real. They follow a curve of a day, hour by hour, from 0.25 to 3 times the planned pods. A stand-in for the
server of external metrics tells them the load. Their behaviour allows changes at once, and the controller
looks every two seconds. Otherwise a day would take a day. No other clock is changed.

``--model=60`` needs no lab: it takes 60 days for each ratio in a model (lab/day_model.py), with new deletion
costs after no hour, after four hours and after each hour.

Nothing runs in the cluster between two updates: new pods have no cost, and end first. A sample is taken when
each autoscaler has what it wants and all pods run. Capacity is in proportion to the ratio, as node groups are
sized; ``--even`` gives both sides the same. ``--every=2`` takes every second hour, so that each change of the
load is larger.

It leaves out the time until all pods run, lost nodes (``bench.lost_nodes`` has them), rollouts by the owners,
StatefulSets, patches, and autoscalers that wait before they scale down.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from archshift.cluster.client import connect
from archshift.common.architectures import AMD64, ARM64
from archshift.plan.scaling import PODS_OFF, SHARE_OFF
from bench._lab import running_lab
from lab.control_plane import CONTEXT
from lab.day import HOURS, RULES, Day, Figures, Load, loads
from lab.day_model import model_day

RATIOS: Final = (0.2, 0.5, 0.8)
FLEET_OFF: Final = 0.03
RENEWED_EVERY: Final = 4
"""So many hours are between two updates of ``renewed``."""


@contextmanager
def day(
    ratio: float, own: Sequence[Load], rules: Sequence[str] = RULES, *, even: bool = False
) -> Iterator[Day]:
    """Start a lab with the workloads after the step to a ratio, and stop it."""
    with running_lab() as (lab, folder), connect(CONTEXT, lab.kubeconfig) as api:
        made = Day(api, ratio, own, rules)
        with made.metrics.serve(api, folder):
            for rule, left in made.prepare(even=even).items():
                print(f"{rule}: not exact after the step: {', '.join(left) or 'none'}", flush=True)
            yield made


def model(ratio: float, days: int) -> None:
    """Print the figures of many days in a model."""
    for every in (0, RENEWED_EVERY, 1):
        figures = Figures()
        for seed in range(days):
            samples = model_day(ratio, seed, costs_every=every)
            for hour, start in enumerate(range(0, len(samples), len(samples) // len(HOURS))):
                hourly = samples[start : start + len(samples) // len(HOURS)]
                graviton = {each.load.name: round(ratio * each.pods + each.off) for each in hourly}
                counts = {
                    each.load.name: {
                        ARM64: graviton[each.load.name],
                        AMD64: each.pods - graviton[each.load.name],
                    }
                    for each in hourly
                }
                figures.add(hour, ratio, counts, [each.load for each in hourly])
        beyond = [abs(off) - max(PODS_OFF, SHARE_OFF * pods) for _, _, pods, off in figures.wrong]
        bent = sum(abs(off) > FLEET_OFF + 1e-9 for off in figures.fleet)
        print(
            f"ratio {ratio}, {days} days in a model, costs after {every or 'no'} h: {figures}, "
            f"by at most {max(beyond, default=0.0):.1f} pods; fleet beyond {FLEET_OFF} in {bent} of "
            f"{len(figures.fleet)}",
            flush=True,
        )


def _number(arguments: Sequence[str], name: str, usual: int) -> int:
    """Return the value of an option."""
    return next((int(text.removeprefix(name)) for text in arguments if text.startswith(name)), usual)


def main() -> None:
    """Run a day for each ratio, and print the figures."""
    arguments = sys.argv[1:]
    even = "--even" in arguments
    every, days = _number(arguments, "--every=", 1), _number(arguments, "--model=", 0)
    ratios = [float(text) for text in arguments if not text.startswith("--")] or [*RATIOS]
    if days:
        for ratio in ratios:
            model(ratio, days)
        return
    own = loads()
    for ratio in ratios:
        begun = time.monotonic()
        with day(ratio, own, even=even) as made:
            print(f"ratio {ratio}: step after {time.monotonic() - begun:.0f} s", flush=True)
            for rule, counts in made.counts().items():
                on, all_pods = (
                    sum(each[ARM64] for each in counts.values()),
                    sum(sum(each.values()) for each in counts.values()),
                )
                print(f"  {rule}: {on} of {all_pods} on Graviton", flush=True)
            print(f"  {len(HOURS) // every} of {len(HOURS)} hours, each when all its pods run", flush=True)
            for number in range(0, len(HOURS), every):
                made.sample(number)
                line = ", ".join(f"{rule} {figures.fleet[-1]:+.3f}" for rule, figures in made.figures.items())
                print(f"  {(8 + number) % 24:2}:00: {made.pods[-1]:4} pods; fleet off by {line}", flush=True)
                if "renewed" in made.rules and (number + every) % RENEWED_EVERY == 0:
                    left = made.update("renewed")
                    if left:
                        print(f"    not exact after the update: {', '.join(left)}", flush=True)
            for rule, figures in made.figures.items():
                print(f"ratio {ratio}, {rule}: {figures}", flush=True)
                for sample, name, pods, off in sorted(figures.wrong, key=lambda each: -abs(each[3]))[:4]:
                    print(f"    {(8 + sample) % 24:2}:00 {name}: off by {off:+.1f} of {pods}", flush=True)
            print(f"ratio {ratio}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
