"""Gets the programs that the selected tests run, and no others: what `make test` does first.

    .venv/bin/python -m tools.test_needs tests/lab/test_exact.py::test_ramp -k up

It prints which programs each selected part of the tests may run. `make test` hands that on in an
environment variable, and `find_programs` refuses the others: so a line that is missing here fails a test.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.bootstrap import KARPENTER, LAB, BootstrapError, find_programs
from tools.browser import provide

PROJECT = Path(__file__).resolve().parent.parent

BROWSER = "a browser"
_PROMETHEUS = ("prometheus", "promtool")

NEEDS: Mapping[str, tuple[str, ...]] = {
    "tests": (),
    "tests/actions": (),
    "tests/browser": (BROWSER,),
    "tests/builds": ("buildx", "dockerfile-steps"),
    "tests/chaos": (),
    "tests/cli": (),
    "tests/cli/test_ramp.py": ("pulumi",),
    "tests/cluster": (),
    "tests/common": (),
    "tests/components": (),
    "tests/cost": (),
    "tests/gate": _PROMETHEUS,
    "tests/images": (),
    "tests/lab": LAB,
    "tests/lab/test_doctor.py": _PROMETHEUS,
    "tests/lab/test_karpenter.py": (KARPENTER,),
    "tests/lab/test_monitoring.py": _PROMETHEUS,
    "tests/lab/test_ramp_weeks.py": _PROMETHEUS,
    "tests/nodes": (),
    "tests/pipelines": ("gh", "pulumi"),
    "tests/pipelines/test_workflows.py": ("actionlint",),
    "tests/plan": (),
    "tests/policies": (),
    "tests/policies/test_engine.py": ("pulumi",),
    "tests/ramp": (),
    "tests/report": (),
    "tests/settings": (),
    "tests/standins": (),
    "tests/tools": (),
}
"""What the tests of a folder run, and what single files run besides."""

# Options of pytest whose value is a word of its own, which may look like a path.
_WITH_VALUE = {"-k", "-m", "-n", "-p", "-o", "-c", "-r", "-W", "--deselect", "--ignore", "--ignore-glob"}


def selected(arguments: Sequence[str]) -> list[str]:
    """The paths among pytest's arguments, without the names of tests; all tests where there is none."""
    before = ["", *arguments]
    words = [word for word, last in zip(arguments, before, strict=False) if last not in _WITH_VALUE]
    places = [PROJECT / word.partition("::")[0] for word in words if not word.startswith("-")]
    inside = [place.relative_to(PROJECT).as_posix() for place in places if place.is_relative_to(PROJECT)]
    return [place for place in inside if _within(place, "tests")] or ["tests"]


def needs(places: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The lines of the table that hold for the places: their own, those above and those below them."""
    return {
        part: programs
        for part, programs in NEEDS.items()
        if any(_within(place, part) or _within(part, place) for place in places)
    }


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Gets what the tests need and prints what they may run, as JSON."""
    lines = needs(selected(sys.argv[1:] if arguments is None else arguments))
    wanted = dict.fromkeys(name for programs in lines.values() for name in programs)
    if BROWSER in wanted:
        # Without one its tests fail with the sentence that says what to do, and the others run.
        provide()
    try:
        if names := [name for name in wanted if name != BROWSER]:
            find_programs(*names)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
