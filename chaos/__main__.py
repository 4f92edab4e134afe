"""`python -m chaos`: random faults during a ramp."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import get_args

from archshift.common.errors import ArchshiftError
from archshift.plan.model import Placement
from chaos.run import Report, Run
from chaos.schedule import schedule
from lab.control_plane import PROJECT, Lab, LabError


def main() -> int:
    """Run the ramp with faults; returns 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Run the ramp in a separate lab, inject faults, and check the invariants. Exit code 0: "
        "no invariant was violated. Exit code 1: at least one was.",
    )
    parser.add_argument("--seed", type=int, help="chooses the faults and their times (default: random)")
    parser.add_argument(
        "--minutes", type=_minutes, default=5.0, help="how long to inject faults (default: 5)"
    )
    parser.add_argument(
        "--placement", choices=get_args(Placement), default="patches", help="archshift:placement of the stack"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    replay = f"python -m chaos --seed {seed} --minutes {options.minutes:g}"
    if options.placement != "patches":
        replay += f" --placement {options.placement}"
    phases = schedule(seed, options.minutes)
    print(f"{replay}\n")
    for phase in phases:
        print(f"arm_ratio {phase.arm_ratio}, {phase.seconds:.0f} s:")
        print("\n".join(f"  {fault}" for fault in phase.faults), flush=True)
    # The folder is inside the checkout, so that the engine finds the same Python environment.
    parent = PROJECT / ".lab"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=parent) as name:
        lab = Lab(Path(name) / "lab")
        try:
            lab.start(_say)
            report = Run(lab, Path(name), _say, options.placement).walk(phases)
        except (ArchshiftError, LabError) as error:
            sys.exit(f"{error}\nTo repeat: {replay}")
        finally:
            lab.stop()
    print(f"\n{report.table()}\nin {report.seconds:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(as_json(report, seed, options.minutes), indent=2) + "\n")
    if report.violations:
        print(f"\nAn invariant was violated. To repeat: {replay}")
    return 1 if report.violations else 0


def as_json(report: Report, seed: int, minutes: float) -> dict[str, object]:
    """Return the report as JSON values."""
    return {"seed": seed, "minutes": minutes, **vars(report)}


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value <= 120:
        raise argparse.ArgumentTypeError(f"{text} is invalid; use a number of minutes up to 120")
    return value


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
