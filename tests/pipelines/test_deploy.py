"""The deployment: only what was previewed, and up only when the gate passes on what is deployed."""

import json

import pytest

from tests.pipelines.conftest import STACK_FILE, Done, Runner
from tests.pipelines.gates import APPLY, gate

UP = "pulumi up --stack prod --policy-pack policies --yes --non-interactive --suppress-outputs"
DEEP = "  archshift:images: {deep: true}\n"
STATUS = "archshift status --stack prod"


def deploy(runner: Runner) -> Done:
    return runner.run("deploy.sh", "prod", runner.results)


def preview(runner: Runner) -> None:
    """The job before, on the same commit."""
    assert runner.run("preview.sh", "prod", runner.results).code == 0


@pytest.fixture
def step(runner: Runner) -> Runner:
    """Main goes from 0.5, which is deployed, to 0.8, by way of a change that is no step."""
    runner.new_stack("prod")
    deep = STACK_FILE + DEEP
    runner.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", "0.2")}, "A week at 0.2")
    at = runner.commit({"Pulumi.prod.yaml": deep}, "A week at 0.5")
    runner.deployed({"arm_ratio": 0.5, "commit": at})
    runner.commit({"Pulumi.prod.yaml": deep.replace("0.5", "0.8")}, "prod: arm_ratio 0.5 -> 0.8")
    runner.push()
    gate(runner, "pass")
    preview(runner)
    return runner


class TestTheSameCommit:
    def test_what_was_previewed_is_deployed_and_looked_at(self, step: Runner) -> None:
        """The gate first, then the update with the packs, then wanted against observed."""
        done = deploy(step)
        assert done.code == 0, done.stderr
        commands = [call for call in step.calls() if " preview " not in call]
        assert commands == ["gate prod 0.5 http://prometheus.example", UP, STATUS]

    def test_another_commit_than_the_previewed_one_is_refused(self, step: Runner) -> None:
        """Whoever approved has seen another."""
        previewed = step.git("rev-parse", "HEAD")
        other = step.commit({"__main__.py": "print('hello')\n"})
        step.push()
        done = deploy(step)
        assert (done.code, done.stderr) == (
            1,
            f"prod is not deployed: the preview is for {previewed}, but {other} is checked out; "
            "run the workflow again.\n",
        )
        assert not step.calls("pulumi up")

    def test_a_commit_that_main_has_left_behind_is_refused(self, step: Runner) -> None:
        """An approval given days later, or a run started again, would take back what was deployed since."""
        approved = step.git("rev-parse", "HEAD")
        newer = step.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", "0.2")}, "back")
        step.push()
        step.git("checkout", "--quiet", approved)
        done = deploy(step)
        assert done.code == 1
        assert f"main is now at {newer}; approve the run of that commit." in done.stderr
        assert not step.calls("pulumi up")

    def test_a_commit_behind_main_by_words_alone_is_deployed(self, step: Runner) -> None:
        """No run of its own starts for a change of the documentation, so this one has to do."""
        approved = step.git("rev-parse", "HEAD")
        step.commit({"docs/notes.md": "words"})
        step.push()
        step.git("checkout", "--quiet", approved)
        assert deploy(step).code == 0
        assert step.calls("pulumi up") == [UP]

    @pytest.mark.parametrize(
        ("file", "content", "sentence"),
        [
            ("exit", "1\n", "prod is not deployed: its preview was blocked or failed.\n"),
            ("exit", None, "prod is not deployed: it has no preview.\n"),
            ("commit", None, "prod is not deployed: it has no preview.\n"),
        ],
    )
    def test_without_a_fine_preview_nothing_is_deployed(
        self, step: Runner, file: str, content: str | None, sentence: str
    ) -> None:
        """A preview that was killed leaves no word of how it ended."""
        if content is None:
            (step.results / file).unlink()
        else:
            (step.results / file).write_text(content)
        done = deploy(step)
        assert (done.code, done.stderr) == (1, sentence)
        assert not step.calls("pulumi up")

    def test_a_remote_that_does_not_answer_stops_it(self, step: Runner) -> None:
        """Whether main has moved on is then unknown."""
        step.git("remote", "set-url", "origin", str(step.root / "gone.git"))
        assert deploy(step).code != 0
        assert not step.calls("pulumi up")


class TestTheGate:
    @pytest.mark.parametrize("verdict", ["hold", "unknown", "step-back"])
    def test_a_step_up_stops_unless_the_gate_passes(self, step: Runner, verdict: str) -> None:
        """The pass with which the pull request was opened does not count: the gate is asked again."""
        gate(step, verdict)
        done = deploy(step)
        assert (done.code, done.stderr) == (
            1,
            f"prod is not deployed: the gate's verdict on 0.5 is {verdict}, "
            "so a step up to 0.8 is not allowed.\n",
        )
        assert not step.calls("pulumi up")
        assert "p95 212 ms" in step.summary

    def test_it_is_asked_with_the_configuration_that_was_deployed(self, step: Runner) -> None:
        """With the new one it would look for the share of 0.8, and for a soak that has just begun."""
        assert deploy(step).code == 0
        assert step.calls("gate") == ["gate prod 0.5 http://prometheus.example"]
        assert json.loads((step.checkout / "gates" / "prod.json").read_text())["verdict"] == "pass"

    @pytest.mark.parametrize("deployed", [1.0, 0.9])
    def test_a_way_back_is_never_held_up(self, step: Runner, deployed: float) -> None:
        """Whatever the gate says, or if it is down, and even after an update by hand."""
        step.deployed({"arm_ratio": deployed})
        gate(step, "!no answer")
        done = deploy(step)
        assert done.code == 0, done.stderr
        assert "This is no step up, so the gate is not asked" in done.stdout
        assert step.calls("pulumi up") == [UP]
        assert not step.calls("gate")

    def test_the_first_deployment_has_nothing_to_measure(self, step: Runner) -> None:
        """No pod was ever moved to Graviton."""
        step.deployed(None)
        assert deploy(step).code == 0
        assert not step.calls("gate")

    @pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("hold", 1), ("unknown", 1)])
    def test_a_step_up_from_zero_is_one_like_any_other(self, step: Runner, verdict: str, code: int) -> None:
        """Else 0.5, 0 and 0.2 would be a way around the gate. It judges what ran within its window."""
        zero = STACK_FILE.replace("0.5", "0.0")
        step.deployed({"arm_ratio": 0, "commit": step.commit({"Pulumi.prod.yaml": zero})})
        step.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", "0.2")})
        step.push()
        preview(step)
        gate(step, verdict)
        done = deploy(step)
        assert done.code == code, done.stderr
        assert step.calls("gate") == ["gate prod 0 http://prometheus.example"]
        assert len(step.calls("pulumi up")) == 1 - code
        if code:
            assert f"the gate's verdict on 0 is {verdict}, so a step up to 0.2 is not allowed" in done.stderr

    @pytest.mark.parametrize("deployed", [0.37, 0.5, 0.8])
    def test_a_deployment_by_hand_stops_the_next_step(self, step: Runner, deployed: float) -> None:
        """Since when, with which tolerances and with which other settings, nobody can say."""
        step.deployed({"arm_ratio": deployed})
        done = deploy(step)
        assert (done.code, done.stderr) == (
            1,
            f"prod is not deployed: nobody recorded from which commit arm_ratio {deployed} was deployed; "
            "check that commit out and run ARCHSHIFT_COMMIT=$(git rev-parse HEAD) pulumi up, or let this "
            "pipeline deploy a lower arm_ratio.\n",
        )
        assert not step.calls("pulumi up")

    @pytest.mark.parametrize("number", ["half", "0.5; rm", "1.5"])
    def test_a_number_that_is_none_stops_it(self, step: Runner, number: str) -> None:
        """Up or down cannot be told."""
        step.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", number)})
        step.push()
        preview(step)
        done = deploy(step)
        assert done.code == 1
        assert "prod is not deployed: its configuration cannot be read: archshift:arm_ratio: " in done.stderr
        assert not step.calls("pulumi up")

    def test_what_graviton_does_worse_at_takes_a_step_back(self, step: Runner) -> None:
        """The deployment fails; the way back begins at what is deployed."""
        gate(step, "step-back")
        step.stand_in("archshift-ramp", APPLY)
        assert deploy(step).code == 1
        assert step.run("step-back.sh", "prod", step.results).code == 0
        step.clone()
        done = step.run("propose.sh", "prod", step.results)
        assert done.stdout == "opened #1: prod: arm_ratio 0.5 -> 0.2\n"
        assert "0.2" in step.remote("step-back/prod", "Pulumi.prod.yaml")
        assert len(step.calls("archshift ramp apply --stack prod --back --below 0.5 --commit --reason")) == 1

    @pytest.mark.parametrize("verdict", ["pass", "hold", "unknown"])
    def test_another_failure_takes_none(self, step: Runner, verdict: str) -> None:
        """No answer of Prometheus is no reason to go back."""
        gate(step, verdict)
        step.stand_in("pulumi-up", "exit 1")
        assert deploy(step).code == 1
        done = step.run("step-back.sh", "prod", step.results)
        assert (done.code, done.stdout) == (0, f"The gate's verdict is {verdict}: no step back for prod.\n")
        assert not (step.results / "step.bundle").exists()


class TestAfterwards:
    def test_an_update_that_fails_is_a_failure(self, step: Runner) -> None:
        """And the status is not asked for a state that nobody wanted."""
        step.stand_in("pulumi-up", "echo 'error: mandatory policy violation' >&2; exit 5")
        done = deploy(step)
        assert done.code == 5
        assert not step.calls(STATUS)

    @pytest.mark.parametrize(
        ("code", "reason"),
        [(3, "workloads that are not exact"), (5, "pending pods or a stuck rollout"), (1, "an error")],
    )
    def test_what_the_status_reports_is_a_failure_with_its_table_and_its_code(
        self, step: Runner, code: int, reason: str
    ) -> None:
        """Whoever looks at the page of the run sees which workload it is."""
        step.stand_in("archshift-status", f"echo 'shop/cart: 3 wanted, 2 on Graviton'; exit {code}")
        done = deploy(step)
        assert (done.code, done.stderr) == (
            code,
            f"prod is deployed, but archshift status reports {reason} (exit code {code}).\n",
        )
        assert "shop/cart: 3 wanted, 2 on Graviton" in step.summary
