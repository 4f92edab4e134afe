"""Stands in for archshift on a runner: the real command line, with a gate that answers as the test says.

``answers/gate`` is the verdict and a line of figures; a verdict that begins with ``!`` is an error.
``answers/differences`` is what differs that no autoscaler caused, a line each; without it, something does.
"""

import argparse
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archshift.cli import main
from archshift.cli.commands import deployment, gate
from archshift.common.errors import ArchshiftError
from archshift.ramp.gate import FleetVerdict
from archshift.ramp.measurement import MeasuredWindow, Measurement
from archshift.settings.stack import Settings

FOLDER = Path(os.environ["STAND_INS"])


def ask(settings: Settings) -> gate.Gate:
    """Note what is asked, and answer."""
    with (FOLDER / "calls").open("a") as calls:
        prometheus = shlex.quote(settings.gate.prometheus)
        print(f"gate {settings.stack} {settings.arm_ratio:g} {prometheus}", file=calls)
    answer, _, figures = (FOLDER / "answers" / "gate").read_text().partition("\n")
    if answer.startswith("!"):
        raise ArchshiftError(answer[1:])
    now = datetime.now(UTC)
    return gate.Gate(
        stack=settings.stack,
        arm_ratio=settings.arm_ratio,
        prometheus=settings.gate.prometheus,
        at=now,
        since=None,
        soak=timedelta(hours=24),
        now=Measurement(window=MeasuredWindow.until(now, timedelta(hours=1))),
        before=None,
        verdict=FleetVerdict(verdict=answer, workloads=(), reasons=(figures,)),  # type: ignore[arg-type]
        queries=[],
    )


def differences(options: argparse.Namespace) -> list[str]:
    """Answer what the preview would show."""
    del options
    answer = FOLDER / "answers" / "differences"
    text = answer.read_text() if answer.exists() else "update web"
    if text.startswith("!"):
        raise ArchshiftError(text[1:])
    return text.splitlines()


if __name__ == "__main__":
    gate.ask = ask  # type: ignore[assignment]
    deployment.differences = differences
    sys.exit(main.main(sys.argv[1:]))
