"""Four weeks of a ramp: real engine, API server, scheduler, Prometheus and git; the time is simulated.

What Prometheus has of each week is made from where the cluster's pods really were; how well they did is
the test's to say.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from lab.control_plane import PROJECT
from tests.gate.weeks import FakeWeeks, Pods
from tests.lab.exact import expect_exact
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups, stateful_set

pytestmark = pytest.mark.timeout(1800)

ZONE = ZoneInfo("Europe/Berlin")
PROMETHEUS = "http://127.0.0.1:9"
# Daylight saving begins in the last week (29 March): the steps stay at ten in the morning.
WEEK = [datetime(2026, 3, day, 10, tzinfo=ZONE) for day in (2, 9, 16, 23, 30)]
WELL, SLOW, BROKEN = Pods(1), Pods(1, latency_p95=0.26), Pods(1, errors=0.3)


@dataclass
class Rehearsal:
    """A stack in a git repository, and what its Prometheus has seen so far."""

    cluster: Cluster
    stack: Stack
    namespace: str
    folder: Path
    history: list[tuple[datetime, datetime, Mapping[str, tuple[int, int]], Mapping[str, Pods]]] = field(
        default_factory=list
    )
    asked: int = 0

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        who = ["-c", "user.name=Ramp", "-c", "user.email=ramp@shop.example"]
        done = subprocess.run(
            ["git", *who, *arguments],
            cwd=self.stack.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ramp(self, *arguments: str, at: datetime) -> subprocess.CompletedProcess[str]:
        """`archshift ramp` as if it were that time."""
        return self.stack.archshift("ramp", *arguments, f"--at={at.isoformat()}")

    @property
    def ratio(self) -> str:
        """What the stack's file says."""
        config = yaml.safe_load(self.stack.config_file.read_text())["config"]
        return str(config["archshift:arm_ratio"])

    def up(self) -> None:
        """The real update to what the file says, exact afterwards; the pack lets it through."""
        pack = [f"--policy-pack={PROJECT / 'policies'}", f"--policy-pack-config={self.folder / 'pack.json'}"]
        done = self.stack.up(f"--cwd={self.stack.folder}", *pack)
        assert done.succeeded, done.output
        expect_exact(self.cluster, self.stack, self.namespace, float(self.ratio))

    def live(self, begin: datetime, end: datetime, **worse: Pods) -> None:
        """Let the pods be where they are from then to then; those on Graviton do worse, if it is said."""
        total = self.cluster.pod_counts(self.namespace)
        graviton = self.cluster.graviton_counts(self.namespace)
        counts = {name: (count - graviton[name], graviton[name]) for name, count in total.items()}
        self.history.append((begin, end, counts, worse))

    def gate(self, at: datetime) -> tuple[str, str]:
        """Ask the gate at that time, with all that happened so far in Prometheus: verdict and all it said."""
        # The hours that it looks at: before it is asked, and before each of the steps.
        starts = sorted({begin for begin, *_ in self.history})
        spans = [(moment - timedelta(hours=4), moment) for moment in (*starts[1:], at)]
        weeks = FakeWeeks(spans)
        for begin, end, counts, worse in self.history:
            for name, (x86, arm) in counts.items():
                does = worse.get(name.partition("/")[2], WELL)
                weeks.run(
                    f"{self.namespace}/{name}",
                    begin,
                    # Pods of a StatefulSet keep their names: no two at once.
                    end - timedelta(seconds=1),
                    x86=Pods(x86) if x86 else None,
                    graviton=replace(does, count=arm) if arm else None,
                )
        self.asked += 1
        folder = self.folder / f"prometheus-{self.asked}"
        folder.mkdir()
        with weeks.serve(folder) as server:
            # Its address is new each time, and not what this is about: the file keeps the one it has.
            committed = self.stack.config_file.read_text()
            self.stack.config_file.write_text(committed.replace(PROMETHEUS, server.url))
            said = self.stack.archshift(
                "gate", "--output", f"--cwd={self.stack.folder}", f"--at={at.isoformat()}"
            )
            self.stack.config_file.write_text(committed)
        verdicts = {0: "pass", 3: "hold", 5: "step-back", 6: "unknown"}
        assert said.returncode in verdicts, said.stderr
        return verdicts[said.returncode], said.stdout

    def take(self, at: datetime, *flags: str) -> str:
        """Take a step with the gate's evidence, and bring the cluster to it; returns the commit's text."""
        done = self.ramp("apply", "--commit", "--gate", *flags, f"--cwd={self.stack.folder}", at=at)
        assert done.returncode == 0, done.stdout + done.stderr
        self.up()
        return self.git("log", "-1", "--format=%B")


@pytest.fixture
def rehearsal(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Rehearsal]:
    """Three workloads on x86, in a stack whose program and file are a repository's."""
    stack = Stack(cluster.lab, tmp_path / "stack", f"test-{uuid.uuid4().hex[:8]}")
    yield _rehearsal(cluster, stack, namespace, tmp_path)
    stack.remove()


def _rehearsal(cluster: Cluster, stack: Stack, namespace: str, folder: Path) -> Rehearsal:
    # Images are not what this is about: their rules have tests of their own.
    about_images = (
        "daemonset-runs-on-every-architecture",
        "x86-capacity-for-amd64-images",
        "x86-node-group-protected",
    )
    (folder / "pack.json").write_text(json.dumps(dict.fromkeys(about_images, "disabled")))
    shutil.copy(PROJECT / "__main__.py", stack.folder)
    stack.config(
        {
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "0.0",
            "gate": {"prometheus": PROMETHEUS, "window": "3h"},
            "ramp": {
                "start": "2026-03-02T10:00",
                "soak": "5d",
                "time_zone": "Europe/Berlin",
                "steps": [0.2, 0.5, 0.8, 1.0],
            },
        }
    )
    cluster.apply(
        [
            deployment("catalog", 6, namespace),
            deployment("cart", 6, namespace),
            stateful_set("queue", 3, namespace),
        ]
    )
    made = Rehearsal(cluster, stack, namespace, folder)
    made.git("init", "--quiet", "--initial-branch=main")
    # A machine need not know who commits.
    made.git("config", "user.name", "Dev")
    made.git("config", "user.email", "dev@acme.example")
    made.git("add", "__main__.py", "Pulumi.yaml", stack.config_file.name)
    made.git("commit", "--quiet", "--message=the stack")
    return made


def test_four_weeks_of_a_ramp(rehearsal: Rehearsal) -> None:
    """Passes, a regression in week 2 holds, its recovery goes on, a bad week 3 steps back, and the last week
    ends at 1.0. The repository has a commit for each move, of the stack's file alone, with the reason; after
    each the real cluster is exact; and with a gate's word missing or against it nothing moves. The report
    tells the same story.
    """
    it = rehearsal
    it.up()
    it.live(WEEK[0] - timedelta(days=7), WEEK[0])
    early = it.ramp("apply", f"--cwd={it.stack.folder}", at=WEEK[0] - timedelta(hours=1))
    assert early.returncode == 3
    assert "0.2 is planned for" in early.stdout
    verdict, said = it.gate(WEEK[0])
    assert verdict == "pass", said
    assert "nothing runs on Graviton yet" in said
    it.take(WEEK[0])
    assert it.ratio == "0.2"

    it.live(WEEK[0], WEEK[1])
    soaking, said = it.gate(WEEK[0] + timedelta(days=2))
    assert soaking == "hold", said
    verdict, said = it.gate(WEEK[1])
    assert verdict == "pass", said
    message = it.take(WEEK[1])
    assert it.ratio == "0.5"
    assert message.startswith(f"{it.stack.name}: arm_ratio 0.2 -> 0.5, step 2 of 4\n")
    assert "Gate: pass of 0.2" in message

    it.live(WEEK[1], WEEK[2], catalog=SLOW)
    verdict, said = it.gate(WEEK[2])
    assert verdict == "hold", said
    refused = it.ramp("apply", "--commit", "--gate", f"--cwd={it.stack.folder}", at=WEEK[2])
    assert refused.returncode == 1
    assert "hold" in refused.stderr
    assert it.ratio == "0.5"

    mended = WEEK[2] + timedelta(days=2)
    it.live(WEEK[2], mended)
    verdict, said = it.gate(mended)
    assert verdict == "pass", said
    assert "Gate: pass of 0.5" in it.take(mended)
    assert it.ratio == "0.8"

    bad = mended + timedelta(days=6)
    it.live(mended, bad, catalog=BROKEN, cart=BROKEN)
    verdict, said = it.gate(bad)
    assert verdict == "step-back", said
    message = it.take(bad, "--back")
    assert it.ratio == "0.5"
    assert "Gate: step-back of 0.8" in message

    again = bad + timedelta(days=7)
    it.live(bad, again)
    verdict, said = it.gate(again)
    assert verdict == "pass", said
    it.take(again)
    last = again + timedelta(days=7)
    it.live(again, last)
    verdict, said = it.gate(last)
    assert verdict == "pass", said
    assert "This is the last step." in it.take(last)
    assert it.ratio == "1.0"
    titles = it.git("log", "--reverse", "--format=%s").splitlines()[1:]
    moves = [title.partition("arm_ratio ")[2].partition(",")[0] for title in titles]
    assert moves == ["0 -> 0.2", "0.2 -> 0.5", "0.5 -> 0.8", "0.8 -> 0.5", "0.5 -> 0.8", "0.8 -> 1"]
    for commit in it.git("log", "--format=%H").split()[:-1]:
        assert it.git("show", "--name-only", "--format=", commit).split() == [it.stack.config_file.name]
    over = it.ramp("next", f"--cwd={it.stack.folder}", at=last + timedelta(days=30))
    assert over.returncode == 3
    assert "the ramp is over" in over.stdout
    told = it.stack.archshift("report", "--json", f"--cwd={it.stack.folder}")
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["notes"] == ["whether images run on arm64: archshift:images.check is false"]
    walked = [move["arm_ratio"] for move in report["history"]["moves"]]
    assert walked == [0.0, 0.2, 0.5, 0.8, 0.5, 0.8, 1.0]
    assert report["fleet"] == {"pods": 15, "wanted": 15, "graviton": 15, "all_pods": 15, "exact": True}
    assert [word["verdict"] for word in report["history"]["judgements"]] == ["pass"]
