"""Measures how fast archshift audits a fleet's images: ``python -m bench.images [ROUNDS]``.

The lab's registry on 127.0.0.1 has 500 images (400 indexes of two platforms, 100 single manifests). Prints:

- cold: a scan with an empty cache, compared with a bare asyncio loop that sends the same requests (at most
  1.3 x), and with the pinned ``crane manifest`` under ``xargs -P 8`` (at least 3 x faster). crane sends only
  500 of the 1,400 requests: it reads no config, and checks no arm64 image of an index;
- warm: the same scan again (at most 0.2 x cold), and a scan that requests every tag again;
- the number of requests for 5,000 pods of the 500 images.

The benchmark measures all in turns and compares medians. Processor seconds are the sum of client and
registry. The exit code is 1 if a value misses its bound.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import Limits, RegistryHost
from archshift.images.registry.manifest import ACCEPT
from lab.oci import Pushed, Pusher
from tests.images.servers import Registry, Server
from tools.bootstrap import find_programs

INDEXES, SINGLES, REPOSITORIES = 400, 100, 100
PODS = 5000

Request = tuple[str, str]


def fill(registry: Registry) -> tuple[list[str], list[list[Request]]]:
    """Push the images; return their names, and for each image the requests of its audit."""
    push = Pusher(registry.base)
    names, requests = [], []
    for number in range(INDEXES + SINGLES):
        repository, tag = f"bench/{number % REPOSITORIES}", f"v{number}"
        path = f"{registry.base}/v2/{repository}"
        unique = {"Labels": {"number": str(number)}}
        if number < INDEXES:
            children: list[Pushed] = [
                push.image(repository, platform=f"linux/{architecture}", config=unique)
                for architecture in ("amd64", "arm64")
            ]
            push.index(repository, tag, children)
            arm64 = children[1]
            further = [
                ("GET", f"{path}/manifests/{arm64.digest}"),
                ("GET", f"{path}/blobs/{arm64.config}"),
            ]
        else:
            pushed = push.image(repository, tag, "linux/amd64", config=unique)
            further = [("GET", f"{path}/blobs/{pushed.config}")]
        names.append(f"{registry.host}/{repository}:{tag}")
        requests.append([("GET", f"{path}/manifests/{tag}"), *further])
    return names, requests


def floor(requests: list[list[Request]]) -> None:
    """Send the requests from a bare loop, with the concurrency of the scan."""

    async def run() -> None:
        gate = asyncio.Semaphore(Limits().concurrency)

        async def image(session: aiohttp.ClientSession, wanted: list[Request]) -> None:
            for method, url in wanted:
                async with (
                    gate,
                    session.request(method, url, headers={"Accept": f"{ACCEPT}, */*"}) as response,
                ):
                    assert response.status == 200
                    await response.read()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(image(session, wanted) for wanted in requests))

    asyncio.run(run())


def crane(program: Path, names: list[str]) -> None:
    """Read each manifest with a separate process, eight at a time."""
    subprocess.run(
        ["xargs", "-P", "8", "-n", "1", str(program), "manifest"],
        input="\n".join(names).encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def timed(work: Callable[[], object], registry: Registry) -> tuple[float, float]:
    """Return the wall seconds, and the processor seconds including children and the registry."""
    start, busy = time.perf_counter(), processor(registry)
    work()
    return time.perf_counter() - start, processor(registry) - busy


def processor(registry: Registry) -> float:
    """Return the processor seconds used so far."""
    own, served = os.times(), psutil.Process(registry.pid).cpu_times()
    return own.user + own.system + own.children_user + own.children_system + served.user + served.system


def main() -> int:
    """Measure, print, and compare with the bounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    programs = find_programs("registry", "crane")
    for name in ("registry", "crane"):
        print(f"{name} {programs.found[name].version} ({programs.found[name].origin})")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        registry = Registry(folder / "registry", program=programs.paths["registry"])
        try:
            return measure(registry, programs.paths["crane"], folder, rounds)
        finally:
            registry.stop()


def measure(registry: Registry, program: Path, folder: Path, rounds: int) -> int:
    """Run the rounds and print the ratios."""
    names, requests = fill(registry)
    floor(requests)

    def options(cache: Path, host: str = registry.host, tag_seconds: float = 3600.0) -> AuditOptions:
        return AuditOptions(
            hosts={host: RegistryHost(plain_http=True)},
            docker_config=folder / "none.json",
            cache=cache,
            tag_seconds=tag_seconds,
        )

    def scan(cache: Path, tag_seconds: float = 3600.0) -> None:
        images = audit_images(names, options(cache, tag_seconds=tag_seconds)).values()
        verdicts = [image.verdict for image in images]
        assert (verdicts.count("multi-arch"), verdicts.count("amd64-only")) == (INDEXES, SINGLES)

    times: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        cache = folder / f"cache-{number}"
        for name, work in (
            ("floor", lambda: floor(requests)),
            ("cold", lambda cache=cache: scan(cache)),
            ("warm", lambda cache=cache: scan(cache)),
            ("asking tags", lambda cache=cache: scan(cache, 0.0)),
            ("crane", lambda: crane(program, names)),
        ):
            times.setdefault(name, []).append(timed(work, registry))
    wall = {name: statistics.median(seconds for seconds, _ in values) for name, values in times.items()}
    busy = {name: statistics.median(seconds for _, seconds in values) for name, values in times.items()}
    for name, values in times.items():
        low, high = min(values)[0] * 1000, max(values)[0] * 1000
        print(
            f"{name:12} {wall[name] * 1000:6.0f} ms ({low:.0f} to {high:.0f}), {busy[name]:.2f} processor s"
        )

    counting = Server(registry.base)
    pods = [names[number % len(names)].replace(registry.host, counting.host) for number in range(PODS)]
    audit_images(pods, options(folder / "pods", counting.host))
    sent = len(counting.requests)
    repeated = sent - len({(seen.method, seen.path) for seen in counting.requests})
    counting.stop()

    bounds = (
        ("cold / floor", wall["cold"] / wall["floor"], "at most", 1.3),
        ("crane / cold", wall["crane"] / wall["cold"], "at least", 3.0),
        ("warm / cold", wall["warm"] / wall["cold"], "at most", 0.2),
        ("requests sent twice", float(repeated), "at most", 0.0),
    )
    missed = 0
    ratios = busy["cold"] / busy["floor"], busy["crane"] / busy["cold"]
    print("processor: cold / floor {:.2f}, crane / cold {:.2f}".format(*ratios))
    print(f"{len(names)} images, {sum(map(len, requests))} requests; {PODS} pods: {sent} requests")
    for name, value, word, bound in bounds:
        holds = value <= bound if word == "at most" else value >= bound
        missed += not holds
        print(f"{name:20} {value:6.2f}   {word} {bound:g}   {'ok' if holds else 'MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
