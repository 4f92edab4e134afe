"""Measures how time and memory grow with the fleet: ``python -m bench.scale [WORKLOADS ...]``.

The fleets have 500, 1,250, 2,500 and 5,000 workloads, ten times as many pods, and 0.4 times as many nodes.
They grow in a separate lab, where controllers, scheduler and kwok are stopped. ``bench/_fleet.py`` writes the
objects with the status that these programs would set. For each command, the benchmark prints the wall and
processor seconds including its children, and the peak memory of its own process. It also prints the exponent
of both against the previous size (1.0 means: they grow like the fleet).
"""

import argparse
import math
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench._fleet import Size, grow, push_images
from lab.control_plane import PROJECT, Lab
from lab.stack import ON_THE_LAB, LabStack

SIZES: Final = (500, 1250, 2500, 5000)
_LONGEST: Final = 600
_CLIENTS: Final = ("kwok", "kube-scheduler", "kube-controller-manager")
_MIB: Final = 1024**2


@dataclass(frozen=True)
class Cost:
    """The cost of a command: wall seconds, processor seconds, and peak bytes of its own process."""

    wall: float
    cpu: float
    peak: int
    children: int = 0


def measure(stack: LabStack, command: list[str], accepted: tuple[int, ...]) -> tuple[Cost, str]:
    """Run a command in the stack's environment; returns its cost and its output."""
    folder = stack.folder
    environment = {**stack.environment(), "XDG_CACHE_HOME": str(folder / "cache")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done, own, below = threading.Event(), 0, 0
    with (folder / "output").open("w+") as output, (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )

        def watch() -> None:
            nonlocal own, below
            while not done.wait(0.02):
                mine, others = _resident(process.pid)
                own, below = max(own, mine), max(below, others)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            code = process.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{' '.join(command)} took more than {_LONGEST} s") from None
        finally:
            process.kill()
            done.set()
            watcher.join()
        output.seek(0), errors.seek(0)
        printed, errors_printed = output.read(), errors.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code not in accepted:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{printed[-2000:]}{errors_printed[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.monotonic() - started, cpu, own, below), printed


def _resident(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process, and of all its descendants."""
    try:
        process = psutil.Process(pid)
        own = int(process.memory_info().rss)
        below = 0
        for child in process.children(recursive=True):
            below += int(child.memory_info().rss)
        return own, below
    except psutil.Error:
        return 0, 0


def commands(stack: LabStack) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """Return the measured commands by name, with the exit codes that mean no failure."""
    archshift, page = stack.archshift_command, str(stack.folder / "report.html")
    return {
        "audit, cold": (archshift("audit", "--from-cluster"), (0, 1)),
        "audit, warm": (archshift("audit", "--from-cluster"), (0, 1)),
        "status": (archshift("status"), (0, 3, 5)),
        "plan": (archshift("plan"), (0,)),
        "report --html": (archshift("report", "--prices=table", f"--html={page}"), (0,)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("workloads", nargs="*", type=int, help="sizes in ascending order (default: all)")
    parser.add_argument(
        "--preview", nargs="*", type=int, default=list(SIZES), help="the sizes that also run pulumi preview"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these commands, such as status")
    parser.add_argument("--keep", type=Path, help="keep the lab in this folder, with a running API server")
    options = parser.parse_args()
    parent = PROJECT / ".lab"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        folder = options.keep or Path(name)
        lab = Lab(folder / "lab")
        lab.start(lambda text: print(text, flush=True))
        for client in _CLIENTS:
            lab.servers[client].stop(5)
        try:
            run(lab, folder, options.workloads or list(SIZES), options.preview, options.only or ())
        finally:
            if not options.keep:
                lab.stop()


def run(lab: Lab, folder: Path, sizes: list[int], previewed: list[int], only: Collection[str]) -> None:
    """Grow the fleet to each size and measure it."""
    stack = LabStack(lab, folder, "scale")
    earlier: dict[str, tuple[int, Cost]] = {}
    last: Size | None = None
    print(f"{'workloads / pods / nodes':<26} {'':<16} {'wall s':>8} {'CPU s':>8} {'MiB':>7}  grows with")
    for workloads in sizes:
        size = Size(workloads, workloads * 10, workloads * 2 // 5)
        started = time.monotonic()
        push_images(lab, range(last.images if last else 0, size.images))
        grow(lab, last, size)
        print(f"{size!s:<26} (written in {time.monotonic() - started:.0f} s)", flush=True)
        stack.write({**ON_THE_LAB, "arm_ratio": "0.5", "node_groups": size.groups})
        for name, (command, accepted) in commands(stack).items():
            if only and name.partition(",")[0].partition(" ")[0] not in only:
                continue
            cost, printed = measure(stack, command, accepted)
            note = f"{len(printed) / _MIB:.1f} MiB printed"
            if name == "report --html":
                note = f"{(folder / 'report.html').stat().st_size / _MIB:.1f} MiB page"
            show(size, name, cost, earlier, note)
        if workloads in previewed:
            cost, _ = measure(stack, stack.command("preview"), (0,))
            show(size, "pulumi preview", cost, earlier, f"{cost.children / _MIB:.0f} MiB below the engine")
        server = lab.servers["kube-apiserver"].process()
        held = server.memory_info().rss / _MIB if server else 0
        load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
        print(f"{'':<26} (API server: {held:.0f} MiB; load {load})", flush=True)
        last = size


def show(size: Size, name: str, cost: Cost, earlier: dict[str, tuple[int, Cost]], note: str) -> None:
    """Print a row, with the exponents against the previous size."""
    grows = ""
    if name in earlier:
        workloads, was = earlier[name]
        step = math.log(size.workloads / workloads)
        cpu, peak = (
            math.log(now / then) / step for now, then in ((cost.cpu, was.cpu), (cost.peak, was.peak))
        )
        grows = f"CPU {cpu:.2f}, memory {peak:.2f}; "
    earlier[name] = (size.workloads, cost)
    print(
        f"{size!s:<26} {name:<16} {cost.wall:>8.2f} {cost.cpu:>8.2f} {cost.peak / _MIB:>7.0f}  {grows}{note}",
        flush=True,
    )


if __name__ == "__main__":
    main()
