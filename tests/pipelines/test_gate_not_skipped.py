"""What a pull request may contain to get past the gate at its deployment. git and the engine are real."""

from __future__ import annotations

import json
import os

import pytest

from lab.engine import RUNTIME
from tests.pipelines.conftest import PROJECT_FILE, STACK_FILE, Done, Runner
from tests.pipelines.gates import gate
from tools.bootstrap import PROJECT

AT = 'archshift:arm_ratio: "{ratio}"'
GATE = 'prometheus: "http://prometheus.example"'
NO_GATE = 'config:\n  archshift:arm_ratio: "{ratio}"\n'

FORMS = {
    "flow": (PROJECT_FILE, "{{config: {{" + AT + ", archshift:gate: {{" + GATE + "}}}}}}\n"),
    "json": (
        PROJECT_FILE,
        '{{"config": {{"archshift:arm_ratio": "{ratio}", '
        '"archshift:gate": {{"prometheus": "http://prometheus.example"}}}}}}\n',
    ),
    "escaped": (PROJECT_FILE, "config:\n  " + AT + '\n  "archshift:\\u0067ate": {{' + GATE + "}}\n"),
    "long": (PROJECT_FILE, "config:\n  " + AT + "\n  archshift:config:gate: {{" + GATE + "}}\n"),
    "short": (PROJECT_FILE, "config:\n  " + AT + "\n  gate: {{" + GATE + "}}\n"),
    "text": (
        PROJECT_FILE,
        "config:\n  " + AT + '\n  archshift:gate: \'{{"prometheus": "http://prometheus.example"}}\'\n',
    ),
    "merged": (
        PROJECT_FILE,
        "x: &gate {{archshift:gate: {{" + GATE + "}}}}\nconfig:\n  <<: *gate\n  " + AT + "\n",
    ),
    "default": (
        PROJECT_FILE + "config:\n  gate:\n    type: object\n    default: {" + GATE + "}\n",
        NO_GATE,
    ),
    "value": (PROJECT_FILE + "config:\n  archshift:gate:\n    value: {" + GATE + "}\n", NO_GATE),
}
"""How a gate can be written so that the engine reads it: Pulumi.yaml and the stack's file."""


def deploy(runner: Runner) -> Done:
    """The preview and the deployment of what is checked out and on main."""
    runner.push()
    assert runner.run("preview.sh", "prod", runner.results).code == 0
    return runner.run("deploy.sh", "prod", runner.results)


def refused(runner: Runner, done: Done) -> str:
    """Why the deployment was refused."""
    assert done.code == 1
    assert not runner.calls("pulumi up")
    return done.stderr.removeprefix("prod is not deployed: ").strip()


@pytest.fixture
def prod(runner: Runner) -> Runner:
    """A stack that is deployed at 0.5, with a gate that says hold."""
    runner.new_stack("prod")
    runner.deployed({"arm_ratio": 0.5, "commit": runner.git("rev-parse", "HEAD")})
    gate(runner, "hold")
    return runner


def step(runner: Runner, file: str, ratio: str = "0.8", **files: str) -> Done:
    runner.commit({"Pulumi.prod.yaml": file.replace("0.5", ratio), **files})
    return deploy(runner)


HOLD = "the gate's verdict on 0.5 is hold, so a step up to 0.8 is not allowed."


def test_a_commit_that_was_never_deployed_does_not_decide(prod: Runner) -> None:
    """One commit of a rebased pull request removes the gate, and the next restores it and steps."""
    prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("archshift:gate", "# archshift:gate")})
    assert refused(prod, step(prod, STACK_FILE)) == HOLD
    assert prod.calls("gate") == ["gate prod 0.5 http://prometheus.example"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_gate_is_one(prod: Runner, form: str) -> None:
    """Whatever the engine reads as the gate is asked."""
    project, stack = FORMS[form]
    at = prod.commit({"Pulumi.yaml": project, "Pulumi.prod.yaml": stack.format(ratio="0.5")})
    prod.deployed({"arm_ratio": 0.5, "commit": at})
    assert refused(prod, step(prod, stack.format(ratio="0.5"))) == HOLD
    assert prod.calls("gate") == ["gate prod 0.5 http://prometheus.example"]


def test_the_deployed_gate_is_asked_and_not_a_looser_one(prod: Runner) -> None:
    """The step may change the gate for the steps that follow, but not for itself."""
    looser = STACK_FILE.replace("http://prometheus.example", "http://elsewhere.example")
    assert refused(prod, step(prod, looser)) == HOLD
    assert prod.calls("gate") == ["gate prod 0.5 http://prometheus.example"]


LEGACY = "  archshift:workloads: {{overrides: {{shop/Deployment/legacy: {{{rule}}}}}}}\n"


@pytest.mark.parametrize("ratio", ["0.5", "0.4"])
def test_a_change_that_moves_pods_is_judged_as_a_step_is(prod: Runner, ratio: str) -> None:
    """Whatever the ratio does: a workload that was held would move."""
    held = STACK_FILE + LEGACY.format(rule="hold: true")
    prod.deployed({"arm_ratio": 0.5, "commit": prod.commit({"Pulumi.prod.yaml": held})})
    said = refused(prod, step(prod, STACK_FILE + LEGACY.format(rule="max_ratio: 0.9"), ratio))
    assert said == (
        "the gate's verdict on 0.5 is hold, and these changes may move more pods to Graviton: "
        "archshift:workloads.overrides.shop/Deployment/legacy.hold; wait for the gate, or deploy the other "
        "changes without them."
    )
    assert prod.calls("gate") == ["gate prod 0.5 http://prometheus.example"]
    gate(prod, "pass")
    assert deploy(prod).code == 0
    assert len(prod.calls("pulumi up")) == 1


def test_a_workload_is_held_without_the_gate(prod: Runner) -> None:
    """It is what the gate's verdict asks for."""
    done = step(prod, STACK_FILE + LEGACY.format(rule="hold: true"), "0.5")
    assert done.code == 0, done.stderr
    assert not prod.calls("gate")


@pytest.mark.parametrize(("back", "forth"), [("0.2", "0.5"), ("0.5", "0.8"), ("0.8", "0.8")])
def test_a_step_after_an_update_that_failed_is_judged(prod: Runner, back: str, forth: str) -> None:
    """The engine still has the outputs of the update before it: from these alone, a step would be none.

    The pods are somewhere between the two.
    """
    at = prod.git("rev-parse", "HEAD")
    failed = prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", back), "notes": back})
    last = {"arm_ratio": 0.5, "commit": at}
    prod.deployed(last, tried={"ratio": float(back), "commit": failed})
    assert "the gate's verdict on 0.5 is hold" in refused(prod, step(prod, STACK_FILE + "# x\n", forth))
    # The way back to the lower one is open.
    done = step(prod, STACK_FILE + "# y\n", min(back, "0.5"))
    assert done.code == 0, done.stderr


def test_a_first_deployment_that_failed_is_one(prod: Runner) -> None:
    """Nothing is recorded as deployed, but pods may have moved."""
    prod.deployed({}, tried={"ratio": 0.5, "commit": prod.git("rev-parse", "HEAD")})
    assert refused(prod, step(prod, STACK_FILE)) == HOLD


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (STACK_FILE, STACK_FILE.replace("archshift:gate", "# archshift:gate"), "it removes archshift:gate"),
        (STACK_FILE, STACK_FILE.replace('{prometheus: "http://prometheus.example"}', "{}"), "it removes"),
        (STACK_FILE.replace("archshift:gate", "# archshift:gate"), STACK_FILE, "it adds archshift:gate"),
    ],
)
def test_a_step_that_adds_or_removes_the_gate_is_refused(
    prod: Runner, before: str, after: str, words: str
) -> None:
    """Nothing would measure what is deployed."""
    at = prod.commit({"Pulumi.prod.yaml": before, "notes": "x"})
    prod.deployed({"arm_ratio": 0.5, "commit": at})
    gate(prod, "pass")
    assert refused(prod, step(prod, after)).startswith(words)


def test_the_gate_is_removed_by_a_deployment_of_its_own_which_says_so(prod: Runner) -> None:
    """After it, steps come without a gate, and each run says that too."""
    without = STACK_FILE.replace("archshift:gate", "# archshift:gate")
    done = step(prod, without, "0.5")
    assert done.code == 0, done.stderr
    assert "It removes archshift:gate: no gate will measure the steps that follow." in prod.summary
    prod.deployed({"arm_ratio": 0.5, "commit": prod.git("rev-parse", "HEAD")})
    done = step(prod, without)
    assert done.code == 0, done.stderr
    assert "prod has no archshift:gate, so nothing compares Graviton with x86." in prod.summary
    assert not prod.calls("gate")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{secure: v1:abc}", "archshift:gate is a secret, or has one in it"),
        ("{prometheus: {secure: v1:abc}}", "archshift:gate is a secret, or has one in it"),
        ('{}\n  archshift:config:gate: {prometheus: "http://x.example"}', "has the key gate in 2 spellings"),
        ('{}\n  archshift:config:arm_ratio: "1.0"', "has the key arm_ratio in 2 spellings"),
    ],
)
def test_what_the_engine_may_read_otherwise_is_refused(prod: Runner, value: str, words: str) -> None:
    """Only the program gets a secret. Of a key in two spellings, the engine takes either."""
    gate(prod, "pass")
    file = STACK_FILE.replace('{prometheus: "http://prometheus.example"}', value)
    assert words in refused(prod, step(prod, file))


@pytest.mark.parametrize(
    ("ratio", "commit", "words"),
    [
        (0.5, "", "nobody recorded from which commit arm_ratio 0.5 was deployed"),
        (0.5, "main", "nobody recorded from which commit"),
        (0.5, "0" * 40, "is not in the history of the checked-out one"),
        (0.2, None, "arm_ratio 0.2 is deployed, but its commit"),
    ],
)
def test_a_deployment_that_nobody_knows_stops_the_step(
    prod: Runner, ratio: float, commit: str | None, words: str
) -> None:
    """By hand, by another repository, or by a state that somebody edited."""
    gate(prod, "pass")
    at = prod.git("rev-parse", "HEAD") if commit is None else commit
    prod.deployed({"arm_ratio": ratio, "commit": at})
    assert words in refused(prod, step(prod, STACK_FILE))


def test_the_engine_is_told_what_was_checked_and_the_commit(prod: Runner) -> None:
    """The program compares the one and records the other."""
    gate(prod, "pass")
    prod.stand_in("pulumi-up", 'echo "up $ARCHSHIFT_COMMIT $ARCHSHIFT_CONFIG" >> "$STAND_INS/calls"')
    assert step(prod, STACK_FILE).code == 0
    (told,) = prod.calls("up ")
    _, commit, config = told.split()
    assert commit == prod.git("rev-parse", "HEAD")
    assert len(config) == 64


def test_evidence_is_never_written_through_a_link(prod: Runner) -> None:
    """A link in the repository would lead a job with credentials anywhere."""
    gate(prod, "pass")
    (prod.root / "outside").mkdir()
    (prod.checkout / "gates").symlink_to(prod.root / "outside")
    done = step(prod, STACK_FILE)
    assert "leads out of the folder of Pulumi.yaml by a symbolic link" in done.stderr
    assert not prod.calls("pulumi up")
    assert not list((prod.root / "outside").iterdir())


PROGRAM = """\
import os
import pulumi
from pulumi.runtime import config
from archshift.ramp.deployment import OUTPUT, check_digest, commit_of
from archshift.settings.stack import digest
check_digest(os.environ, digest({**config.get_config_env(), **config.CONFIG.get()}))
pulumi.export("arm_ratio", 0.5)
pulumi.export(OUTPUT, commit_of(os.environ))
"""


FAILING = """\
import os
import pulumi
from archshift.ramp.deployment import OUTPUT
from components.workload_patches import WorkloadPatches

class Patches(pulumi.ComponentResource):
    def __init__(self):
        super().__init__(WorkloadPatches.TYPE, "workloads")
        self.register_outputs({"ratio": RATIO, OUTPUT: os.environ.get("ARCHSHIFT_COMMIT", "")})

Patches()
pulumi.export("arm_ratio", RATIO)
if "ARCHSHIFT_COMMIT" in os.environ:
    pulumi.export(OUTPUT, os.environ["ARCHSHIFT_COMMIT"])
if FAILS and not pulumi.runtime.is_dry_run():
    pulumi.Output.from_input(1).apply(lambda _: 1 / 0)
"""


def test_the_real_engine_remembers_what_failed(prod: Runner) -> None:
    """It records the stack's outputs only at a good end, and those of a component at once.

    The step back to 0.2 failed, and 0.5 is "deployed". But 0.5 is a step up now.
    """
    project = json.dumps({"name": "archshift", "runtime": RUNTIME})
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    path = os.pathsep.join([prod.environment["PATH"], inherited["PATH"]])
    prod.environment = {**inherited, **prod.environment, "PATH": path, "PYTHONPATH": str(PROJECT)}
    prod.stand_in("pulumi-up", 'exec "$REAL_PULUMI" up --stack prod --yes --non-interactive\n')
    prod.deployed(None)

    def take(ratio: str, *, fails: bool) -> Done:
        program = FAILING.replace("RATIO", ratio).replace("FAILS", str(fails))
        files = {"Pulumi.yaml": project, "__main__.py": program, "notes": f"{ratio} {fails}"}
        prod.commit({"Pulumi.prod.yaml": STACK_FILE.replace("0.5", ratio), **files})
        return deploy(prod)

    assert take("0.5", fails=False).code == 0
    first = prod.git("rev-parse", "HEAD")
    assert take("0.2", fails=True).code != 0
    outputs = json.loads(prod.call("pulumi", "stack", "output", "--json", "--stack", "prod").stdout)
    assert outputs == {"arm_ratio": 0.5, "commit": first}
    again = take("0.5", fails=False)
    assert "the gate's verdict on 0.5 is hold" in again.stderr, again.stdout + again.stderr
    assert take("0.2", fails=False).code == 0
    # What nobody deploys does not change the state: a look for drift finds none.
    looked = prod.call(
        "pulumi",
        "preview",
        "--stack",
        "prod",
        "--expect-no-changes",
        "--non-interactive",
        "--suppress-outputs",
    )
    assert looked.code == 0, looked.stdout


def test_the_real_engine_gives_the_program_what_was_checked_and_records_the_commit(prod: Runner) -> None:
    """A program that gets another configuration stops; the recorded commit is what the next check reads."""
    project = json.dumps({"name": "archshift", "runtime": RUNTIME})
    odd = '  archshift:cost: {region: "eu-west-1"}\n  archshift:cluster_uid: "007"\n'
    at = prod.commit({"Pulumi.yaml": project, "__main__.py": PROGRAM, "Pulumi.prod.yaml": STACK_FILE + odd})
    prod.deployed({"arm_ratio": 0.5, "commit": at})
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    path = os.pathsep.join([prod.environment["PATH"], inherited["PATH"]])
    prod.environment = {**inherited, **prod.environment, "PATH": path, "PYTHONPATH": str(PROJECT)}
    up = 'exec "$REAL_PULUMI" up --stack prod --yes --non-interactive\n'
    prod.stand_in("pulumi-up", f"sed -i 's/007/008/' Pulumi.prod.yaml\n{up}")
    done = deploy(prod)
    assert done.code != 0
    assert "another configuration than archshift deployment check has read" in done.stdout + done.stderr
    prod.git("checkout", "--quiet", "Pulumi.prod.yaml")
    prod.stand_in("pulumi-up", up)
    done = prod.run("deploy.sh", "prod", prod.results)
    assert done.code == 0, done.stdout + done.stderr
    outputs = json.loads(prod.call("pulumi", "stack", "output", "--json", "--stack", "prod").stdout)
    assert outputs == {"arm_ratio": 0.5, "commit": at}
