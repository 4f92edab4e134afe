"""A run: the real engine takes all steps of the ramp, with faults, and a sampler checks the invariants."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from archshift.cluster.client import Cluster, connect
from archshift.common.errors import ArchshiftError
from chaos import fleet
from chaos.engine import BehindProxy, Stack, Up
from chaos.faults import USER, Faults, throttling
from chaos.invariants import Checker, Snapshot, at_rest, name_of
from chaos.proxy import Proxy
from chaos.schedule import Fault, Phase
from lab.control_plane import CONTEXT, Lab, LabError

UPS: Final = 4
"""How many updates without faults a phase may need until all workloads are exact."""
_SAMPLE_SECONDS: Final = 0.4
_REST_SECONDS: Final = 60.0
_COMMAND_SECONDS: Final = 300.0

Say = Callable[[str], None]


@dataclass
class Report:
    """The results of a run.

    Attributes:
        faults: The number of injected faults by kind.
        ups: The number of updates by outcome.
        attempts: The number of refused attempts to remove x86.
        samples: The number of checks of the invariants.
        blind: The number of checks without an answer of the API server.
        needed: For each phase, the updates without faults until all workloads were exact.
        violations: Each violation, with the second of its first occurrence.
        seconds: The length of the run.
    """

    faults: Counter[str] = field(default_factory=Counter)
    ups: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    samples: int = 0
    blind: int = 0
    needed: list[int] = field(default_factory=list)
    violations: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def table(self) -> str:
        """The report as text."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        ups = ", ".join(
            f"{self.ups[outcome]} {outcome}" for outcome in ("succeeded", "failed", "killed", "stuck")
        )
        lines = [
            f"faults      {sum(self.faults.values())}: {faults}",
            f"updates     {sum(self.ups.values())}: {ups}",
            f"x86         {self.attempts} attempts to remove it were refused",
            f"exact       after {', '.join(map(str, self.needed))} updates without faults, phase by phase",
            f"samples     {self.samples}, and {self.blind} without an answer of the API server",
            f"violations  {len(self.violations)}",
        ]
        return "\n".join([*lines, *(f"  {at:6.1f} s  {what}" for what, at in self.violations.items())])


class Run:
    """A run in a lab that was started for it."""

    def __init__(self, lab: Lab, folder: Path, say: Say, placement: str = "patches") -> None:
        self._lab, self._folder, self._say, self._placement = lab, folder, say, placement
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._expected = {name_of(workload): workload for workload in fleet.workloads()}
        self._checker = Checker(needing=set(fleet.NEEDING), x86=fleet.node_names("x86"))
        self._number = 0
        self.report = Report(violations=self._checker.violations)

    def walk(self, phases: tuple[Phase, ...]) -> Report:
        """Take all steps of the ramp, and remove x86 when no workload needs it."""
        server = yaml.safe_load(self._lab.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        proxy = Proxy(int(server.rpartition(":")[2]))
        try:
            with connect(CONTEXT, self._lab.kubeconfig) as cluster:
                self._walk(cluster, proxy, phases)
        finally:
            proxy.close()
        self.report.seconds = self._clock()
        self.report.samples = self._checker.samples
        return self.report

    def _walk(self, cluster: Cluster, proxy: Proxy, phases: tuple[Phase, ...]) -> None:
        kubeconfig = self._prepare(proxy.port)
        stack = Stack(
            BehindProxy(self._lab, kubeconfig, self._folder / "cache"),
            self._folder / "stack",
            self._placement,
        )
        self._begin(cluster, stack)
        faults = Faults(self._lab, cluster, proxy, self._checker, self._lock, self._expected, self._clock)
        self.report.faults = faults.injected
        with self._sampled():
            for phase in phases:
                self._say(
                    f"=== arm_ratio {phase.arm_ratio}: {len(phase.faults)} faults in {phase.seconds:.0f} s"
                )
                with self._injected(faults, phase):
                    self._update_during_faults(stack, faults, phase)
                proxy.calm()
                self._lab.start()
                self._require_exact(cluster, stack, faults, phase.arm_ratio)
            self._remove_x86(cluster, stack)

    # --- before ------------------------------------------------------------------------------

    def _prepare(self, port: int) -> Path:
        """Create the engine's user; returns its kubeconfig, which goes through the proxy."""
        kubectl = self._lab.kubectl
        kubectl("create", "serviceaccount", USER, "--namespace=default")
        account = f"--serviceaccount=default:{USER}"
        kubectl("create", "clusterrolebinding", USER, "--clusterrole=cluster-admin", account)
        token = kubectl("create", "token", USER, "--namespace=default", "--duration=24h").strip()
        kubectl("apply", "--filename=-", stdin=json.dumps(throttling()))
        config = yaml.safe_load(self._lab.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        config["users"][0]["user"] = {"token": token}
        path = self._folder / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _begin(self, cluster: Cluster, stack: Stack) -> None:
        """Create nodes and workloads without a fault, with all pods on x86.

        The x86 nodes come first, because the scheduler may place pods anywhere before archshift does.
        """
        fleet.push_images(self._lab)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": fleet.NAMESPACE}}
        self._lab.kubectl("apply", "--filename=-", stdin=json.dumps(space))
        stack.configure("0.0", {"x86": fleet.groups()["x86"]}, hold=False)
        ups = [self._up(stack)]
        items = [*self._expected.values(), fleet.budget()]
        manifests = {"apiVersion": "v1", "kind": "List", "items": items}
        self._lab.kubectl("apply", "--filename=-", stdin=json.dumps(manifests))
        there = self._rest(cluster, fleet.node_names("x86"), compare=False)
        stack.configure("0.0")
        ups.append(self._up(stack))
        if not there or any(up.outcome != "succeeded" for up in ups):
            raise LabError(f"the fleet was not ready before the first fault: {ups[-1].output[-2000:]}")
        # Expect the workloads with the defaults that the API server added.
        for workload in self._snapshot(cluster).workloads:
            self._expected[name_of(workload)] = copy.deepcopy(dict(workload))

    # --- during ------------------------------------------------------------------------------

    @contextmanager
    def _injected(self, faults: Faults, phase: Phase) -> Iterator[None]:
        """Inject the phase's faults in the background; on exit, all have ended."""
        start = time.monotonic()
        events: list[tuple[float, bool, Fault]] = [(fault.at, True, fault) for fault in phase.faults]
        # A fault ends at the latest with its phase.
        events += [
            (min(fault.at + fault.seconds, phase.seconds), False, fault)
            for fault in phase.faults
            if fault.seconds
        ]

        def act(begins: bool, fault: Fault, before: Future[None] | None) -> None:
            if before:
                before.result()
            try:
                if begins:
                    self._say(f"{self._clock():6.1f} s  fault {fault} {faults.begin(fault)}".rstrip())
                else:
                    faults.end(fault)
            except Exception as error:  # the lab itself failed, and the report must show it
                self._violation(f"the fault {fault.kind} could not be injected: {error}")

        def inject() -> None:
            begun: dict[Fault, Future[None]] = {}
            # A fault may wait for the API server. The end of another fault must not wait with it.
            with ThreadPoolExecutor(max_workers=8) as threads:
                for at, begins, fault in sorted(events, key=lambda event: (event[0], not event[1])):
                    if given_up.wait(max(0.0, start + at - time.monotonic())):
                        return
                    begun[fault] = threads.submit(act, begins, fault, begun.get(fault))

        given_up = threading.Event()
        thread = threading.Thread(target=inject, name="faults")
        thread.start()
        try:
            yield
        except BaseException:
            given_up.set()
            raise
        finally:
            thread.join()

    def _update_during_faults(self, stack: Stack, faults: Faults, phase: Phase) -> None:
        """Update repeatedly until the phase ends."""
        end = time.monotonic() + phase.seconds
        # Also make the attempts that are left because the last update took too long.
        while time.monotonic() < end or faults.attempts:
            attempt = faults.attempts.pop(0) if faults.attempts else None
            away = None if attempt is None else fleet.without_x86(attempt)
            stack.configure(phase.arm_ratio, away)
            # Only a refresh shows the engine that nodes were deleted.
            refresh = ["--refresh"] if faults.nodes_lost else []

            def killed(seconds: float) -> bool:
                return faults.kill_after is not None and seconds >= faults.kill_after

            up = self._up(stack, *refresh, killed=killed)
            if up.outcome == "killed":
                faults.kill_after = None
            if away is not None:
                if up.outcome == "succeeded":
                    self._violation("pulumi up removed x86 although a workload needs it")
                else:
                    self.report.attempts += 1
            elif refresh and up.outcome == "succeeded":
                faults.nodes_lost = False
            time.sleep(0.5)

    @contextmanager
    def _sampled(self) -> Iterator[None]:
        """Check the invariants in the background."""
        over = threading.Event()

        def sample() -> None:
            with connect(CONTEXT, self._lab.kubeconfig) as cluster:
                while not over.wait(_SAMPLE_SECONDS):
                    try:
                        snapshot = self._snapshot(cluster)
                    except ArchshiftError:
                        self.report.blind += 1
                        continue
                    with self._lock:
                        self._checker.look(snapshot)

        thread = threading.Thread(target=sample, name="sampler")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # --- afterwards --------------------------------------------------------------------------

    def _require_exact(self, cluster: Cluster, stack: Stack, faults: Faults, arm_ratio: str) -> None:
        """Update without faults: all workloads must become exact, and nothing may be lost."""
        faults.kill_after = None
        stack.configure(arm_ratio)
        problems: list[str] = []
        for number in range(1, UPS + 1):
            up = self._up(stack, *(["--refresh"] if faults.nodes_lost else []))
            if up.outcome != "succeeded":
                problems = [f"pulumi up {up.outcome}: {up.reason}"]
                continue
            faults.nodes_lost = False
            status = stack.archshift("status", timeout=_COMMAND_SECONDS)
            if status.returncode == 0:
                self.report.needed.append(number)
                break
            inexact = [line for line in status.stdout.splitlines() if "not exact" in line]
            # The status of a fleet with pending pods is an error too, and only its table names them.
            problems = inexact or [(status.stderr or status.stdout).strip()]
        else:
            self.report.needed.append(UPS)
            self._violation(
                f"at {arm_ratio} some workloads are not exact after {UPS} updates without faults: "
                f"{'; '.join(problems)}"
            )
        self._rest(cluster, fleet.node_names("x86", "graviton"))
        for sentence in stack.left_behind():
            self._violation(f"at rest at {arm_ratio}: {sentence}")

    def _remove_x86(self, cluster: Cluster, stack: Stack) -> None:
        """Remove x86 as its owner would when no workload needs it; the guard must allow it."""
        self._say("=== no workload needs x86 any more: drain and remove it")
        patch = {
            "spec": {
                "template": {"spec": {"containers": [{"name": "app", "image": fleet.image("legacy:2")}]}}
            }
        }
        target = ["deployment/legacy", f"--namespace={fleet.NAMESPACE}"]
        self._lab.kubectl("patch", *target, f"--patch={json.dumps(patch)}")
        spec = self._expected["legacy"]["spec"]["template"]["spec"]
        spec["containers"][0]["image"] = fleet.image("legacy:2")
        with self._lock:
            self._checker.needing.clear()
        stack.configure("1.0", hold=False)
        # Pods of the old image count while they exist. The first update replaces them. The second update
        # finds no need for x86 and lifts the protection.
        ups = [self._up(stack), self._up(stack)]
        drained = stack.archshift("drain", "--nodes=2", timeout=_COMMAND_SECONDS)
        if drained.returncode:
            self._violation(
                f"archshift drain ended with {drained.returncode}: {drained.stderr.strip()[-300:]}"
            )
        left = fleet.groups()
        del left["x86"]
        stack.configure("1.0", left, hold=False)
        ups.append(self._up(stack))
        if ups[-1].outcome != "succeeded":
            self._violation(f"pulumi up could not remove x86 although no workload needs it: {ups[-1].reason}")
        self._rest(cluster, fleet.node_names("graviton"))

    def _rest(self, cluster: Cluster, nodes: set[str], *, compare: bool = True) -> bool:
        """Wait until the cluster is at rest; every problem after a minute is a violation."""
        deadline = time.monotonic() + _REST_SECONDS
        while True:
            snapshot = self._snapshot(cluster)
            expected = (
                self._expected
                if compare
                else {name_of(workload): workload for workload in snapshot.workloads}
            )
            problems = at_rest(snapshot, expected, nodes)
            if not problems and len(snapshot.workloads) == len(self._expected):
                return True
            if time.monotonic() > deadline:
                for sentence in problems:
                    self._violation(f"at rest: {sentence}")
                return False
            time.sleep(0.5)

    # --- parts -------------------------------------------------------------------------------

    def _up(self, stack: Stack, *flags: str, killed: Callable[[float], bool] = lambda _: False) -> Up:
        self._number += 1
        up = stack.up(*flags, killed=killed)
        self.report.ups[up.outcome] += 1
        because = f": {up.reason}" if up.reason else ""
        self._say(f"{self._clock():6.1f} s  up {self._number} {up.outcome} after {up.seconds:.1f} s{because}")
        if "Traceback (most recent call last)" in up.output:
            self._violation(f"up {self._number} showed a traceback to the user")
        return up

    def _snapshot(self, cluster: Cluster) -> Snapshot:
        at, space = self._clock(), f"namespaces/{fleet.NAMESPACE}"
        workloads = [
            {**item, "kind": kind}
            for kind in ("Deployment", "StatefulSet")
            for item in cluster.list(f"/apis/apps/v1/{space}/{kind.lower()}s")
        ]
        # Read the nodes last, so that no pod counts on a node that was deleted before.
        pods = tuple(cluster.list(f"/api/v1/{space}/pods"))
        nodes = tuple(cluster.list("/api/v1/nodes"))
        return Snapshot(at=at, nodes=nodes, workloads=tuple(workloads), pods=pods)

    def _clock(self) -> float:
        return time.monotonic() - self._started

    def _violation(self, sentence: str) -> None:
        with self._lock:
            self._checker.say(sentence, self._clock())
        self._say(f"{self._clock():6.1f} s  VIOLATION: {sentence}")
