"""The issue about drift: opened, kept up to date, and closed when it is gone."""

import json
import os

import pytest

from lab.engine import RUNTIME
from tests.pipelines.conftest import Done, Runner

MARKER = "<!-- archshift-drift:prod -->"
CHANGED = "echo ' ~ aws:eks:NodeGroup x86: max_size 8 => 4'; exit 7"
BROKEN_RULE = "echo '[mandatory] x86-needed: payments needs x86'; exit 5"
MISPLACED = "echo 'shop/cart: 3 wanted, 2 on Graviton'; exit 3"
PROGRAM = """\
import pulumi
pulumi.ComponentResource("shop:index:Thing", "one")
pulumi.export("arm_ratio", 0.5)
"""
SOMEBODY = {"login": "mallory", "type": "User"}


def day(runner: Runner) -> Done:
    looked = runner.run("drift.sh", "prod", runner.results)
    done = runner.run("drift-issue.sh", "prod", runner.results)
    return looked if looked.code else done


@pytest.fixture
def prod(runner: Runner) -> Runner:
    """A stack that is as it was deployed."""
    runner.new_stack("prod")
    runner.deployed({"arm_ratio": 0.5})
    return runner


def test_no_drift_opens_nothing(prod: Runner) -> None:
    """The preview has to find no change, the status every pod where it is wanted."""
    assert day(prod).code == 0
    assert not prod.github.changes()
    assert "`prod` matches its last deployment." in prod.summary
    (preview,) = prod.calls("pulumi preview")
    assert "--expect-no-changes" in preview
    assert "--policy-pack policies" in preview
    assert prod.calls("archshift status")


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("pulumi-preview", CHANGED, "max_size 8 => 4"),
        ("pulumi-preview", BROKEN_RULE, "payments needs x86"),
        ("archshift-status", MISPLACED, "3 wanted, 2 on Graviton"),
        ("archshift-status", "echo '2 pods are pending: shop/cart'; exit 5", "2 pods are pending: shop/cart"),
    ],
)
def test_drift_opens_one_issue_which_is_updated_and_closed(
    prod: Runner, command: str, answer: str, words: str
) -> None:
    """Three days of the same drift are one issue, and on the fourth it is closed."""
    prod.github.pull("feature")  # a pull request is an issue too, and is none of these
    prod.stand_in(command, answer)
    assert day(prod).stdout == "opened #2\n"
    prod.stand_in(command, answer.replace("8", "9"))
    assert day(prod).stdout == "updated #2\n"
    assert day(prod).stdout == "updated #2\n"
    (issue,) = prod.github.issues
    assert issue["title"] == "Drift in prod"
    assert issue["body"].startswith(MARKER)
    assert words.replace("8", "9") in issue["body"]
    prod.stand_in(command, "exit 0")
    assert day(prod).stdout == "closed #2\n"
    assert issue["state"] == "closed"


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("pulumi-preview", 1, "archshift: the check for drift of prod failed: pulumi preview ended with 1\n"),
        ("pulumi-preview", 3, "archshift: the check for drift of prod failed: pulumi preview ended with 3\n"),
        (
            "archshift-status",
            1,
            "archshift: the check for drift of prod failed: archshift status ended with 1\n",
        ),
    ],
)
def test_a_look_that_fails_leaves_the_issue_as_it_is(
    prod: Runner, command: str, code: int, sentence: str
) -> None:
    """No credentials is neither drift nor the end of it."""
    prod.stand_in("pulumi-preview", CHANGED)
    day(prod)
    before = prod.github.changes()
    prod.stand_in("pulumi-preview", "exit 0")
    prod.stand_in(command, f"echo 'no credentials'; exit {code}")
    looked = prod.run("drift.sh", "prod", prod.results)
    assert (looked.code, looked.stderr) == (1, f"no credentials\n{sentence}")
    done = prod.run("drift-issue.sh", "prod", prod.results)
    assert done.code == 1
    assert "The check for drift of prod failed, so its issue stays as it is" in done.stderr
    assert prod.github.changes() == before


@pytest.mark.parametrize(
    ("command", "answer"), [("pulumi-preview", CHANGED), ("archshift-status", MISPLACED)]
)
def test_what_autoscalers_alone_changed_is_no_drift(prod: Runner, command: str, answer: str) -> None:
    """The issue of an earlier day is closed."""
    prod.stand_in(command, answer)
    assert day(prod).stdout == "opened #1\n"
    prod.stand_in("differences", "")
    assert day(prod).stdout == "closed #1\n"
    assert "differs from its last deployment only by what autoscalers changed" in prod.summary


@pytest.mark.parametrize(
    ("command", "answer"), [("pulumi-preview", BROKEN_RULE), ("archshift-status", "exit 5")]
)
def test_autoscalers_excuse_no_violation_and_no_pending_pod(prod: Runner, command: str, answer: str) -> None:
    prod.stand_in(command, answer)
    prod.stand_in("differences", "")
    assert day(prod).stdout == "opened #1\n"


def test_a_preview_that_fails_while_it_looks_for_autoscalers_decides_nothing(prod: Runner) -> None:
    prod.stand_in("pulumi-preview", CHANGED)
    prod.stand_in("differences", "!the preview failed")
    looked = day(prod)
    assert looked.code == 1
    assert looked.stderr == "archshift: the preview failed\n"
    assert not prod.github.changes()


@pytest.mark.parametrize("outputs", [{"arm_ratio": 0.2}, None])
def test_a_step_that_waits_for_its_approval_is_no_drift(
    prod: Runner, outputs: dict[str, object] | None
) -> None:
    """Main is ahead of what is deployed: the preview would name the step."""
    prod.stand_in("pulumi-preview", CHANGED)
    day(prod)
    before = prod.github.changes()
    prod.deployed(outputs)
    assert day(prod).code == 0
    assert "Drift is checked after the next deployment" in prod.summary
    assert prod.github.changes() == before


def test_the_issue_of_somebody_else_is_left_alone(prod: Runner) -> None:
    """Even one that begins with the marker."""
    prod.github.issue("mine", f"{MARKER} mine", SOMEBODY)
    prod.stand_in("pulumi-preview", CHANGED)
    assert day(prod).stdout == "opened #2\n"
    assert prod.github.issues[0]["body"] == f"{MARKER} mine"


HOSTILE = r"""
printf '%s\n' '::add-mask::a' 'login https://me:hunter22@db.example' $'\e[2K\u202e gone' '``` out'
exit 7"""


def test_no_secret_and_no_markup_of_others_gets_into_the_issue(prod: Runner) -> None:
    """A diff has values of the cluster and of the configuration, and everybody may read the issue."""
    prod.call("pulumi", "config", "set", "--secret", "shop:password", "correct horse", "--stack", "prod")
    prod.stand_in("pulumi-preview", HOSTILE.replace("gone", "gone correct horse"))
    prod.stand_in("archshift-status", HOSTILE.replace("exit 7", "exit 3"))
    prod.stand_in("differences", "``` update \x1b[2K\u202e correct horse https://me:hunter22@db.example")
    done = prod.run("drift.sh", "prod", prod.results, SOME_TOKEN="0123456789")
    assert done.code == 0, done.stderr
    assert prod.run("drift-issue.sh", "prod", prod.results).code == 0
    body = prod.github.issues[0]["body"]
    for left in ("hunter22", "correct horse", "\x1b", "\u202e"):
        assert left not in body
        assert left not in prod.summary
        assert all(left not in file.read_text() for file in prod.results.iterdir())
    assert body.count("```") == 6, "three blocks: what differs, the preview and the status"
    assert "login https://[secret]@db.example" in body


def test_a_failure_prints_no_secret_either(prod: Runner) -> None:
    """The log of a run is as public as the repository."""
    prod.stand_in("pulumi-preview", HOSTILE.replace("exit 7", "exit 255"))
    done = prod.run("drift.sh", "prod", prod.results)
    assert done.code == 1
    assert "[secret]@db.example" in done.stderr
    assert "hunter22" not in done.stdout + done.stderr


def test_secrets_that_cannot_be_read_stop_it(prod: Runner) -> None:
    """Nobody knows then what must not be shown."""
    prod.call("pulumi", "config", "set", "--secret", "shop:password", "correct horse", "--stack", "prod")
    prod.stand_in("pulumi-preview", "echo correct horse; exit 7")
    done = prod.run("drift.sh", "prod", prod.results, PULUMI_CONFIG_PASSPHRASE="another")
    assert done.code == 1
    assert "correct horse" not in done.stdout + done.stderr
    assert not (prod.results / "drift.md").exists()


def test_a_very_long_diff_still_opens_an_issue(prod: Runner) -> None:
    """GitHub refuses a text of more than 65,536 characters; no letter is cut in half."""
    prod.stand_in("pulumi-preview", "python3 -c \"print('ü' * 200000)\"; exit 7")
    prod.stand_in("archshift-status", "python3 -c \"print('\\u0060ü' * 200000)\"; exit 3")
    assert day(prod).code == 0
    assert len(prod.github.issues[0]["body"]) <= 65536
    assert prod.github.issues[0]["body"].count("(cut here)") == 2
    assert "�" not in prod.github.issues[0]["body"]


def test_the_engine_tells_changes_from_a_failure(prod: Runner) -> None:
    """The exit codes that the script goes by are the real engine's, with a program whose name changes."""
    project = {"name": "archshift", "runtime": RUNTIME}
    (prod.checkout / "Pulumi.yaml").write_text(json.dumps(project))
    program = prod.checkout / "__main__.py"
    program.write_text(PROGRAM)
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    path = os.pathsep.join([prod.environment["PATH"], inherited["PATH"]])
    prod.environment = {**inherited, **prod.environment, "PATH": path}
    # Without the pack, which has its own tests with the engine.
    real = 'exec "$REAL_PULUMI"'
    prod.stand_in("pulumi-preview", f'{real} preview --stack prod "${{@:6}}"\n')
    prod.stand_in("pulumi-up", f'{real} "$@"\n')
    up = prod.call("pulumi", "up", "--stack", "prod", "--yes", "--non-interactive")
    assert up.code == 0, up.stdout + up.stderr

    def look() -> tuple[int, str]:
        done = prod.run("drift.sh", "prod", prod.results)
        answer = prod.results / "answer"
        return done.code, answer.read_text().strip() if answer.exists() else done.stderr

    assert look() == (0, "no")
    program.write_text(PROGRAM.replace('"one"', '"two"'))
    assert look() == (0, "yes"), look()[1]
    assert "changes were proposed" in (prod.results / "drift.md").read_text()
    program.write_text("raise RuntimeError('no credentials')\n")
    code, said = look()
    assert code == 1
    assert "the check for drift of prod failed: pulumi preview ended with" in said
