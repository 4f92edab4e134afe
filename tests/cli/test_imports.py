"""What a command loads before it does something: a help or a completion waits for no client and no engine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ARCHSHIFT = Path(sys.executable).parent / "archshift"

# Each takes up to half a second to load; `archshift --help` once loaded nearly all of them.
HEAVY = {
    "aiohttp",
    "asyncio",
    "boto3",
    "botocore",
    "grpc",
    "httpx2",
    "jinja2",
    "lightkube",
    "msgspec",
    "opentelemetry",
    "pulumi",
    "pulumi_aws",
    "pulumi_eks",
    "pulumi_kubernetes",
    "rich",
    "yaml",
    "zstandard",
}


def loaded(*command: str | Path) -> set[str]:
    """The top-level packages that a Python program loads, whatever it ends with."""
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE)
    assert "argparse" in names or "archshift" in names, done.stderr
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "plan --help",
        "preview --help",
        "ramp apply --help",
        "plan --no-such-option",
        "gate --at yesterday",
        "nonsense",
        "completion bash",
        "bake registry.example/shop/web:1.4.0",
    ],
)
def test_what_needs_no_cluster_loads_no_client(arguments: str) -> None:
    """These answer at once, in a shell that completes and in a pipeline that asks for the usage."""
    assert not loaded(ARCHSHIFT, *arguments.split()) & HEAVY


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("archshift.cli.commands.plan", {"rich"}),
        ("archshift.cli.commands.status", {"rich"}),
        ("archshift.survey", {"httpx2", "lightkube", "msgspec", "yaml", "asyncio"}),
        ("archshift.cli.commands.report", {"httpx2", "lightkube", "msgspec", "rich", "yaml", "asyncio"}),
        # These two ask the engine alone.
        ("archshift.cli.commands.ramp", {"msgspec", "rich", "yaml"}),
        ("archshift.settings.stack", {"msgspec", "yaml"}),
        # The decisions are pure.
        ("archshift.plan.planner", set()),
        ("archshift.plan.sizing", set()),
        ("archshift.plan.guard", set()),
    ],
)
def test_a_command_loads_what_it_needs(module: str, needed: set[str]) -> None:
    """A plan needs no templates, no engine's SDK and no registry's client; what is pure needs none at all."""
    assert loaded(sys.executable, "-c", f"import {module}") & HEAVY <= needed
