"""The command line: what it prints, where, and with which exit code."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from archshift import survey
from archshift.cli import stack as cli_stack
from archshift.cli.main import main
from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from tests.build import node, shop
from tests.fakes import FakeCluster, FakePulumi, Run

PROJECT = Path(__file__).resolve().parents[2]


BLOCKED = "left alone: others own its preferred node affinity (helm)"


def test_status_as_json_has_the_promised_schema(run: Run) -> None:
    """Scripts read exactly these keys; wanted is null for what is left alone."""
    code, out, err = run("status", "--json", cluster=shop(2))
    assert json.loads(out) == {
        "arm_ratio": 0.5,
        "fleet": {"pods": 4, "wanted": 2, "graviton": 2, "all_pods": 7},
        "workloads": [
            {
                "workload": "shop/DaemonSet/log",
                "replicas": 0,
                "wanted": None,
                "graviton": 0,
                "exact": True,
                "near": False,
                "reason": "a DaemonSet: runs on every node that it selects",
            },
            {
                "workload": "shop/Deployment/cart",
                "replicas": 4,
                "wanted": 2,
                "graviton": 2,
                "exact": True,
                "near": False,
                "reason": "",
            },
            {
                "workload": "shop/Deployment/pay",
                "replicas": 3,
                "wanted": None,
                "graviton": 0,
                "exact": True,
                "near": False,
                "reason": BLOCKED,
            },
        ],
        "troubles": [],
        "autoscaled": [],
        "placement": {"by": "patches", "without_policy": [], "unplaced": {}, "older": 0},
    }
    assert (code, err) == (0, "")


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
@pytest.mark.parametrize(("on_graviton", "code"), [(2, 0), (1, 3), (4, 3)])
def test_status_exits_by_what_is_observed(
    run: Run, arguments: tuple[str, ...], on_graviton: int, code: int
) -> None:
    """0 where observed is wanted, 3 where not: a pipeline waits on it, with or without JSON."""
    assert run(*arguments, cluster=shop(on_graviton))[0] == code


def test_status_for_people(run: Run) -> None:
    """A row a workload, what is left alone and why, and the fleet in one line."""
    _, out, _ = run("status", cluster=shop(1))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "shop/Deployment/cart 4 2 1 not exact" in lines
    assert "shop/DaemonSet/log - - 0 a DaemonSet: runs on every node that it selects" in lines
    assert "shop/Pod/debug: a bare pod: nothing would start it again" in lines
    assert lines[-1] == "fleet at 0.5: 1 of 4 movable pods on Graviton (0.250), 2 wanted; 7 pods in all"


def test_plan_as_json(run: Run) -> None:
    """Rows, conflicts with their owners, capacity of both sides, and what is not steered."""
    code, out, err = run("plan", "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "")
    assert (plan["arm_ratio"], plan["direction"]) == (0.5, "up")
    assert plan["fleet"] == {"pods": 4, "wanted": 2, "graviton": 0, "all_pods": 7}
    assert plan["workloads"][1] == {
        "workload": "shop/Deployment/cart",
        "kind": "Deployment",
        "owner": "shop",
        "replicas": 4,
        "wanted": 2,
        "graviton": 0,
        "moves": 2,
        "action": "move",
        "restarts": True,
        "restarted_pods": 4,
        "entry": "",
        "reachable": None,
        "reason": "",
        "cause": "",
    }
    assert plan["conflicts"] == [
        {
            "workload": "shop/Deployment/pay",
            "field": "spec.template.spec.affinity.nodeAffinity."
            "preferredDuringSchedulingIgnoredDuringExecution",
            "owner": "helm",
            "forced": False,
        }
    ]
    graviton = next(side for side in plan["capacity"] if side["architecture"] == "arm64")
    assert graviton == {
        "architecture": "arm64",
        "nodes": 1,
        "pods": 3,
        "vcpu": 4.0,
        "vcpu_needed": 0.6,
        "gib": 16.0,
        "gib_needed": 0.31,
        "shortage": "",
    }
    before = next(side for side in plan["capacity_before"] if side["architecture"] == "arm64")
    assert (before["nodes"], before["pods"], before["vcpu_needed"]) == (1, 0, 0.0)
    assert plan["unsteered"] == {"shop/Pod/debug": "a bare pod: nothing would start it again"}
    assert (plan["placement"], plan["moves"], plan["restarted_pods"], plan["advice"]) == ("patches", 2, 4, "")


def test_plan_for_people(run: Run, pulumi: FakePulumi) -> None:
    """What rolls out, the conflict with what to do, the missing capacity, the fleet."""
    full = node("arm")
    full["status"]["allocatable"]["cpu"] = "0"
    small = FakeCluster({**shop().objects, "/api/v1/nodes": [node("x86", "amd64"), full]})
    pulumi.configure(arm_ratio="1.0")
    code, out, _ = run("plan", cluster=small)
    text = " ".join(out.split())
    assert code == 0
    assert "shop/Deployment/cart 4 0 4 rolls out" in text
    assert "conflict: shop/Deployment/pay: spec.template" in text
    assert "set force: true with a reason in archshift:workloads.overrides" in text
    assert "shortage: Graviton lacks 1.1 vCPU" in text
    assert text.endswith(
        "fleet at 1: 0 of 4 movable pods are on Graviton, 4 belong there; 7 pods in all; 1 workload rolls out"
    )


def test_a_plan_hides_what_does_not_change(run: Run, pulumi: FakePulumi) -> None:
    """How many it hides is said, a flag prints them, and JSON has all."""
    pulumi.configure(arm_ratio="0.0")
    _, out, _ = run("plan")
    hidden = [
        row["workload"] for row in json.loads(run("plan", "--json")[1])["workloads"] if not row["restarts"]
    ]
    _, everything, _ = run("plan", "--all")
    assert "shop/DaemonSet/log" in hidden
    assert "DaemonSet/log" not in out
    assert "DaemonSet/log" in everything
    assert "archshift plan --all prints" in out
    assert "archshift plan --all prints" not in everything


def test_plan_names_nodes_that_take_no_pods_now(run: Run, pulumi: FakePulumi) -> None:
    """Nothing moves to them, nothing is short, and no workload is left alone."""
    closed = FakeCluster(
        {**shop().objects, "/api/v1/nodes": [node("x86", "amd64"), node("arm", ready=False)]}
    )
    pulumi.configure(arm_ratio="1.0")
    code, out, _ = run("plan", cluster=closed)
    text = " ".join(out.split())
    assert code == 0
    assert "shop/Deployment/cart 4 0 0 waits: no Graviton node takes pods now" in text
    assert "1 of 1 Graviton node takes no pods now: cordoned, not ready" in text
    assert "shortage" not in text
    assert text.endswith("7 pods in all; 0 workloads roll out")


def test_the_selected_stack_is_asked_for(run: Run, pulumi: FakePulumi) -> None:
    """Without an option, the engine says which stack is selected."""
    pulumi.stack = {"out": "staging\n"}
    pulumi.configure(arm_ratio="0.5")
    run("status")
    assert pulumi.calls == [
        ["--non-interactive", "--cwd", ".", "stack", "--show-name"],
        ["--non-interactive", "--cwd", ".", "config", "--json", "--stack", "staging"],
    ]


def test_options_name_stack_folder_and_file(run: Run, pulumi: FakePulumi) -> None:
    """They reach the engine as they are."""
    run("plan", "-s", "prod", "-C", "/infra", "--config-file", "x.yaml")
    (call,) = pulumi.calls
    assert call[:4] == ["--non-interactive", "--cwd", "/infra", "config"]
    assert call[4:] == ["--json", "--stack", "prod", "--config-file", "x.yaml"]


def test_the_environment_names_the_stack(
    run: Run, pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PULUMI_STACK, as the engine itself has it; the option wins over it."""
    monkeypatch.setenv("PULUMI_STACK", "dev")
    run("plan")
    run("plan", "--stack", "prod")
    assert [call[-1] for call in pulumi.calls] == ["dev", "prod"]


def test_the_stack_decides_what_is_ours(
    run: Run, pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inventory is read with the stack's discovery and under the stack's name."""
    asked: list[tuple[Any, str]] = []

    def read(cluster: FakeCluster, discovery: Any, field_manager: str, **how: bool) -> Inventory:
        asked.append((discovery.namespaces, field_manager))
        return read_inventory(cluster, discovery, field_manager, **how)

    monkeypatch.setattr(survey, "read_inventory", read)
    pulumi.configure(arm_ratio="0.5", workloads={"namespaces": ["shop"]})
    run("plan", "-s", "prod")
    assert asked == [(("shop",), "archshift/prod/patches")]


@pytest.mark.parametrize("command", ["plan", "status"])
@pytest.mark.parametrize("json_option", [(), ("--json",)])
def test_an_unreadable_cluster_is_one_sentence(run: Run, command: str, json_option: tuple[str, ...]) -> None:
    """On stderr, with exit code 1 and nothing on stdout: a pipe never gets half an answer."""
    error = ArchshiftError("https://x: the cluster cannot be reached: refused")
    assert run(command, *json_option, cluster=error) == (
        1,
        "",
        "archshift: https://x: the cluster cannot be reached: refused\n",
    )


def test_a_bad_setting_is_one_sentence(run: Run, pulumi: FakePulumi) -> None:
    """The same sentence as `pulumi preview` gives."""
    pulumi.configure(arm_ratio="1.5")
    assert run("status") == (
        1,
        "",
        "archshift: archshift:arm_ratio: '1.5' is invalid; use a number from 0.0 to 1.0\n",
    )


def test_all_bad_settings_are_printed_a_line_each(run: Run, pulumi: FakePulumi) -> None:
    """Whoever corrects a file does not run the command once for each error."""
    pulumi.configure(arm_ratio="1.5", platform="gke")
    assert run("status") == (
        1,
        "",
        "archshift: archshift:arm_ratio: '1.5' is invalid; use a number from 0.0 to 1.0\n"
        "archshift: archshift:platform: 'gke' is invalid; use eks or lab\n",
    )


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            {"code": 255, "err": "error: no stack named 'prod' found\n"},
            "archshift: pulumi config: no stack named 'prod' found\n",
        ),
        ({"code": 7}, "archshift: pulumi config: exit code 7\n"),
    ],
)
def test_an_engine_that_fails_is_one_sentence(
    run: Run, pulumi: FakePulumi, answer: dict[str, Any], sentence: str
) -> None:
    """The engine's own reason, without its prefix."""
    pulumi.answer(answer)
    assert run("status", "-s", "prod") == (1, "", sentence)


@pytest.mark.parametrize("out", ["", "warning: new version\n{", "[]", '{"archshift:arm_ratio": "0.5"}'])
def test_an_engine_that_answers_nonsense_is_one_sentence(run: Run, pulumi: FakePulumi, out: str) -> None:
    """Another program by that name, or one that prints a warning first: no traceback."""
    pulumi.answer({"out": out})
    code, printed, err = run("status", "-s", "prod")
    assert (code, printed) == (1, "")
    assert err.startswith("archshift: pulumi config: ")
    assert err.count("\n") == 1


def test_a_machine_without_the_engine_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first thing that a newcomer meets."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert run("status") == (
        1,
        "",
        "archshift: pulumi is not on PATH; install the Pulumi CLI, or run inside `make lab-shell`\n",
    )


def test_words_of_the_engine_in_another_encoding_are_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It repeats names of files as they are, and a name may be in Latin-1."""
    folder = tmp_path / "latin"
    folder.mkdir()
    program = folder / "pulumi"
    program.write_bytes(b"#!/bin/sh\nprintf 'chdir caf\\351: no such file or directory\\n' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    sentence = "archshift: pulumi config: chdir caf\ufffd: no such file or directory\n"
    assert run("status", "-s", "dev") == (1, "", sentence)


def test_an_engine_that_hangs_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A backend that does not answer ends in a sentence, not in a stuck pipeline."""
    folder = tmp_path / "slow"
    folder.mkdir()
    program = folder / "pulumi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cli_stack, "_TIMEOUT_SECONDS", 0.2)
    assert run("status", "-s", "dev") == (
        1,
        "",
        "archshift: pulumi config gave no answer in 0.2 s; check that the backend is reachable\n",
    )


@pytest.mark.parametrize("arguments", [(), ("stauts",), ("plan", "--jsno")])
def test_a_wrong_command_prints_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """Exit code 2, as every command line has it."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 4
    assert capsys.readouterr().err.startswith("usage: archshift")


def test_an_interrupt_says_that_nothing_was_changed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both commands read only; the exit code is the shell's for an interrupt."""

    def interrupt(*_: object, **__: object) -> Inventory:
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "read_inventory", interrupt)
    assert run("status") == (130, "", "archshift: interrupted; nothing was changed\n")


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    """What a bug report quotes is what pyproject.toml says."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    said = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"archshift {said}\n"
