"""The demo: the real engine moves arm_ratio up and back down, and each step shows its result."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archshift.cli.arguments.status import EXIT_INEXACT, EXIT_TROUBLE
from lab.control_plane import PROJECT, Lab, LabError
from lab.engine import Progress, Result, run_engine
from lab.restarts import Pods, had_to_move, read_pods, restarted
from lab.rollouts import Rollouts

# The steps of a real migration, and one step back, because the way back must work too. The last ratio is
# the committed ratio of Pulumi.lab.yaml.
STEPS = ("0.2", "0.5", "0.8", "1.0", "0.5")

_ARCHSHIFT = str(PROJECT / ".venv" / "bin" / "archshift")

_HEADER = (
    *("workload", "kind", "replicas", "wanted", "observed", "exact"),
    *("had to move", "restarted", "rollout s"),
)
_NEXT = """
The lab is still running. You can try, for example:

  make lab-shell
    archshift status
    kubectl get pods --namespace shop --output wide
    pulumi config set arm_ratio 0.37; pulumi preview; pulumi up
    kubectl scale deployment search --namespace shop --replicas 11; archshift status
  make lab-down
"""


def demo(lab: Lab, placement: str = "patches") -> int:
    """Takes all steps; returns 0 only if every workload was exact after each step, or near its share.

    Args:
        lab: A lab with its stack and workloads.
        placement: ``archshift:placement``.
    """
    started = time.monotonic()
    # Patches are the default, so the committed configuration stays as it is.
    _configure(lab, *(("set", "placement", placement) if placement != "patches" else ("rm", "placement")))
    total = Counter[str]()
    _audit(lab)
    inexact: list[str] = []
    near: set[str] = set()
    printed: list[str] = []
    for number, ratio in enumerate(STEPS, start=1):
        print(f"\n=== {number} of {len(STEPS)}: arm_ratio {ratio}", flush=True)
        before = read_pods(lab)
        with Rollouts(lab) as rollouts:
            result = _step(lab, ratio, lab.directory / "logs" / f"demo-{number}.log")
        after = read_pods(lab)
        report = _status(lab)
        print(step_table(report, rollouts.seconds, before, after))
        for note in notes(report):
            if note not in printed:
                printed.append(note)
                print(f"  {note}")
        print(fleet_line(report, ratio, result.seconds))
        moves, restarts = cost_of(report, before, after)
        total.update(moves=moves, restarts=restarts)
        print(restarts_line(moves, restarts))
        inexact += [f"{row['workload']} at {ratio}" for row in report["workloads"] if _mark(row) == "NO"]
        near |= {row["workload"] for row in report["workloads"] if _mark(row) == "near"}
    print(
        f"\n{len(STEPS)} steps in {time.monotonic() - started:.0f} s: {total['moves']} pods had to move, and "
        f"{total['restarts']} pods restarted."
    )
    if placement == "patches":
        print("With make demo PLACEMENT=admission, the same steps restart only the pods that move.")
    if inexact:
        print(f"These workloads were not exact: {', '.join(inexact)}.")
    elif near:
        print(
            f"After every step, each workload had the wanted number of pods on each side, or was near it: "
            f"{', '.join(sorted(near))}. An autoscaler changes its pods (docs/placement.md)."
        )
    else:
        print("After every step, each workload had exactly the wanted number of pods on each side.")
    print(_NEXT)
    return 1 if inexact else 0


def _audit(lab: Lab) -> None:
    """Prints the audit of the workloads' images."""
    print("\n=== before the first step: which images run on arm64?")
    print("$ archshift audit --from-cluster", flush=True)
    # Without a terminal, the output would be cut to 80 columns.
    width = {} if sys.stdout.isatty() else {"COLUMNS": "140"}
    done = subprocess.run(
        [_ARCHSHIFT, "audit", "--from-cluster"],
        cwd=PROJECT,
        env={**lab.process_environment(), **width},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode not in (0, 1, 2):  # 1: some images cannot; 2: some are unknown
        raise LabError(f"archshift audit failed: {done.stderr.strip()}")


def _step(lab: Lab, ratio: str, log: Path) -> Result:
    _configure(lab, "set", "arm_ratio", ratio)
    print(f"$ pulumi config set arm_ratio {ratio} && pulumi up", flush=True)
    ticker = _Ticker()
    arguments = ["up", "--yes", "--skip-preview", f"--stack={lab.stack}"]
    try:
        result = run_engine(lab, arguments, stack=lab.stack, log=log, watch=ticker.show)
    finally:
        ticker.clear()
    if not result.succeeded:
        last = "\n".join(f"    {line}" for line in result.output.strip().splitlines()[-20:])
        raise LabError(f"pulumi up failed (exit code {result.exit_code}). {log} ends with:\n{last}")
    return result


def _configure(lab: Lab, *command: str) -> None:
    config = lab.run("pulumi", "config", *command, f"--stack={lab.stack}")
    if config.returncode != 0:
        raise LabError(f"pulumi config {command[0]}: {config.stderr.strip()}")


class _Ticker:
    """A line on the terminal with the engine's progress; without a terminal, nothing."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def show(self, progress: Progress) -> None:
        if not self._terminal:
            return
        elapsed = time.monotonic() - self._started
        done = len([op for op in progress.operations if op.type.endswith("Patch")])
        under_way = [urn.rsplit("::", 1)[-1] for urn in progress.under_way if "Patch::" in urn]
        now = ", ".join(name.rsplit("/", 1)[-1] for name in under_way)
        text = f"  {elapsed:4.0f} s  {done} workloads patched{f'; rolling out {now}' if now else ''}"
        print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _status(lab: Lab) -> dict[str, Any]:
    """Returns the JSON of ``archshift status``."""
    done = subprocess.run(
        [_ARCHSHIFT, "status", "--json"],
        cwd=PROJECT,
        env=lab.process_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode not in (0, EXIT_INEXACT, EXIT_TROUBLE):
        raise LabError(f"archshift status failed: {(done.stderr or done.stdout).strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def step_table(report: Mapping[str, Any], seconds: Mapping[str, float], before: Pods, after: Pods) -> str:
    """The table of a step: each workload's wanted and observed pods, and the cost of the step."""
    rows: list[Sequence[str]] = [_HEADER]
    for row in report["workloads"]:
        namespace, kind, name = row["workload"].split("/")
        took = seconds.get(row["workload"])
        rows.append(
            (
                f"{namespace}/{name}",
                kind,
                str(row["replicas"]),
                "-" if row["wanted"] is None else str(row["wanted"]),
                str(row["graviton"]),
                _mark(row),
                str(had_to_move(row, before)),
                str(restarted(row, before, after)),
                "-" if took is None else f"{took:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return "\n".join(lines)


def _mark(row: Mapping[str, Any]) -> str:
    if row["exact"]:
        return "yes"
    return "near" if row["near"] else "NO"


def notes(report: Mapping[str, Any]) -> list[str]:
    """The reasons of workloads that archshift does not place by the ratio alone."""
    return [f"{row['workload']}: {row['reason']}" for row in report["workloads"] if row.get("reason")]


def fleet_line(report: Mapping[str, Any], ratio: str, seconds: float) -> str:
    """A line about the whole fleet."""
    fleet = report["fleet"]
    share = fleet["graviton"] / fleet["pods"] if fleet["pods"] else 0.0
    return (
        f"fleet at {ratio}: {fleet['graviton']} of {fleet['pods']} movable pods on Graviton "
        f"({share:.1%}), {fleet['wanted']} wanted; {fleet['all_pods']} pods in all; "
        f"pulumi up took {seconds:.1f} s"
    )


def cost_of(report: Mapping[str, Any], before: Pods, after: Pods) -> tuple[int, int]:
    """How many pods had to move, and how many the step restarted."""
    rows = report["workloads"]
    moves = sum(had_to_move(row, before) for row in rows)
    return moves, sum(restarted(row, before, after) for row in rows)


def restarts_line(moves: int, restarts: int) -> str:
    """A line about the pods that the step restarted."""
    each = f", {restarts / moves:.1f} for each of them" if moves else ""
    return f"{moves} pods had to move; the step restarted {restarts} pods{each}"
