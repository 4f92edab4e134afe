"""`--slowest=60` prints the tests that take longest, and the processor seconds of each."""

import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pytest

_KEY = "seconds-and-processor-seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slowest", type=int, default=0, metavar="N", help="print the N slowest tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Measure a test with its fixtures, and the programs it ran and waited for.

    What ends with the last test of a file or of a process is not that test's: a lab's servers have used the
    processor since they began. They have a row of their own.
    """
    started, used = time.monotonic(), _processor_seconds()
    _ended.clear()
    try:
        return (yield)
    finally:
        shared = tuple(_ended) or (0.0, 0.0)
        _spent[item.nodeid] = (
            time.monotonic() - started - shared[0],
            _processor_seconds() - used - shared[1],
        )
        if _ended:
            file = item.nodeid.partition("::")[0]
            key = f"{file}::{_OF_FILE}" if nextitem else f"{_OF_PROCESS} {os.getpid()}"
            _spent[key] = (shared[0], shared[1])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Measure separately how a process or a file ends."""
    if nextitem and nextitem.path == item.path:
        return (yield)
    started, used = time.monotonic(), _processor_seconds()
    try:
        return (yield)
    finally:
        _ended[:] = [time.monotonic() - started, _processor_seconds() - used]


_OF_FILE = "(what its tests share, such as a lab of its own)"
_OF_PROCESS = "(what ends with a process of tests, such as its lab's servers)"
_ended: list[float] = []
_spent: dict[str, tuple[float, float]] = {}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a process of xdist measured to the one that prints."""
    if output := getattr(session.config, "workeroutput", None):
        output[_KEY] = _spent


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take what a process of xdist measured."""
    _spent.update(getattr(node, "workeroutput", {}).get(_KEY, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.getoption("slowest")
    # Without a result: the run was interrupted, or collected no test.
    if not count or not _spent:
        return
    files: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for test, spent in _spent.items():
        of_file = files[test.partition("::")[0]]
        of_file[:] = [total + one for total, one in zip(of_file, spent, strict=True)]
    _print(terminalreporter, f"slowest {count} tests", _spent, count)
    _print(terminalreporter, "slowest files", files, count)
    total, used = (sum(column) for column in zip(*_spent.values(), strict=True))
    terminalreporter.write_line(f"{total:7.0f} s in all. The processor worked for {used:.0f} s")


def _print(
    terminal: pytest.TerminalReporter, title: str, spent: Mapping[str, Sequence[float]], count: int
) -> None:
    """Print a table of the slowest; processor seconds count on a busy machine, where all else waits."""
    terminal.section(f"{title}: seconds, processor seconds")
    for name, (seconds, used) in sorted(spent.items(), key=lambda row: -row[1][0])[:count]:
        terminal.write_line(f"{seconds:7.1f} {used:7.1f}  {name}")


def _processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
