"""The programs that each test runs; `make test` gets them, and no others, for the selected tests.

`tools/run_tests.py` passes the lines of the table in an environment variable, and `find_programs` refuses all
other programs. So a missing line in this table makes a test fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.bootstrap import KARPENTER, LAB, find_programs
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
"""The programs of a folder's tests, and further programs of single files."""

# Options of pytest with a separate value, which may look like a path.
_WITH_VALUE = {"-k", "-m", "-n", "-p", "-o", "-c", "-r", "-W", "--deselect", "--ignore", "--ignore-glob"}


def selected(arguments: Sequence[str]) -> list[str]:
    """The paths in pytest's arguments, without the names of tests; the whole folder without a path."""
    before = ["", *arguments]
    words = [word for word, last in zip(arguments, before, strict=False) if last not in _WITH_VALUE]
    places = [PROJECT / word.partition("::")[0] for word in words if not word.startswith("-")]
    inside = [place.relative_to(PROJECT).as_posix() for place in places if place.is_relative_to(PROJECT)]
    return [place for place in inside if _within(place, "tests")] or ["tests"]


def needs(places: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The lines of the table for these paths: their own lines, and those of parents and children."""
    return {
        part: programs
        for part, programs in NEEDS.items()
        if any(_within(place, part) or _within(part, place) for place in places)
    }


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def prepare(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Get the programs for the tests that pytest's arguments select; return the table's lines for them.

    Raises:
        BootstrapError: A program can be neither found, downloaded nor built.
    """
    lines = needs(selected(arguments))
    wanted = dict.fromkeys(name for programs in lines.values() for name in programs)
    if BROWSER in wanted:
        # If this fails, the browser's tests fail with a message, and the other tests still run.
        provide()
    if names := [name for name in wanted if name != BROWSER]:
        find_programs(*names)
    return lines
