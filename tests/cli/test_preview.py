"""``archshift preview`` beside the real engine: what it asks of one, and what it makes of odd ones."""

import json
import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from archshift.cli.main import main

PULUMI = """#!{python}
import json, os, sys
arguments = sys.argv[1:]
with open(os.environ["FAKE_PULUMI"]) as file:
    answers = json.load(file)
if arguments[-1] == "version":
    print("v3.245.0")
elif "config" in arguments:
    assert "--show-secrets" in arguments
    print(json.dumps(answers["config"]))
else:
    if "--policy-pack" in arguments:
        rule = arguments[arguments.index("--policy-pack") + 1] + "/rule.py"
        with open(os.environ["FAKE_PULUMI"] + ".pack", "w") as file:
            json.dump(open(rule).read() if os.path.exists(rule) else "", file)
    with open(os.environ["FAKE_PULUMI"] + ".call", "w") as file:
        json.dump([os.getcwd(), arguments], file)
    if answers["left"] is not None:
        with open(os.environ["ARCHSHIFT_PLAN_FILE"], "w") as file:
            json.dump(answers["left"], file)
    with open(arguments[arguments.index("--event-log") + 1], "a") as log:
        log.write(answers["log"])
    print(answers["out"])
    sys.exit(answers["code"])
"""
SUMMARY: dict[str, Any] = {"summaryEvent": {"resourceChanges": {}, "PolicyPacks": {}}}


class FakePulumi:
    """A ``pulumi`` on PATH that writes the log it is told to."""

    def __init__(self, folder: Path) -> None:
        self.answers = folder / "answers.json"
        program = folder / "pulumi"
        program.write_text(PULUMI.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.answer()

    def answer(self, *events: Any, **values: Any) -> None:
        """Set what it does: the events of a preview, its exit code, what it prints and leaves."""
        lines = [event if isinstance(event, str) else json.dumps(event) + "\n" for event in events]
        config = {"app:password": {"value": "hunter2", "secret": True}}
        base = {"config": config, "log": "".join(lines), "code": 0, "out": "", "left": None}
        self.answers.write_text(json.dumps({**base, **values}))

    @property
    def call(self) -> tuple[str, list[str]]:
        """The folder and the arguments of the preview."""
        folder, arguments = json.loads(Path(f"{self.answers}.call").read_text())
        return folder, arguments


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePulumi:
    """A fake ``pulumi``, first on PATH, and a folder without a project."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_PULUMI", str(folder / "answers.json"))
    monkeypatch.setenv("PULUMI_STACK", "dev")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "PulumiPolicy.yaml").touch()
    return FakePulumi(folder)


def preview(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    """Run the command; its exit code and report."""
    code = main(["preview", "--json", *flags])
    return code, json.loads(capsys.readouterr().out)


def test_what_the_engine_is_asked(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A preview of this stack, in its folder, with the pack beside it; files are named from where we are."""
    (tmp_path / "infra" / "policies").mkdir(parents=True)
    (tmp_path / "infra" / "policies" / "PulumiPolicy.yaml").touch()
    pulumi.answer(SUMMARY)
    flags = ["-s", "prod", "-C", "infra", "--config-file", "some.yaml", "--policy-pack-config", "pack.json"]
    assert preview(capsys, *flags)[0] == 0
    folder, arguments = pulumi.call
    assert folder == str(tmp_path / "infra")
    assert arguments[:4] == ["--non-interactive", "preview", "--stack", "prod"]
    for flag, value in [
        ("--config-file", "some.yaml"),
        ("--policy-pack", "infra/policies"),
        ("--policy-pack-config", "pack.json"),
    ]:
        assert arguments[arguments.index(flag) + 1] == str(tmp_path / value)
    assert "up" not in arguments


def test_without_its_pack_nothing_is_previewed(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pull request that deletes the rules must not be fine. Only the command line can leave them out."""
    (tmp_path / "policies" / "PulumiPolicy.yaml").unlink()
    pulumi.answer(SUMMARY)
    code, report = preview(capsys)
    assert code == 1
    assert report["reason"] == (
        "there is no policy pack in policies: PulumiPolicy.yaml is missing; restore it, name another pack "
        "with --policy-pack, or use --no-policy-pack"
    )
    assert not Path(f"{pulumi.answers}.call").exists()
    assert preview(capsys, "--no-policy-pack")[0] == 0
    assert "--policy-pack" not in pulumi.call[1]


def commit(folder: Path, name: str) -> str:
    """Commit all files of a folder; the commit."""
    who = ["-c", "user.name=Dev", "-c", "user.email=dev@acme.example"]
    for arguments in (["init", "--quiet"], ["add", "policies"], [*who, "commit", "--quiet", "-m", name]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_rule_that_a_pull_request_changes_does_not_judge_it(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The pack is that of another commit, in a folder inside the project, which is gone afterwards."""
    rule = tmp_path / "policies" / "rule.py"
    rule.write_text("strict")
    base = commit(tmp_path, "strict")
    rule.write_text("lenient")
    commit(tmp_path, "lenient")
    pulumi.answer(SUMMARY)
    assert preview(capsys, "--policy-pack-of", base)[0] == 0
    arguments = pulumi.call[1]
    pack = Path(arguments[arguments.index("--policy-pack") + 1])
    assert pack.is_relative_to(tmp_path)
    assert json.loads(Path(f"{pulumi.answers}.pack").read_text()) == "strict"
    assert not pack.exists()
    (tmp_path / "policies" / "PulumiPolicy.yaml").unlink()
    code, report = preview(capsys, "--policy-pack-of", base)
    assert (code, report["reason"][:40]) == (1, "there is no policy pack in policies: Pul")
    (tmp_path / "policies" / "PulumiPolicy.yaml").touch()
    code, report = preview(capsys, "--policy-pack-of", "0" * 40)
    assert code == 1
    assert "git worktree: fatal: " in report["reason"]


def test_a_pack_that_is_named_takes_the_place_of_the_one_beside(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two of them, in order."""
    pulumi.answer(SUMMARY)
    preview(capsys, "--policy-pack", "one", "--policy-pack", "two")
    _, arguments = pulumi.call
    packs = [value for flag, value in pairwise(arguments) if flag == "--policy-pack"]
    assert packs == [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.mark.parametrize(
    "events",
    [
        [],
        ["not JSON\n", SUMMARY],
        [{"resourcePreEvent": {"odd": 1}}, SUMMARY],
        [SUMMARY, {"policyEvent": []}, "x\n"],
    ],
    ids=["none", "no JSON", "another shape", "odd after the summary"],
)
def test_an_engine_whose_log_is_not_known_is_not_fine(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], events: list[Any]
) -> None:
    """Exit code 0 alone proves nothing; what comes behind the summary does not matter any more."""
    pulumi.answer(*events)
    code, report = preview(capsys)
    if events[:1] == [SUMMARY]:
        assert (code, report["outcome"]) == (0, "fine")
    else:
        assert (code, report["outcome"]) == (1, "failed")
        assert report["reason"].startswith("the engine ended without a reason")


def test_what_the_engine_prints_is_the_reason_if_its_log_has_none(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without the secrets of the configuration, in the comment too."""
    pulumi.answer(code=255, out="error: the backend refused hunter2\nmore")
    file = tmp_path / "comment.md"
    code, report = preview(capsys, f"--markdown={file}")
    assert (code, report["reason"]) == (1, "the backend refused [secret]")
    assert "**Failed.** `the backend refused [secret]`" in file.read_text()


def test_a_violation_of_unknown_weight_blocks(pulumi: FakePulumi, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is known to be an advisory is one."""
    event = {"policyName": "r", "policyPackName": "p", "message": "no", "enforcementLevel": "severe"}
    advice = {**event, "policyName": "a", "enforcementLevel": "advisory"}
    pulumi.answer({"policyEvent": advice}, {"policyEvent": event}, SUMMARY, code=255)
    code, report = preview(capsys)
    assert (code, report["outcome"]) == (1, "blocked")
    assert [(one["rule"], one["mandatory"]) for one in report["violations"]] == [("r", True), ("a", False)]


def test_a_refusal_that_the_program_leaves_blocks(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the engine's log has of it; without its secrets."""
    pulumi.answer(SUMMARY, code=255, left={"refusals": ["x86 node a stays: hunter2"]})
    code, report = preview(capsys)
    assert (code, report["outcome"], report["reason"]) == (1, "blocked", "x86 node a stays: [secret]")
    assert report["plan"] is None


def test_without_pulumi_there_is_still_a_comment(
    pulumi: FakePulumi,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says what to do."""
    del pulumi
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "comment.md"
    code, report = preview(capsys, f"--markdown={file}")
    assert (code, report["outcome"]) == (1, "failed")
    assert report["reason"].startswith("pulumi is not on PATH; install the Pulumi CLI")
    assert "pulumi is not on PATH" in file.read_text()


def test_a_comment_that_cannot_be_written(
    pulumi: FakePulumi, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One sentence, and not a fine exit."""
    pulumi.answer(SUMMARY)
    assert main(["preview", f"--markdown={tmp_path}/no/such/folder/c.md"]) == 1
    assert "--markdown: " in capsys.readouterr().err


def test_for_people(pulumi: FakePulumi, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a pack and without a plan, in words."""
    pulumi.answer(SUMMARY)
    assert main(["preview", "--no-policy-pack"]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["there is no policy pack", "the preview is fine"]
