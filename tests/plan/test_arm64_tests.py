"""What is tested on arm64 before a workload moves, with which Job, and what its outcome proves."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.actions.arm64_test_job import RESULT, job_of, outcome, read_proof, result_of
from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.arm64_tests import (
    Arm64Test,
    Arm64TestRules,
    Arm64TestState,
    Proof,
    judge_tests,
    what_is_tested,
)
from archshift.plan.model import Rules
from archshift.plan.planner import make_plan
from tests.build import Json, load, node, workload

KEY = "default/Deployment/web"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
COMMAND = Arm64Test(command=("/app", "--check"))
START = Arm64Test(start_seconds=10)


def web(**pod_spec: Any) -> Json:
    """A Deployment of four pods."""
    return workload(name="web", namespace="default", replicas=4, pod_spec=pod_spec)


def inventory(item: Json) -> Inventory:
    """A cluster with that workload alone."""
    return Inventory(workloads={KEY: read_workload("Deployment", item, "archshift/test")})


def job(test: Arm64Test = COMMAND, item: Json | None = None) -> Json:
    return job_of(KEY, item or web(), test, what_is_tested(test, ["image"]))


def pod(*states: Json, init: Json | None = None) -> Json:
    """A pod of the Job with a container in each state."""
    containers = [{"name": f"c{index}"} for index in range(len(states))]
    status: Json = {
        "containerStatuses": [{"name": f"c{index}", "state": state} for index, state in enumerate(states)]
    }
    if init:
        status["initContainerStatuses"] = [{"name": "setup", "state": init}]
    return {"metadata": {}, "spec": {"containers": containers}, "status": status}


def running(seconds: int) -> Json:
    """The state of a container that has been up for so long."""
    return {"running": {"startedAt": (NOW - timedelta(seconds=seconds)).isoformat()}}


def ended(code: int, message: str = "") -> Json:
    """The state of a container that ended."""
    return {"terminated": {"exitCode": code, "message": message, "reason": "Error"}}


def with_condition(kind: str, **more: str) -> Json:
    """The Job when it is over."""
    return {**job(), "status": {"conditions": [{"type": kind, **more}]}}


def test_the_pod_of_a_test_is_the_workloads_own_on_arm64() -> None:
    """Images, environment, account and security stay; probes, ports, labels and others' data do not."""
    item = web(
        serviceAccountName="web",
        nodeSelector={"pool": "main"},
        securityContext={"runAsNonRoot": True},
        volumes=[
            {"name": "config", "configMap": {"name": "web"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "host", "hostPath": {"path": "/var/run"}},
            {"name": "plugins", "image": {"reference": "registry.example/plugins:1"}},
        ],
        containers=[
            {
                "name": "app",
                "image": "registry.example/web:1",
                "env": [{"name": "MODE", "value": "test"}],
                "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}},
                "lifecycle": {"preStop": {"exec": {"command": ["drain"]}}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            },
            {"name": "proxy", "image": "registry.example/proxy:1"},
        ],
    )
    made = job(COMMAND, item)
    template = made["spec"]["template"]
    spec = template["spec"]
    assert template["metadata"]["labels"] == made["metadata"]["labels"]
    assert set(template["metadata"]["labels"]) == {"archshift/arm64-test"}
    assert spec["nodeSelector"] == {"pool": "main", "kubernetes.io/arch": "arm64"}
    assert (spec["serviceAccountName"], spec["securityContext"]) == ("web", {"runAsNonRoot": True})
    assert spec["volumes"] == [
        {"name": "config", "configMap": {"name": "web"}},
        {"name": "data", "emptyDir": {}},
        {"name": "host", "emptyDir": {}},
        {"name": "plugins", "image": {"reference": "registry.example/plugins:1"}},
    ]
    (app,) = spec["containers"]
    assert app["command"] == ["/app", "--check"]
    assert app["args"] == []
    assert app["env"] == [{"name": "MODE", "value": "test"}]
    assert {"ports", "readinessProbe", "lifecycle"} & set(app) == set()
    assert (made["spec"]["backoffLimit"], made["spec"]["activeDeadlineSeconds"]) == (0, 300)
    probe = job(START, item)["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in probe] == ["app", "proxy"]
    assert all("command" not in one for one in probe)


def test_a_container_that_is_not_there_is_one_sentence() -> None:
    """With the names of those that are."""
    with pytest.raises(
        ArchshiftError, match="container: the workload has no container 'ap'; name one of: web"
    ):
        job(Arm64Test(command=("true",), container="ap"))


@pytest.mark.parametrize(("command", "code", "said"), [("true", 0, True), ("echo no >&2; exit 3", 3, False)])
def test_the_shell_names_the_machine_after_a_pass_alone(
    tmp_path: Path, command: str, code: int, said: bool
) -> None:
    """Run by this machine's shell: the exit code is the command's; only a pass writes `uname -m`, so that the
    kubelet reports a failure's log.
    """
    script = job(Arm64Test(command=command))["spec"]["template"]["spec"]["containers"][0]["command"][2]
    message = tmp_path / "termination-log"
    done = subprocess.run(
        ["sh", "-c", script.replace("/dev/termination-log", str(message))], check=False, timeout=10
    )
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True, timeout=10).stdout
    assert done.returncode == code
    assert message.exists() == said
    assert not said or message.read_text() == machine


@pytest.mark.parametrize(
    ("test", "state", "found", "passed", "words"),
    [
        (COMMAND, with_condition("Complete"), pod(ended(0, "aarch64\n")), True, ""),
        (COMMAND, job(), pod(ended(139, "boom")), False, "container c0 exited with code 139\nboom"),
        (COMMAND, job(), pod(running(99)), None, ""),
        (COMMAND, job(), {}, None, ""),
        (
            COMMAND,
            job(),
            pod({"waiting": {}}, init=ended(1)),
            False,
            "container setup exited with code 1\nError",
        ),
        (
            COMMAND,
            with_condition("Failed", reason="DeadlineExceeded"),
            {},
            False,
            "the test did not end within 300 s",
        ),
        (COMMAND, with_condition("Failed", message="no luck"), {}, False, "no luck"),
        (START, job(START), pod(running(9)), None, ""),
        (START, job(START), pod(running(10)), True, ""),
        (START, job(START), pod(running(60), running(3)), None, ""),
        (START, job(START), pod(running(60), {"waiting": {}}), None, ""),
        (START, job(START), pod(ended(0)), False, "container c0 exited, but it should keep running"),
    ],
)
def test_the_outcome_of_a_test(
    test: Arm64Test, state: Json, found: Json, passed: bool | None, words: str
) -> None:
    """None while it goes on; a failure has the last words of what failed."""
    proof = outcome(KEY, "t", made_of(state, found), found, test, NOW, machine="arm64")
    assert (proof.passed if proof else None) == passed
    if proof:
        assert proof.message == words
        assert proof.machine == ("aarch64" if "Complete" in str(state) else "arm64")


def made_of(state: Json, found: Json) -> Json:
    """The Job with the containers of that pod in its template."""
    containers = found.get("spec", {}).get("containers") or [{"name": "c0"}]
    template = {"spec": {"containers": containers, "initContainers": [{"name": "setup"}]}}
    return {**state, "spec": {**state["spec"], "template": template}}


def meshed(found: Json, state: Json, *, init: bool = False) -> Json:
    """The pod with a container that admission injected, in that state."""
    proxy = {"name": "mesh", "state": state}
    kind = "initContainerStatuses" if init else "containerStatuses"
    status = {**found["status"], kind: [*found["status"].get(kind, ()), proxy]}
    return {
        **found,
        "spec": {"containers": [*found["spec"]["containers"], {"name": "mesh"}]},
        "status": status,
    }


RUNS: Json = {"running": {"startedAt": NOW.isoformat()}}
WAITS: Json = {"waiting": {"reason": "PodInitializing"}}


@pytest.mark.parametrize(
    ("test", "state", "found", "proxy", "passed", "words"),
    [
        # A mesh's proxy goes on after the test, or fails beside it; the tested container decides.
        (COMMAND, job(), pod(ended(0, "aarch64\n")), RUNS, True, ""),
        (COMMAND, job(), pod(ended(3, "boom")), RUNS, False, "container c0 exited with code 3\nboom"),
        (COMMAND, job(), pod(ended(0)), ended(1, "proxy down"), True, ""),
        (COMMAND, with_condition("Failed", message="x"), pod(ended(0)), ended(1), True, ""),
        (COMMAND, job(), pod(running(5)), ended(1, "proxy down"), None, ""),
        (START, job(START), pod(running(10)), ended(1), True, ""),
        (START, job(START), pod(running(10)), WAITS, True, ""),
        (START, job(START), pod(ended(0)), RUNS, False, "container c0 exited, but it should keep running"),
    ],
)
def test_an_injected_container_does_not_decide_a_test(
    test: Arm64Test, state: Json, found: Json, proxy: Json, passed: bool | None, words: str
) -> None:
    proof = outcome(KEY, "t", made_of(state, found), meshed(found, proxy), test, NOW, machine="arm64")
    assert (proof.passed if proof else None) == passed
    if proof:
        assert proof.message == words
        assert proof.machine


@pytest.mark.parametrize("init", [True, False])
def test_a_test_that_an_injected_container_prevents_proves_nothing(init: bool) -> None:
    """The tested container never started: there is no machine, so the next update tries again."""
    found = pod(WAITS)
    state = made_of(with_condition("Failed", message="no luck"), found)
    proof = outcome(
        KEY, "t", state, meshed(found, ended(1, "no iptables"), init=init), COMMAND, NOW, machine="arm64"
    )
    assert proof
    assert (proof.passed, proof.machine) == (False, "")
    assert proof.message == "injected container mesh exited with code 1\nno iptables"


@given(st.text(max_size=300), st.booleans())
def test_a_proof_is_read_back_as_it_was_written(message: str, passed: bool) -> None:
    """Through the Job's annotation; anything else there is no proof."""
    made = job()
    proof = Proof(
        workload=KEY,
        tested=made["metadata"]["annotations"]["archshift/tested"],
        passed=passed,
        machine="aarch64",
        message=message,
        at=NOW,
        job=made["metadata"]["name"],
    )
    made["metadata"]["annotations"][RESULT] = result_of(proof, NOW)
    assert read_proof(made) == proof
    for spoilt in ("", "{}", "[]", '{"passed": 1}', "null"):
        made["metadata"]["annotations"][RESULT] = spoilt
        assert read_proof(made) is None


def plan_of(tests: Arm64TestState, cluster: Inventory) -> Any:
    """The plan at 1.0, under the tests' rules."""
    return make_plan(arm_ratio=1.0, inventory=cluster, rules=tests.rules({}))


def test_a_failure_holds_until_another_image_or_test() -> None:
    """Of a proof for what it runs now; with another image or command it is due again, and for the guard it
    needs x86 until it has passed.
    """
    cluster = inventory(web())
    nodes = tuple(read for read in map(_node, (node("a", "amd64"), node("b", "arm64"))))
    cluster = Inventory(workloads=cluster.workloads, nodes=nodes)
    rules = Arm64TestRules(workloads={KEY: COMMAND})
    fresh = judge_tests(rules, cluster, {}, [])
    assert set(fresh.due(plan_of(fresh, cluster))) == {KEY}
    assert fresh.rules({}) == {}
    assert fresh.strict_rules({})[KEY].hold
    assert fresh.strict_rules({}, only={KEY})[KEY].hold
    assert fresh.strict_rules({}, only={"shop/Deployment/another"}) == {}
    failed = Proof(workload=KEY, tested=fresh.tested[KEY], passed=False, message="a\nb", job="j")
    held = judge_tests(rules, cluster, {}, [failed])
    reason = held.rules({})[KEY].reason
    assert reason == (
        "its test on arm64 failed: a / b; a new image, or kubectl delete job j --namespace default has it "
        "tested again"
    )
    assert plan_of(held, cluster).wanted == 0
    other = judge_tests(Arm64TestRules(workloads={KEY: START}), cluster, {}, [failed])
    assert set(other.due(plan_of(other, cluster))) == {KEY}
    passed = Proof(workload=KEY, tested=fresh.tested[KEY], passed=True)
    done = judge_tests(rules, cluster, {}, [passed])
    assert (done.due(plan_of(done, cluster)), done.strict_rules({})) == ({}, {})
    both = judge_tests(rules, cluster, {}, [failed, passed, failed])
    assert both.rules({})[KEY].hold
    own = {KEY: Rules(hold=True, reason="mine")}
    assert held.strict_rules(own) == own


def _node(item: Json) -> Any:
    from archshift.cluster.inventory import read_node as read

    return read(item)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"al": True}, "archshift:arm64_tests.al is not a setting; there are: all, parallel"),
        ({"all": "yes"}, "archshift:arm64_tests.all: 'yes' is invalid; use true or false"),
        (
            {"start_seconds": 0},
            "archshift:arm64_tests.start_seconds: 0 is invalid; use a whole number of seconds",
        ),
        (
            {"start_seconds": 400},
            "start_seconds: 400 is not below timeout_seconds, 300; raise timeout_seconds",
        ),
        (
            {"workloads": {"web": True}},
            "workloads: 'web' is invalid; use namespace/Kind/name with one of the kinds",
        ),
        ({"workloads": {"a/CronJob/b": True}}, "'a/CronJob/b' is invalid; use namespace/Kind/name"),
        ({"workloads": {KEY: {"command": ""}}}, f"workloads.{KEY}.command: '' is invalid; use a command"),
        (
            {"workloads": {KEY: {"command": 3}}},
            f"workloads.{KEY}.command: 3 is invalid; use a command: text for a shell, or a list",
        ),
        ({"workloads": {KEY: {"cmd": "x"}}}, f"workloads.{KEY}.cmd is not a setting"),
    ],
)
def test_bad_settings_are_one_sentence(value: Json, sentence: str) -> None:
    """That names the key, the value and what would do."""
    with pytest.raises(ArchshiftError) as caught:
        load(arm64_tests=value)
    assert sentence in str(caught.value)


def test_a_workload_that_is_not_there_is_refused() -> None:
    """A name with a slip would else never be tested."""
    with pytest.raises(ArchshiftError, match="'default/Deployment/wbe' is not among the workloads found"):
        judge_tests(Arm64TestRules(workloads={"default/Deployment/wbe": START}), inventory(web()), {}, [])


def test_all_but_those_that_are_left_out_are_tested() -> None:
    """With `all`, by a start probe; `false` leaves one out, and what is not a Deployment or StatefulSet."""
    rules = load(arm64_tests={"all": True, "start_seconds": 3, "workloads": {KEY: False}}).arm64_tests
    assert rules.test_of(KEY) is None
    assert rules.test_of("default/StatefulSet/db") == Arm64Test(start_seconds=3)
    assert rules.test_of("default/CronJob/nightly") is None
