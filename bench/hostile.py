"""Measures what hostile images cost an audit: ``python -m bench.hostile [ROUNDS]``.

The lab's registry on 127.0.0.1 has 450 images with a layer each. A small server has 50 hostile ones: slow
ones, endless ones, bombs of gzip and zstd, paths of thousands of folders, hundreds of thousands of folders,
names that no encoding can write (``tests/images/hostile.py``). Prints, for deep audits without a cache, each
in its own process:

- the time for the 450 alone, and with the 50 hostile ones among them: wanted is at most 1.5 times the time
  alone plus one deadline of an image;
- that the 450 have the right verdicts, and the 50 are unknown;
- the most memory of the process: wanted is less than 512 MiB.

The exit code is 1 if one of them does not hold.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.oci import Pusher, elf
from tests.images.audit_process import audit
from tests.images.build import layer
from tests.images.servers import Registry
from tools.bootstrap import find_programs

GOOD, BAD = 450, 50
SECONDS = 20.0
"""The deadline of one image in this benchmark. By default it is a minute."""


def fill(registry: Registry) -> dict[str, str]:
    """Push the good images; return their references with the right verdicts."""
    push = Pusher(registry.base)
    right = {}
    for number in range(GOOD):
        arm64 = elf("arm64" if number % 3 else "amd64")
        layers = [layer({"app": arm64, f"etc/{number}": b"#!/app\n" + bytes(4096)})]
        children = [
            push.image(f"good/{number}", platform=f"linux/{one}", layers=layers, config={"Cmd": ["/app"]})
            for one in ("amd64", "arm64")
        ]
        push.index(f"good/{number}", "1", children)
        right[f"{registry.host}/good/{number}:1"] = "multi-arch" if number % 3 else "amd64-only"
    return right


def main() -> int:
    """Measure, print, and compare with the bounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    program = find_programs("registry").paths["registry"]
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder) / "registry", program=program)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.images.hostile", str(BAD)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            bad = [server.stdout.readline().strip() for _ in range(BAD)]
            return measure(registry, bad, rounds)
        finally:
            server.kill()
            server.wait()
            registry.stop()


def measure(registry: Registry, bad: list[str], rounds: int) -> int:
    """Run the rounds and print the figures."""
    right = fill(registry)
    good = list(right)
    step = GOOD // BAD
    mixed = [image for at, one in enumerate(bad) for image in (one, *good[at * step : (at + 1) * step])]
    hosts = [registry.host, bad[0].partition("/")[0]]
    alone, among, memory, wrong = [], [], 0.0, 0
    for _ in range(rounds):
        found = audit(good, hosts, image_seconds=SECONDS)
        alone.append(found["seconds"])
        wrong += sum(found["verdicts"][image][0] != verdict for image, verdict in right.items())
        found = audit(mixed, hosts, image_seconds=SECONDS)
        among.append(found["seconds"])
        memory = max(memory, found["mib"])
        wrong += sum(found["verdicts"][image][0] != verdict for image, verdict in right.items())
        wrong += sum(found["verdicts"][image][0] != "unknown" for image in bad)
    before, after = statistics.median(alone), statistics.median(among)
    print(
        f"{GOOD} images alone {before:.1f} s, with {BAD} hostile ones {after:.1f} s (deadline {SECONDS:g} s)"
    )
    bounds = (
        ("ratio after the deadline", max(0.0, after - SECONDS) / before, 1.5),
        ("wrong verdicts", float(wrong), 0.0),
        ("MiB", memory, 512.0),
    )
    for name, value, bound in bounds:
        print(f"{name:26} {value:8.2f}   at most {bound:g}   {'ok' if value <= bound else 'MISSED'}")
    return 1 if any(value > bound for _, value, bound in bounds) else 0


if __name__ == "__main__":
    sys.exit(main())
