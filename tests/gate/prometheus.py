"""A real Prometheus and promtool."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from lab.processes import free_port
from tools.bootstrap import find_programs

# The longest of TSDB's block ranges: a span of a test is then one or two blocks, not one every 2 hours.
_BLOCK = "162h"


@functools.cache
def program(name: str) -> Path:
    """The path of ``prometheus`` or ``promtool``."""
    return find_programs("prometheus", "promtool").paths[name]


def promtool(*arguments: str | Path) -> str:
    """What promtool says; it has to succeed."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_rules(folder: Path, content: str) -> None:
    """Have promtool check a rule file's text."""
    (folder / "rules.yaml").write_text(content)
    assert "SUCCESS" in promtool("check", "rules", folder / "rules.yaml")


def test_rules(folder: Path, content: str, tests: list[Mapping[str, Any]]) -> None:
    """Have promtool run its unit tests of rules; ``tests`` is in its own format."""
    (folder / "rules.yaml").write_text(content)
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(suite))
    promtool("test", "rules", folder / "tests.yaml")


test_rules.__test__ = False  # type: ignore[attr-defined] # the name is promtool's


@dataclass(frozen=True)
class Server:
    """A running Prometheus.

    Attributes:
        url: Its address.
        process: Itself.
    """

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it; twice does no harm."""
        self.process.terminate()
        self.process.wait(30)


def backfill(data: Path, text: Path) -> None:
    """Make blocks of a file in OpenMetrics' format."""
    promtool(
        "tsdb", "create-blocks-from", "openmetrics", "--quiet", f"--max-block-duration={_BLOCK}", text, data
    )


@contextlib.contextmanager
def serve(data: Path) -> Iterator[Server]:
    """Run a Prometheus on what is in a data folder; it scrapes nothing."""
    data.mkdir(exist_ok=True)
    config = data / "prometheus.yml"
    config.write_text("global: {}\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = data / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(url, process)
    try:
        _await_ready(server, log)
        yield server
    finally:
        server.stop()


def _await_ready(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/-/ready", trust_env=False).status_code == 200:
                return
        assert server.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
