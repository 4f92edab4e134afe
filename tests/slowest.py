"""`--slowest=60` prints the tests that take longest, and how much of that they wait."""

import resource
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

_KEY = "seconds-and-processor-seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slowest", type=int, default=0, metavar="N", help="print the N slowest tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure a test with its fixtures, and the programs it ran and waited for; not a lab's servers."""
    started, used = time.monotonic(), _processor_seconds()
    try:
        return (yield)
    finally:
        _spent[item.nodeid] = (time.monotonic() - started, _processor_seconds() - used)


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
    files: dict[str, float] = defaultdict(float)
    for test, (seconds, _) in _spent.items():
        files[test.partition("::")[0]] += seconds
    terminalreporter.section(f"slowest {count} tests: seconds, share that waits")
    for test, (seconds, used) in sorted(_spent.items(), key=lambda row: -row[1][0])[:count]:
        terminalreporter.write_line(f"{seconds:7.1f} {max(0.0, 1 - used / seconds):5.0%}  {test}")
    terminalreporter.section("slowest files: seconds")
    for file, seconds in sorted(files.items(), key=lambda row: -row[1])[:count]:
        terminalreporter.write_line(f"{seconds:7.1f}  {file}")
    total, used = (sum(column) for column in zip(*_spent.values(), strict=True))
    terminalreporter.write_line(
        f"{total:7.0f} s in all; the tests wait {max(0.0, 1 - used / total):.0%} of it"
    )


def _processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
