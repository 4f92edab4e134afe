"""`--slowest=60` prints the tests that take longest, and the processor seconds of each."""

import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

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
