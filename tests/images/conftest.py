"""Registries and servers that the tests share; one process each for the whole run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import Limits, RegistryHost
from archshift.images.verdict import ImageVerdict
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]
Audit = Callable[[str], ImageVerdict]

QUICK = Limits(
    connect_seconds=2,
    read_seconds=0.4,
    request_seconds=0.8,
    attempts=2,
    backoff_seconds=0.01,
    longest_wait_seconds=2,
)
"""Bounds so short that no fault takes long to show."""


@pytest.fixture
def proxy(registry: Registry, servers: Callable[[str], Server]) -> Server:
    """Stand in front of the real registry, recording, and failing where it is told to."""
    return servers(registry.base)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Make options for hosts that speak plain http, with no login, no cache and short limits."""

    def make(*plain: str, hosts: Mapping[str, RegistryHost] | None = None, **changes: Any) -> AuditOptions:
        base = AuditOptions(
            hosts={**{name: RegistryHost(plain_http=True) for name in plain}, **(hosts or {})},
            docker_config=tmp_path / "no-docker-config.json",
            ecr=False,
            cache=None,
            limits=QUICK,
        )
        return replace(base, **changes)

    return make


@pytest.fixture
def audit(registry: Registry, options: Options) -> Audit:
    """Audit one image, named without its registry, without the deep check."""

    def run(name: str) -> ImageVerdict:
        image = f"{registry.host}/{name}"
        return audit_images([image], options(registry.host))[image]

    return run
