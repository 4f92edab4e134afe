"""What `make test` gets for the tests that it runs, held against what they run."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.machine import Machine
from tools import bootstrap
from tools.test_needs import BROWSER, NEEDS, PROJECT, needs, selected

TEST_FILES = sorted((PROJECT / "tests").rglob("test_*.py"))


class TestTheTable:
    def test_has_every_folder_and_nothing_that_is_gone(self) -> None:
        folders = {path.parent.relative_to(PROJECT).as_posix() for path in (PROJECT / "tests").rglob("*.py")}
        tops = {"/".join(folder.split("/")[:2]) for folder in folders}
        assert tops <= NEEDS.keys(), "a new folder says here what it runs, also if that is nothing"
        assert [part for part in NEEDS if not (PROJECT / part).exists()] == []

    def test_names_programs_that_there_are(self) -> None:
        known = {BROWSER, *(program.name for program in bootstrap.PROGRAMS)}
        assert [name for programs in NEEDS.values() for name in programs if name not in known] == []

    @pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.relative_to(PROJECT).as_posix())
    def test_has_what_a_file_looks_for(self, file: Path) -> None:
        """The calls in the file, in its folder's fixtures and in what they import from other tests."""
        looked_for = {name for module in _modules(file) for name in _looked_for(module)}
        place = file.relative_to(PROJECT).as_posix()
        allowed = {
            program
            for part, programs in NEEDS.items()
            if place == part or place.startswith(f"{part}/")
            for program in programs
        }
        assert looked_for - allowed == set()

    def test_is_held_against_files_that_do_look_for_programs(self) -> None:
        found = {name for file in TEST_FILES for module in _modules(file) for name in _looked_for(module)}
        assert {"pulumi", "gh", "actionlint", "prometheus", "buildx", "etcd", bootstrap.KARPENTER} <= found


class TestTheSelection:
    @pytest.mark.parametrize(
        ("arguments", "places"),
        [
            ("", ["tests"]),
            ("-n0 -x", ["tests"]),
            ("-k lab", ["tests"]),
            ("-k tests/lab", ["tests"]),
            ("--ignore tests/lab", ["tests"]),
            ("tests/plan", ["tests/plan"]),
            ("./tests/plan/", ["tests/plan"]),
            (f"{PROJECT}/tests/cli", ["tests/cli"]),
            ("-n0 tests/lab/test_exact.py::TestRamp::test_up -k foo", ["tests/lab/test_exact.py"]),
            ("tests/lab/test_exact.py::test_a[x-y/z] tests/gate", ["tests/lab/test_exact.py", "tests/gate"]),
        ],
    )
    def test_is_made_of_paths(self, arguments: str, places: list[str]) -> None:
        assert selected(arguments.split()) == places

    @pytest.mark.parametrize(
        ("places", "programs"),
        [
            (["tests/plan"], set()),
            (["tests/test_docs.py"], set()),
            (["tests/pipelines"], {"gh", "pulumi", "actionlint"}),
            (["tests/pipelines/test_ramp.py"], {"gh", "pulumi"}),
            (["tests/lab/test_exact.py"], set(bootstrap.LAB)),
            (["tests/lab"], {*bootstrap.LAB, bootstrap.KARPENTER, "prometheus", "promtool"}),
            (["tests/cli", "tests/browser"], {"pulumi", BROWSER}),
        ],
    )
    def test_decides_what_is_needed(self, places: list[str], programs: set[str]) -> None:
        assert {name for names in needs(places).values() for name in names} == programs

    def test_of_everything_needs_everything(self) -> None:
        assert needs(["tests"]) == NEEDS


class TestAtRunTime:
    """A test that runs what its line does not name fails, also where the program is here."""

    @pytest.fixture
    def ready(self, with_go: Machine) -> Machine:
        code, _, said = with_go.run("etcd", "gh")
        assert code == 0, said
        with_go.environment[bootstrap.PREPARED] = json.dumps(
            {"tests/lab": ["etcd"], "tests/lab/test_x.py": ["gh"]}
        )
        return with_go

    @pytest.mark.parametrize(
        ("test", "program", "allowed"),
        [
            ("tests/lab/test_y.py::test_a (setup)", "etcd", True),
            ("tests/lab/test_x.py::test_a (call)", "etcd", True),
            ("tests/lab/test_x.py::test_a (call)", "gh", True),
            ("tests/lab/test_y.py::test_a (call)", "gh", False),
            ("tests/laboratory/test_x.py::test_a (call)", "etcd", False),
            ("", "gh", True),  # while pytest collects, whatever was prepared
            ("", "kwok", False),
        ],
    )
    def test_a_line_is_all_that_a_test_gets(
        self, ready: Machine, test: str, program: str, allowed: bool
    ) -> None:
        ready.environment["PYTEST_CURRENT_TEST"] = test
        code, found, said = ready.run(program)
        assert (code, bool(found)) == ((0, True) if allowed else (1, False)), said
        if not allowed:
            name = test.partition("::")[0] or "A test"
            assert said == (
                f"{name} runs {program}, but tools/test_needs.py does not list that for it; add it there.\n"
            )

    def test_an_unknown_program_is_said(self, ready: Machine) -> None:
        code, _, said = ready.run("etcdd")
        assert code == 1
        assert said.startswith("No program is called 'etcdd'; use actionlint, buildx, crane, ")


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _modules(file: Path) -> set[Path]:
    """The file, its folder's fixtures, and all that these import from tests."""
    found: set[Path] = set()
    waiting = [file, file.parent / "conftest.py"]
    while waiting:
        module = waiting.pop()
        if module not in found and module.exists():
            found.add(module)
            waiting += _imported(module)
    return found


@functools.cache
def _imported(module: Path) -> tuple[Path, ...]:
    return tuple(_imports(_tree(module)))


def _imports(tree: ast.Module) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
            path = PROJECT.joinpath(*str(node.module).split("."))
            yield path.with_suffix(".py")
            yield from (path / f"{name.name}.py" for name in node.names)


@functools.cache
def _looked_for(module: Path) -> frozenset[str]:
    return frozenset(_programs(module))


def _programs(module: Path) -> Iterator[str]:
    """The names in calls of find_programs, and what a lab runs where one is made."""
    for node in ast.walk(_tree(module)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "find_programs":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{module}: programs are named, for this test"
                yield str(argument.value)
        elif node.func.id == "Lab":
            yield from bootstrap.LAB
            if any(keyword.arg == "karpenter" for keyword in node.keywords):
                yield bootstrap.KARPENTER
