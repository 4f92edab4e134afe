"""Tests share builders, fakes and fixtures; no test module is a library of another."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def trees() -> Mapping[str, ast.Module]:
    """Every module below ``tests`` by its dotted name."""
    return {
        ".".join(path.relative_to(TESTS.parent).with_suffix("").parts): ast.parse(path.read_text())
        for path in TESTS.rglob("*.py")
    }


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, and the names that it imports from them, each with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def fixtures(tree: ast.Module) -> Iterator[str]:
    """The names of a module's fixtures."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            "fixture" in ast.unparse(decorator) for decorator in node.decorator_list
        ):
            yield node.name


def importers(names: set[str]) -> list[str]:
    """Each import of one of these names, as a sentence."""
    return [
        f"{module} imports {name}"
        for module, tree in trees().items()
        for name in imports(tree)
        if name in names
    ]


def test_no_module_imports_a_test_module() -> None:
    modules = {name for name in trees() if name.rpartition(".")[2].startswith("test_")}
    assert len(modules) > 100
    assert importers(modules) == []


def test_no_module_imports_a_fixture() -> None:
    """Pytest gives each test the fixtures of the ``conftest.py`` in its folder and in the folders above."""
    names = {f"{module}.{name}" for module, tree in trees().items() for name in fixtures(tree)}
    assert len(names) > 50
    assert importers(names) == []
