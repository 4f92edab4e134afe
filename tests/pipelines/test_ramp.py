"""The pull requests of the ramp: the next step, the step back, and none with the reason."""

import json

import pytest

from tests.pipelines.conftest import STACK_FILE, Done, Runner
from tests.pipelines.gates import APPLY, gate

NOT_DUE = "echo 'prod: the next step, 0.8, is due on Monday 2026-03-09 at 09:00'; exit 3"
SOMEBODY = {"login": "mallory", "type": "User"}
CHECKS = ["ci.yml", "preview.yml"]


def week(runner: Runner) -> Done:
    """One run of ramp.yml: each job on a fresh checkout of main, of which the first is shallow."""
    for job in ("gate", "propose"):
        runner.clone(shallow=job == "gate")
        if job == "propose":
            break
        asked = runner.run("gate.sh", "prod", runner.results)
        if asked.code:
            return asked
        done = runner.run("ramp.sh", "prod", runner.results)
        if done.code:
            return done
    return runner.run("propose.sh", "prod", runner.results, PATH=runner.path_without("archshift", "pulumi"))


@pytest.fixture
def prod(runner: Runner) -> Runner:
    """A stack that is at 0.5, passes its gate, and whose next step is due."""
    runner.new_stack("prod")
    runner.deployed({"arm_ratio": 0.5})
    gate(runner, "pass")
    runner.stand_in("archshift-ramp", APPLY)
    return runner


class TestTheNextStep:
    def test_it_is_proposed_with_its_evidence(self, prod: Runner) -> None:
        """The pull request has the step and the figures that allow it, and its checks are started."""
        assert week(prod).stdout == "opened #1: prod: arm_ratio 0.5 -> 0.8\n"
        (pull,) = prod.github.pulls
        assert (pull["head"]["ref"], pull["base"]) == ("ramp/prod", "main")
        assert pull["title"] == "prod: arm_ratio 0.5 -> 0.8"
        assert "p95 212 ms on Graviton, 200 ms on x86" in pull["body"]
        assert prod.remote("ramp/prod", "Pulumi.prod.yaml") == STACK_FILE.replace("0.5", "0.8").strip()
        assert json.loads(prod.remote("ramp/prod", "gates/prod.json"))["verdict"] == "pass"
        changed = prod.git("diff", "--name-only", "main", prod.remote("ramp/prod"), cwd=prod.remote_folder)
        assert changed.split() == ["Pulumi.prod.yaml", "gates/prod.json"]
        assert [name for name, _ in prod.github.dispatches] == CHECKS
        assert prod.github.dispatches[1][1] == {"ref": "ramp/prod", "inputs": {"pull_request": "1"}}
        assert prod.calls()[0] == "gate prod 0.5 http://prometheus.example"

    def test_there_is_one_open_pull_request_which_is_renewed(self, prod: Runner) -> None:
        """Nobody merged it for a week: the branch is on today's main, with today's evidence."""
        week(prod)
        prod.clone()
        main = prod.commit({"README.md": "of this week"})
        prod.push()
        assert week(prod).stdout == "updated #1: prod: arm_ratio 0.5 -> 0.8\n"
        assert len(prod.github.pulls) == 1
        behind = prod.git(
            "rev-list", "--count", f"{prod.remote('ramp/prod')}..{main}", cwd=prod.remote_folder
        )
        assert behind == "0"

    def test_not_due_opens_none_and_the_run_says_why(self, prod: Runner) -> None:
        """Most days are no Mondays."""
        prod.stand_in("archshift-ramp", NOT_DUE)
        assert week(prod).code == 0
        assert "No step for `prod`: no step is due." in prod.summary
        assert "due on Monday 2026-03-09 at 09:00" in prod.summary
        assert not prod.github.changes()
        assert not prod.remote("ramp/prod")

    @pytest.mark.parametrize("verdict", ["hold", "unknown"])
    def test_a_gate_that_does_not_pass_opens_none(self, prod: Runner, verdict: str) -> None:
        """Unknown is not a pass; archshift ramp is not even asked."""
        gate(prod, verdict)
        assert week(prod).code == 0
        assert f"No step for `prod`: the gate's verdict is {verdict}." in prod.summary
        assert "p95 212 ms" in prod.summary
        assert not prod.github.changes()
        assert not prod.calls("archshift ramp")

    def test_a_gate_that_fails_is_unknown(self, prod: Runner) -> None:
        """A traceback or a missing program ends with some exit code, too."""
        gate(prod, "!gate: no answer")
        week(prod)
        assert "the gate's verdict is unknown" in prod.summary
        assert "gate: no answer" in prod.summary
        assert not prod.github.changes()

    @pytest.mark.parametrize("verdict", ["hold", "unknown"])
    def test_what_is_open_is_closed_when_the_gate_no_longer_passes(self, prod: Runner, verdict: str) -> None:
        """A pull request that may not be merged any more does not lie about as if it might."""
        week(prod)
        gate(prod, verdict)
        assert week(prod).stdout == "closed #1\n"
        assert not prod.github.open_pulls()
        assert f"the gate's verdict is {verdict}" in prod.github.comments[1][0]["body"]

    def test_after_that_a_pass_opens_a_new_one(self, prod: Runner) -> None:
        """The branch that is still there is written over."""
        week(prod)
        gate(prod, "hold")
        week(prod)
        gate(prod, "pass")
        assert week(prod).stdout.startswith("opened #")
        assert len(prod.github.open_pulls()) == 1

    def test_a_branch_with_a_commit_of_somebody_is_left_alone(self, prod: Runner) -> None:
        """Somebody pushed a fix onto the ramp's branch: it is not thrown away."""
        week(prod)
        prod.git("fetch", "--quiet", "origin", "ramp/prod")
        prod.git("checkout", "--quiet", "FETCH_HEAD")
        theirs = prod.commit({"notes.md": "by hand"})
        prod.push("ramp/prod")
        done = week(prod)
        assert done.code == 1
        assert done.stderr == (
            "The last commit of the branch ramp/prod is by dev@acme.example, so it is not overwritten: "
            "merge or delete the branch, then run this again.\n"
        )
        assert prod.remote("ramp/prod") == theirs

    def test_a_step_that_is_merged_but_not_deployed_is_waited_for(self, prod: Runner) -> None:
        """The gate would measure one share and the ramp count from another."""
        prod.deployed({"arm_ratio": 0.2})
        week(prod)
        assert "arm_ratio of prod is 0.5, but 0.2 is deployed; deploy 0.5 first." in prod.summary
        assert not prod.github.changes()
        assert not prod.calls("archshift")

    def test_a_stack_that_was_never_deployed_takes_no_step(self, prod: Runner) -> None:
        """Nothing runs on Graviton that could be measured."""
        prod.deployed(None)
        week(prod)
        assert "prod was never deployed; deploy it first." in prod.summary
        assert not prod.github.changes()

    def test_without_a_gate_the_step_comes_without_evidence_and_says_so(self, prod: Runner) -> None:
        """No archshift:gate is a decision that stands in the repository, not a failure."""
        prod.clone()
        prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("archshift:gate", "# archshift:gate")})
        prod.push()
        assert week(prod).code == 0
        (pull,) = prod.github.pulls
        assert "prod has no archshift:gate, so nothing compares" in pull["body"]
        changed = prod.git("diff", "--name-only", "main", prod.remote("ramp/prod"), cwd=prod.remote_folder)
        assert changed == "Pulumi.prod.yaml"
        assert prod.calls("archshift ramp") == ["archshift ramp apply --stack prod --commit"]

    def test_the_first_step_has_a_gate_too(self, prod: Runner) -> None:
        """At 0 it passes if Prometheus sees the pods, and if nothing that ran before did worse."""
        prod.clone()
        prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", "0.0")})
        prod.push()
        prod.deployed({"arm_ratio": 0})
        gate(prod, "unknown")
        assert week(prod).code == 0
        assert not prod.github.changes()
        gate(prod, "pass")
        assert week(prod).stdout.startswith("opened #1")
        assert prod.calls("gate") == ["gate prod 0 http://prometheus.example"] * 2

    def test_after_an_update_that_failed_it_takes_no_step(self, prod: Runner) -> None:
        """The pods are between two ratios, so no figure belongs to one of them."""
        prod.deployed({"arm_ratio": 0.5}, tried={"ratio": 0.8, "commit": ""})
        week(prod)
        assert "the last update of prod failed; deploy it again first." in prod.summary
        assert not prod.github.changes()
        assert not prod.calls("gate")

    def test_a_stack_without_a_ramp_takes_no_step(self, prod: Runner) -> None:
        """Its number is moved by hand, and no job fails about it every day."""
        prod.clone()
        prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("archshift:ramp", "# archshift:ramp")})
        prod.push()
        assert week(prod).code == 0
        assert "prod has no archshift:ramp." in prod.summary
        assert not prod.calls("archshift ramp")

    def test_the_evidence_is_kept_where_the_stack_says(self, prod: Runner) -> None:
        """The program looks for it there."""
        prod.clone()
        told = STACK_FILE.replace("{prometheus", "{evidence: proofs/x.json, prometheus")
        prod.commit({"Pulumi.prod.yaml": told})
        prod.push()
        assert week(prod).code == 0
        assert json.loads(prod.remote("ramp/prod", "proofs/x.json"))["verdict"] == "pass"

    @pytest.mark.parametrize("file", ["/etc/x.json", "../x.json"])
    def test_evidence_outside_of_the_repository_is_refused(self, prod: Runner, file: str) -> None:
        """Nobody could commit it."""
        prod.clone()
        prod.commit(
            {"Pulumi.prod.yaml": STACK_FILE.replace("{prometheus", f"{{evidence: {file}, prometheus")}
        )
        prod.push()
        done = week(prod)
        assert done.code == 1
        assert f"archshift:gate.evidence: '{file}' leads out of the folder of Pulumi.yaml" in done.stderr

    def test_a_ramp_that_fails_fails_the_job_and_leaves_what_is_open(self, prod: Runner) -> None:
        """An error is no reason to close anything."""
        week(prod)
        prod.stand_in("archshift-ramp", "echo 'archshift: ramp.every: 7x is no time' >&2; exit 1")
        done = week(prod)
        assert (done.code, done.stderr) == (1, "archshift: ramp.every: 7x is no time\n")
        assert len(prod.github.open_pulls()) == 1

    def test_a_gate_job_that_died_changes_nothing(self, prod: Runner) -> None:
        """Its results are not there, and no result is not a reason to close."""
        week(prod)
        before = list(prod.github.changes())
        prod.clone()
        done = prod.run("propose.sh", "prod", prod.root / "nothing")
        assert done.code == 1
        assert "The check for a step of prod failed, so nothing changes" in done.stderr
        assert prod.github.changes() == before

    def test_a_pull_request_of_another_branch_is_no_concern(self, prod: Runner) -> None:
        """Other people work in the repository, and other stacks have names that begin alike."""
        for branch in ("feature", "ramp/prod-eu", "step-back/prod-eu"):
            prod.github.pull(branch, user=SOMEBODY)
        week(prod)
        gate(prod, "hold")
        week(prod)
        assert [pull["head"]["ref"] for pull in prod.github.open_pulls()] == [
            "feature",
            "ramp/prod-eu",
            "step-back/prod-eu",
        ]


class TestTheStepBack:
    def test_it_is_opened_once(self, prod: Runner) -> None:
        """Day after day the gate says so, until somebody merges it: one pull request, whose commit stays."""
        gate(prod, "step-back")
        assert week(prod).stdout == "opened #1: prod: arm_ratio 0.5 -> 0.2\n"
        tip = prod.remote("step-back/prod")
        assert prod.remote("step-back/prod", "Pulumi.prod.yaml") == STACK_FILE.replace("0.5", "0.2").strip()
        assert week(prod).stdout == "#1 already takes prod a step back\n"
        assert prod.remote("step-back/prod") == tip
        assert len(prod.github.pulls) == 1
        assert "Graviton performs worse than x86 in `prod`" in prod.github.pulls[0]["body"]
        assert "p95 212 ms" in prod.github.pulls[0]["body"]

    def test_it_closes_the_step_up_that_is_open(self, prod: Runner) -> None:
        """Merging both would be a step back and one on."""
        week(prod)
        gate(prod, "step-back")
        assert week(prod).stdout == "closed #1\nopened #3: prod: arm_ratio 0.5 -> 0.2\n"
        assert [pull["head"]["ref"] for pull in prod.github.open_pulls()] == ["step-back/prod"]

    def test_from_the_first_step_there_is_none(self, prod: Runner) -> None:
        """The run says so."""
        gate(prod, "step-back")
        prod.stand_in("archshift-ramp", "echo 'prod: 0 is the first step'; exit 3")
        assert week(prod).code == 0
        assert "prod: 0 is the first step" in prod.summary
        assert not prod.github.changes()


class TestUntrustedText:
    def test_what_gate_and_ramp_print_is_never_run_and_stays_in_its_block(self, prod: Runner) -> None:
        """Names of workloads, messages of servers and commit messages are in it."""
        evil = "`touch pwned` $(touch pwned) ${IFS} '; touch pwned # ``` @everyone <img src=x>"
        gate(prod, "pass", evil)
        prod.stand_in(
            "archshift-ramp",
            APPLY.replace('--message "Seven', f'--message {json.dumps(evil)!r} --message "Seven'),
        )
        assert week(prod).code == 0
        assert not list(prod.root.rglob("pwned"))
        (pull,) = prod.github.pulls
        assert pull["body"].count("```") == 4  # two blocks, each opened and closed once

    @pytest.mark.parametrize("branch", ["main", "ramp/staging", "ramp/prod;x", "$(touch pwned)"])
    def test_a_branch_that_is_not_the_steps_is_refused(self, prod: Runner, branch: str) -> None:
        """The job with a token that may write takes its input from one that runs the program's code."""
        prod.results.mkdir()
        (prod.results / "step.bundle").write_text("x")
        (prod.results / "branch").write_text(branch)
        done = prod.run("propose.sh", "prod", prod.results)
        assert (done.code, done.stderr) == (1, f"'{branch}' is not a branch for a step of prod.\n")
        assert not prod.github.asked

    def test_a_very_long_gate_still_makes_a_pull_request(self, prod: Runner) -> None:
        """GitHub refuses a text of more than 65,536 characters."""
        gate(prod, "pass", "shop/Deployment/x: unknown ü" * 9000)
        assert week(prod).code == 0
        body = prod.github.pulls[0]["body"]
        assert "shop/Deployment/x: unknown ü" in body
        # archshift cuts the line itself.
        assert "…" in body
        assert len(body) < 65_536
