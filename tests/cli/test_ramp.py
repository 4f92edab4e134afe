"""``archshift ramp`` on a real stack's file in a real git repository, with the real engine."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archshift.cli.commands import gate
from archshift.cli.main import main
from archshift.ramp.gate import FleetVerdict
from archshift.ramp.measurement import MeasuredWindow, Measurement
from tools.bootstrap import find_programs

PROJECT = Path(__file__).resolve().parents[2]

FILE = """\
# Production, a week after staging.
config:
  # The number that moves weekly.
  archshift:arm_ratio: "0.2"  # 0.5 is next
  archshift:ramp:
    start: "2026-03-02"
    time_zone: Europe/Berlin
    windows: [{days: [mon, tue, wed, thu], from: "09:00", to: "16:00"}]
    freezes: [{from: "2026-03-11", to: "2026-03-12", reason: the big sale}]
    since: "2026-03-02T09:12:00+01:00"
  aws:region: eu-west-1
"""
MONDAY = "2026-03-09T09:05:00+01:00"
SUNDAY = "2026-03-08T12:00:00+01:00"


@dataclass
class Repository:
    """A checkout with the stack prod, and the command in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        return self.folder / "Pulumi.prod.yaml"

    def git(self, *arguments: str) -> str:
        """Run git, which has to succeed."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ramp(self, *arguments: str, at: str = MONDAY) -> tuple[int, str, str]:
        """Run the command: exit code, standard output, standard error."""
        self.capture.readouterr()
        code = main(["ramp", *arguments, f"--at={at}", "--stack=prod"])
        out, err = self.capture.readouterr()
        return code, out, err

    def change(self, old: str, new: str) -> None:
        """Edit the stack's file, and commit it."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))
        self.git("commit", "--quiet", "--all", "--message=change")

    def evidence(self, **change: Any) -> Path:
        """Write the gate's evidence: a pass for 0.2 of five minutes ago."""
        path = self.folder / "gates" / "prod.json"
        path.parent.mkdir(exist_ok=True)
        value = {
            "stack": "prod",
            "arm_ratio": 0.2,
            "verdict": "pass",
            "at": "2026-03-09T08:00:00Z",
            "reasons": ["5 workloads do as well as on x86"],
            **change,
        }
        path.write_text(json.dumps(value))
        return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, a backend and an engine's home, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "state").mkdir()
    checkout = folder / "checkout"
    checkout.mkdir()
    shutil.copy(PROJECT / "Pulumi.yaml", checkout)
    subprocess.run(
        [str(find_programs("pulumi").paths["pulumi"]), "stack", "init", "prod"],
        cwd=checkout,
        env={**os.environ, **environment(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=True,
    )
    # The engine wrote the stack's salt, which the edits have to leave alone.
    (checkout / "Pulumi.prod.yaml").write_text(FILE + (checkout / "Pulumi.prod.yaml").read_text())
    return folder


def environment(folder: Path) -> dict[str, str]:
    """What the engine and git read; nothing of this machine's user."""
    return {
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "A Person",
        "GIT_AUTHOR_EMAIL": "person@example.com",
        "GIT_COMMITTER_NAME": "A Person",
        "GIT_COMMITTER_EMAIL": "person@example.com",
    }


@pytest.fixture
def prod(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    """The stack prod at 0.2 since Monday, 2 March; committed."""
    folder = tmp_path / "checkout"
    shutil.copytree(made / "checkout", folder)
    for name, value in environment(made).items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("GIT_DIR")]:
        monkeypatch.delenv(name)
    engine = find_programs("pulumi").paths["pulumi"].parent
    monkeypatch.setenv("PATH", f"{engine}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(folder)
    repository = Repository(folder, capsys)
    repository.git("init", "--quiet")
    repository.git("add", ".")
    repository.git("commit", "--quiet", "--message=begin")
    return repository


def diff(repository: Repository, *arguments: str) -> list[str]:
    """The lines that changed in the stack's file."""
    shown = repository.git("diff", "--unified=0", *arguments, "--", "Pulumi.prod.yaml")
    return [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


STEP = [
    '-  archshift:arm_ratio: "0.2"  # 0.5 is next',
    '+  archshift:arm_ratio: "0.5"  # 0.5 is next',
    '-    since: "2026-03-02T09:12:00+01:00"',
    '+    since: "2026-03-09T09:05:00+01:00"',
]


def test_status_for_people(prod: Repository) -> None:
    """Where it stands, what is next and why not now, the dates to come, the freezes."""
    code, out, err = prod.ramp("status", at=SUNDAY)
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "prod is at 0.2 since Mon 02 Mar 2026 09:12 CET",
        "the next step is 0.5, not before Mon 09 Mar 2026 09:00 CET:",
        "0.5 is planned for Mon 09 Mar 2026 00:00 CET, every 7d from Mon 02 Mar 2026 00:00 CET",
        "",
        "STEP WHEN",
        "0.2 now Mon 02 Mar 2026 09:12 CET",
        "0.5 next Mon 09 Mar 2026 09:00 CET",
        "0.8 later Mon 16 Mar 2026 09:00 CET",
        "1 later Mon 23 Mar 2026 09:00 CET",
        "frozen from Wed 11 Mar 2026 00:00 CET to Fri 13 Mar 2026 00:00 CET: the big sale",
    ]


def test_status_as_json(prod: Repository) -> None:
    """Scripts and reports read exactly these keys."""
    code, out, _ = prod.ramp("status", "--json", at=SUNDAY)
    assert code == 0
    assert json.loads(out) == {
        "stack": "prod",
        "at": "2026-03-08T12:00:00+01:00",
        "arm_ratio": 0.2,
        "since": "2026-03-02T09:12:00+01:00",
        "back": 0.0,
        "next": {
            "arm_ratio": 0.5,
            "due": False,
            "at": "2026-03-09T09:00:00+01:00",
            "why_not": [
                "0.5 is planned for Mon 09 Mar 2026 00:00 CET, every 7d from Mon 02 Mar 2026 00:00 CET"
            ],
        },
        "steps": [
            {"arm_ratio": 0.2, "state": "now", "at": "2026-03-02T09:12:00+01:00"},
            {"arm_ratio": 0.5, "state": "next", "at": "2026-03-09T09:00:00+01:00"},
            {"arm_ratio": 0.8, "state": "later", "at": "2026-03-16T09:00:00+01:00"},
            {"arm_ratio": 1.0, "state": "later", "at": "2026-03-23T09:00:00+01:00"},
        ],
        "freezes": [
            {
                "from": "2026-03-11T00:00:00+01:00",
                "to": "2026-03-13T00:00:00+01:00",
                "reason": "the big sale",
            }
        ],
        "pause": None,
    }


def test_next_exits_by_what_is_due(prod: Repository) -> None:
    """0 on Monday in the window, 3 with the reason before and after it, as JSON too."""
    assert prod.ramp("next") == (0, "the next step is 0.5, due since Mon 09 Mar 2026 09:00 CET\n", "")
    code, out, err = prod.ramp("next", at="2026-03-11T10:00:00+01:00")
    assert (code, err) == (3, "")
    assert out == (
        "the next step is 0.5, not before Mon 16 Mar 2026 09:00 CET:\n"
        "  frozen until Fri 13 Mar 2026 00:00 CET: the big sale\n"
    )
    code, out, _ = prod.ramp("next", "--json", at="2026-03-09T16:00:00+01:00")
    assert code == 3
    assert json.loads(out)["next"] == {
        "arm_ratio": 0.5,
        "due": False,
        "at": "2026-03-10T09:00:00+01:00",
        "why_not": ["outside the windows; the next window opens Tue 10 Mar 2026 09:00 CET"],
    }


def test_apply_changes_two_values_and_nothing_else(prod: Repository) -> None:
    """Not staged, not committed; the mode and the engine's salt stay; the second time nothing is due."""
    prod.file.chmod(0o600)
    code, out, err = prod.ramp("apply")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "prod: arm_ratio 0.2 -> 0.5, step 2 of 4",
        "0.5 has been due since Mon 09 Mar 2026 09:00 CET.",
        "0.2 was set Mon 02 Mar 2026 09:12 CET and has soaked 6 days.",
        "Gate: not asked.",
        "Next: 0.8, not before Mon 16 Mar 2026 09:00 CET.",
        "Pulumi.prod.yaml is changed.",
        "pulumi preview shows what moves.",
    ]
    assert diff(prod) == STEP
    assert prod.file.stat().st_mode & 0o777 == 0o600
    assert prod.git("status", "--porcelain").splitlines() == [" M Pulumi.prod.yaml"]
    before = prod.file.read_bytes()
    code, out, _ = prod.ramp("apply", at="2026-03-09T09:06:00+01:00")
    assert code == 3
    assert out.startswith("the next step is 0.8, not before Mon 16 Mar 2026 09:00 CET:\n")
    assert prod.file.read_bytes() == before


def test_apply_commits_the_file_alone_with_the_reason(prod: Repository) -> None:
    """What else is staged stays staged and uncommitted; the message says step, stack and why."""
    (prod.folder / "other.txt").write_text("somebody's work")
    prod.git("add", "other.txt")
    evidence = prod.evidence()
    code, out, _ = prod.ramp("apply", "--commit", "--gate", str(evidence), "--json", "--reason", "as agreed")
    assert code == 0
    assert prod.git("show", "--format=", "--name-only").split() == ["Pulumi.prod.yaml"]
    assert diff(prod, "HEAD~1", "HEAD") == STEP
    assert prod.git("status", "--porcelain").splitlines() == ["A  other.txt", "?? gates/"]
    body = [
        "0.5 has been due since Mon 09 Mar 2026 09:00 CET.",
        "0.2 was set Mon 02 Mar 2026 09:12 CET and has soaked 6 days.",
        "Gate: pass of 0.2 at Mon 09 Mar 2026 09:00 CET.",
        "- 5 workloads do as well as on x86",
        "Reason: as agreed",
        "Next: 0.8, not before Mon 16 Mar 2026 09:00 CET.",
    ]
    title = "prod: arm_ratio 0.2 -> 0.5, step 2 of 4"
    assert prod.git("log", "-1", "--format=%B").rstrip("\n") == "\n".join([title, "", *body])
    assert json.loads(out) == {
        "stack": "prod",
        "arm_ratio": 0.5,
        "applied": {
            "from": 0.2,
            "to": 0.5,
            "since": "2026-03-09T09:05:00+01:00",
            "title": title,
            "reason": body,
            "file": str(prod.file),
            "commit": prod.git("rev-parse", "HEAD").strip(),
        },
        "next": {
            "arm_ratio": 0.8,
            "due": False,
            "at": "2026-03-16T09:00:00+01:00",
            "why_not": [
                "0.8 is planned for Mon 16 Mar 2026 00:00 CET, every 7d from Mon 02 Mar 2026 00:00 CET",
                "0.5 soaks until Sat 14 Mar 2026 09:05 CET, 5d from when it was set",
            ],
        },
    }


def test_what_is_not_committed_is_nobodys_to_commit(prod: Repository) -> None:
    """An edit of somebody's in the file, staged or not, a file that git does not know: one sentence."""
    somebodys = prod.file.read_text() + "# an idea\n"
    for stage in (False, True):
        prod.file.write_text(somebodys)
        if stage:
            prod.git("add", "--all")
        assert prod.ramp("apply", "--commit") == (
            1,
            "",
            f"archshift: {prod.file} has uncommitted changes; commit or undo them first, or omit --commit\n",
        )
        assert prod.file.read_text() == somebodys
    prod.git("rm", "--quiet", "--cached", "--force", "Pulumi.prod.yaml")
    code, _, err = prod.ramp("apply", "--commit")
    assert (code, prod.file.read_text()) == (1, somebodys)
    assert "is not in git; add and commit it first, or omit --commit" in err
    shutil.rmtree(prod.folder / ".git")
    code, _, err = prod.ramp("apply", "--commit")
    assert (code, prod.file.read_text()) == (1, somebodys)
    assert err.startswith("archshift: git ls-files: fatal: not a git repository")


def test_a_commit_that_fails_leaves_the_file_as_it_was(prod: Repository) -> None:
    """A hook of the repository refuses: its word is the sentence."""
    hook = prod.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not on Mondays' >&2\nexit 1\n")
    hook.chmod(0o755)
    before = prod.file.read_bytes()
    assert prod.ramp("apply", "--commit") == (1, "", "archshift: git commit: not on Mondays\n")
    assert prod.file.read_bytes() == before
    assert prod.git("status", "--porcelain") == ""


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("hold", 1)])
def test_what_the_gate_writes_is_what_apply_reads(prod: Repository, verdict: Any, code: int) -> None:
    """The evidence of the command itself, at the place where it is looked for."""
    at = datetime.fromisoformat("2026-03-09T09:00:00+01:00")
    measured = Measurement(window=MeasuredWindow(at, 24, timedelta(hours=1)))
    found = gate.Gate(
        stack="prod",
        arm_ratio=0.2,
        prometheus="http://prometheus.example",
        at=at,
        since=at - timedelta(days=7),
        soak=timedelta(days=5),
        now=measured,
        before=None,
        verdict=FleetVerdict(verdict=verdict, reasons=["9 workloads do as well"]),
        queries=[],
    )
    gate.write_evidence(prod.folder / "gates" / "prod.json", gate.as_json(found))
    done, out, err = prod.ramp("apply", "--gate")
    assert done == code
    assert ("- 9 workloads do as well" in out) == (code == 0)
    assert ("it says hold: 9 workloads do as well" in err) == (code == 1)


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        ({"verdict": "hold", "reasons": ["too few requests"]}, "it says hold: too few requests"),
        ({"verdict": "unknown", "reasons": []}, "it says unknown"),
        ({"stack": "staging"}, "it is about the stack 'staging', not about prod"),
        ({"arm_ratio": 0.5}, "it is about arm_ratio 0.5, but arm_ratio is 0.2 now"),
        ({"at": "2026-03-08T08:00:00Z"}, "it is from 2026-03-08T08:00:00Z, more than 24 hours ago"),
        ({"at": "2026-03-01T08:00:00Z"}, "before arm_ratio was set (2026-03-02T08:12:00Z)"),
        ({"at": "yesterday"}, "its at, 'yesterday', is not a time with its zone"),
    ],
)
def test_a_step_without_a_pass_is_refused(prod: Repository, evidence: dict[str, Any], why: str) -> None:
    """Of this ratio and stack, and of today; the file stays as it is."""
    path = prod.evidence(**evidence)
    code, out, err = prod.ramp("apply", "--gate")
    assert (code, out) == (1, "")
    assert err.startswith(f"archshift: {path.relative_to(prod.folder)} has no pass for 0.2: ")
    assert why in err
    assert err.endswith("; run archshift gate --output again\n")
    assert diff(prod) == []


def test_a_stack_with_a_gate_takes_no_step_without_it(prod: Repository) -> None:
    """Nobody forgets it; the first step, from 0, has nothing to be judged by yet."""
    prod.change("  aws:region", "  archshift:gate: {evidence: proof.json}\n  aws:region")
    assert prod.ramp("apply") == (
        1,
        "",
        "archshift: archshift:gate is set, but there is no evidence of a pass for 0.2; run archshift gate "
        "--output, then this command with --gate\n",
    )
    code, _, err = prod.ramp("apply", "--gate")
    assert (code, err.count("proof.json has no pass for 0.2: there is no proof.json")) == (1, 1)
    prod.change('arm_ratio: "0.2"', 'arm_ratio: "0.0"')
    prod.change('    since: "2026-03-02T09:12:00+01:00"\n', "")
    code, out, _ = prod.ramp("apply")
    assert (code, out.splitlines()[0]) == (0, "prod: arm_ratio 0 -> 0.2, step 1 of 4")
    assert diff(prod) == [
        '-  archshift:arm_ratio: "0.0"  # 0.5 is next',
        '+  archshift:arm_ratio: "0.2"  # 0.5 is next',
        '+    since: "2026-03-09T09:05:00+01:00"',
    ]


def test_a_step_back_is_taken_at_any_time(prod: Repository) -> None:
    """On a Sunday, in a pause: one step, with the gate's reasons; and never below 0."""
    prod.change("    since:", "    pause: {reason: incident}\n    since:")
    prod.evidence(
        verdict="step-back", at="2026-03-08T10:00:00Z", reasons=["p95 latency of shop/cart is 1.4x"]
    )
    code, out, _ = prod.ramp("apply", "--back", "--gate", "--commit", at=SUNDAY)
    assert code == 0
    assert prod.git("log", "-1", "--format=%B").rstrip("\n").splitlines() == [
        "prod: arm_ratio 0.2 -> 0, back to step 0 of 4",
        "",
        "A step back from 0.2.",
        "0.2 was set Mon 02 Mar 2026 09:12 CET and has soaked 6 days.",
        "Gate: step-back of 0.2 at Sun 08 Mar 2026 11:00 CET.",
        "- p95 latency of shop/cart is 1.4x",
        "Next: 0.2, not before the ramp's pause ends.",
    ]
    assert prod.ramp("apply", "--back", at=SUNDAY) == (
        3,
        "nothing was changed: there is no step back from 0\n",
        "",
    )
    code, out, _ = prod.ramp("apply", "--back", "--json", at=SUNDAY)
    assert (code, json.loads(out)) == (
        3,
        {"stack": "prod", "arm_ratio": 0.0, "applied": None, "why_not": ["there is no step back from 0"]},
    )


def test_a_step_back_on_a_pass_is_refused(prod: Repository) -> None:
    """The evidence has to say what is done; by hand it needs none."""
    prod.evidence()
    code, _, err = prod.ramp("apply", "--back", "--gate")
    assert code == 1
    assert "has no step-back for 0.2: it says pass: 5 workloads do as well as on x86; omit --gate" in err
    assert diff(prod) == []
    assert prod.ramp("apply", "--back")[0] == 0


def test_a_pause_comes_and_goes(prod: Repository) -> None:
    """With reason and end, committed alone; while it lasts no step is due; off, the file is as it was."""
    before = prod.file.read_bytes()
    code, out, _ = prod.ramp("pause", "--reason", "we wait for  #42", "--until", "2026-03-10", "--commit")
    assert code == 0
    assert out.splitlines()[:2] == ["prod: the ramp pauses until 2026-03-10", "Reason: we wait for #42"]
    assert diff(prod, "HEAD~1", "HEAD") == [
        '+    pause: {reason: "we wait for #42", until: "2026-03-10"}',
    ]
    assert prod.git("log", "-1", "--format=%B").rstrip("\n") == (
        "prod: the ramp pauses until 2026-03-10\n\nwe wait for #42"
    )
    code, out, _ = prod.ramp("apply")
    assert code == 3
    assert "  paused until Wed 11 Mar 2026 00:00 CET: we wait for #42\n" in out
    assert prod.ramp("pause", "--reason", "longer")[0] == 0
    assert b'    pause: {reason: "longer"}\n' in prod.file.read_bytes()
    code, out, _ = prod.ramp("pause", "--off", "--json")
    assert json.loads(out) == {
        "stack": "prod",
        "pause": None,
        "changed": True,
        "file": str(prod.file),
        "commit": None,
    }
    assert (code, prod.file.read_bytes()) == (0, before)
    assert prod.ramp("pause", "--off") == (0, "nothing was changed: the ramp is not paused\n", "")


def test_a_pause_that_is_over_is_refused(prod: Repository) -> None:
    """A date counts with its day."""
    assert prod.ramp("pause", "--reason", "x", "--until", "2026-03-08") == (
        1,
        "",
        "archshift: --until: 2026-03-08 is in the past; use a time in the future\n",
    )
    assert prod.ramp("pause", "--reason", "x", "--until", "2026-03-09")[0] == 0


def test_a_stack_without_a_ramp_says_what_to_write(prod: Repository) -> None:
    """And one whose file is not the one that the engine reads is not edited."""
    text = prod.file.read_text()
    prod.file.write_text('config:\n  archshift:arm_ratio: "0.2"\n')
    code, _, err = prod.ramp("status")
    assert code == 1
    assert err.startswith("archshift: archshift:ramp is not set; set at least its start")
    prod.file.write_text(text)
    (prod.folder / "sub").mkdir()
    (prod.folder / "sub" / "Pulumi.yaml").write_text((prod.folder / "Pulumi.yaml").read_text())
    (prod.folder / "sub" / "Pulumi.prod.yaml").write_text(text.replace('"0.2"', '"0.8"'))
    code, out, _ = prod.ramp("next", f"--config-file={prod.folder / 'sub' / 'Pulumi.prod.yaml'}")
    assert (code, out[:18]) == (0, "the next step is 1")
    code, _, _ = prod.ramp("apply", "--cwd=sub")
    assert code == 0
    assert '"1.0"' in (prod.folder / "sub" / "Pulumi.prod.yaml").read_text()
    assert prod.file.read_text() == text


@pytest.mark.parametrize(
    "arguments",
    [
        ("ramp",),
        ("ramp", "pause"),
        ("ramp", "pause", "--reason=  "),
        ("ramp", "pause", "--reason=x", "--off"),
        ("ramp", "next", "--at=noon"),
        ("ramp", "next", "--at=2026-03-02T10:00:00"),
    ],
)
def test_a_wrong_command_prints_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """With exit code 4."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 4
    assert capsys.readouterr().err.startswith("usage: archshift ramp")
