"""`archshift preview` on the real engine: what it writes when the preview is fine, and when it is not.

One cluster and one stack serve the whole file: a preview changes nothing, which each test asserts.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.control_plane import PROJECT, Lab
from lab.engine import engine_environment
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import (
    NO_CAPACITY,
    NO_CHECK,
    NO_PROTECT,
    Guarded,
    changed,
    edited,
    guarded_cluster,
    legacy,
    with_image,
)
from tests.lab.lab_helpers import deployment

pytestmark = pytest.mark.timeout(900)

RULES = {
    "arm-ratio-step",
    "break-glass-in-use",
    "daemonset-runs-on-every-architecture",
    "node-group-architecture",
    "policy-exception-in-use",
    "workload-patch-safety",
    "x86-capacity-for-amd64-images",
    "x86-node-group-protected",
}
PACK = f"--policy-pack={PROJECT / 'policies'}"


@pytest.fixture(scope="module")
def guarded(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The cluster and its stack, up at 1.0: web on Graviton, legacy on two x86 nodes, pay left alone."""
    with guarded_cluster(control_plane, registry, push, tmp_path_factory.mktemp("preview")) as guarded:
        guarded.cluster.apply(legacy(guarded))
        owned = deployment(
            "pay",
            2,
            guarded.namespace,
            affinity={
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [{"key": "kubernetes.io/arch", "operator": "Exists"}]
                            },
                        }
                    ]
                }
            },
        )
        owned["metadata"]["labels"] = {"acme.example/team": "payments"}
        guarded.cluster.apply(with_image(owned, guarded.images["web"]), manager="helm")
        # Everybody's first preview: no node is there, and what needs x86 waits for those to be made.
        guarded.stack.config({"arm_ratio": "0.2"})
        first = guarded.stack.preview(PACK)
        assert first.succeeded, first.output
        guarded.restore()
        guarded.up()
        guarded.cluster.wait_until_settled(guarded.namespace)
        yield guarded


@pytest.fixture(autouse=True)
def unchanged(guarded: Guarded) -> Iterator[None]:
    """Every test starts from the same place, and changes neither the cluster nor the stack's state."""
    guarded.restore()
    before = guarded.alive()
    state = {one["urn"] for one in guarded.stack.resources()}
    yield
    assert guarded.alive() == before
    assert {one["urn"] for one in guarded.stack.resources()} == state


@dataclass(frozen=True)
class Previewed:
    """What one run of the command left."""

    code: int
    report: dict[str, Any]
    comment: str
    everything: str


def previewed(guarded: Guarded, *flags: str) -> Previewed:
    """Run the command."""
    file = guarded.stack.folder / "comment.md"
    file.unlink(missing_ok=True)
    done = guarded.stack.archshift("preview", "--json", f"--markdown={file}", *flags, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    comment = file.read_text()
    assert comment.startswith(f"<!-- archshift-preview:{guarded.stack.name} -->\n")
    assert len(comment.encode()) <= 65_536
    return Previewed(done.returncode, json.loads(done.stdout), comment, done.stdout + done.stderr + comment)


def test_a_fine_preview(guarded: Guarded) -> None:
    """The step back to 0.8: what moves, capacity, what is held and why, a conflict, rules, the diff."""
    guarded.stack.config({"arm_ratio": "0.8"})
    found = previewed(guarded)
    assert (found.code, found.report["outcome"], found.report["reason"]) == (0, "fine", "")
    assert (found.report["policies"], set(found.report["passed"])) == ("asked", RULES)
    assert found.report["violations"] == []
    assert (found.report["state_ratio"], found.report["plan"]["arm_ratio"]) == (1, 0.8)
    assert found.report["plan"]["direction"] == "down"
    # One pod of 100m more fits on the x86 node that legacy needs anyway.
    assert found.report["cost"]["before"] is not None
    assert "Cost: the pods need nodes for " in found.comment
    web = f"{guarded.namespace}/Deployment/web"
    changes = {one["name"]: one for one in found.report["changes"]}
    assert set(changes) == {web}
    assert changes[web]["op"] == "update"
    assert any(key.startswith("spec.template.spec.topologySpread") for key in changes[web]["keys"])
    lines = found.comment.splitlines()
    assert f"| `{web}` | `{guarded.namespace}` | 4 | 4 | 3 |  |" in lines
    assert "| x86 | 3 → 3 | " in found.comment
    (row,) = [line for line in lines if f"`{guarded.namespace}/Deployment/legacy`" in line]
    assert "left alone: its own node selector or affinity matches no Graviton node" in row
    assert (
        f"| `{guarded.namespace}/Deployment/pay` | `helm` | left alone | `spec.template.spec.affinity."
        "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution` |"
    ) in lines
    rows = {one["workload"].rsplit("/", 1)[1]: one for one in found.report["plan"]["workloads"]}
    assert (rows["pay"]["owner"], rows["web"]["owner"]) == ("payments", guarded.namespace)
    # It is the conflict's, and stands nowhere else.
    assert found.report["warnings"] == []


def test_without_changes_there_is_nothing_to_say(guarded: Guarded) -> None:
    found = previewed(guarded)
    assert (found.code, found.report["changes"]) == (0, [])
    assert "**no pod changes sides**" in found.comment
    assert "Resource diff" not in found.comment
    assert "What moves" not in found.comment


def test_policies_block_it(guarded: Guarded) -> None:
    """More than a step: the rule with its way out, and everything else is there all the same."""
    guarded.stack.config({"arm_ratio": "0.5"})
    found = previewed(guarded)
    assert (found.code, found.report["outcome"]) == (1, "blocked")
    assert found.report["reason"] == "1 rule of the policy pack objects: arm-ratio-step"
    (violation,) = found.report["violations"]
    assert (violation["rule"], violation["mandatory"]) == ("arm-ratio-step", True)
    assert (
        "Set it to 0.8; 0.2 or less is always allowed. Or set archshift:policy_exception"
        in violation["message"]
    )
    assert set(found.report["passed"]) == RULES - {"arm-ratio-step"}
    assert "- **Blocks**: `arm-ratio-step` at `workloads`: `" in found.comment
    assert found.comment.index("Blocks") < found.comment.index("What moves")


def test_the_packs_configuration_counts(guarded: Guarded, tmp_path: Path) -> None:
    """The same step with the rule as an advisory."""
    settings = tmp_path / "pack.json"
    settings.write_text(json.dumps({"arm-ratio-step": "advisory"}))
    guarded.stack.config({"arm_ratio": "0.5"})
    found = previewed(guarded, PACK, f"--policy-pack-config={settings}")
    assert (found.code, found.report["outcome"]) == (0, "fine")
    assert [(one["rule"], one["mandatory"]) for one in found.report["violations"]] == [
        ("arm-ratio-step", False)
    ]
    assert "- Advice: `arm-ratio-step`" in found.comment


def test_the_guard_blocks_it(guarded: Guarded) -> None:
    """The program refuses: its sentence is the reason, the plan is there, and no policy was asked."""
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    found = previewed(guarded)
    assert (found.code, found.report["outcome"], found.report["policies"]) == (1, "blocked", "not asked")
    assert found.report["reason"].startswith("x86 capacity stays: 1 workload needs x86: ")
    assert found.report["plan"]["arm_ratio"] == 1
    assert "This is no pass" in found.comment
    assert "No objection" not in found.comment


def test_the_hook_blocks_it(guarded: Guarded) -> None:
    """A step fails in the preview: then the engine prints the pack as passed without having asked it."""
    program = edited(guarded, NO_CHECK, NO_CAPACITY, NO_PROTECT)
    guarded.unprotect()
    try:
        guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
        found = previewed(guarded, f"--cwd={program}", PACK)
    finally:
        guarded.restore()
        guarded.up()
    assert (found.code, found.report["outcome"], found.report["policies"]) == (1, "blocked", "not asked")
    assert "x86 node x86-" in found.report["reason"]
    assert "stays: 1 workload needs x86: " in found.report["reason"]
    assert "**Not checked.**" in found.comment
    assert "No objection" not in found.comment


def test_exceptions_are_loud(guarded: Guarded) -> None:
    """Break-glass stands in front of everything."""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    glass = {"until": until, "reason": "zone | lost", "ticket": "OPS-1"}
    guarded.stack.config({"break_glass": glass})
    found = previewed(guarded)
    assert found.code == 0
    (exception,) = found.report["exceptions"]
    assert exception.startswith("BREAK GLASS until ")
    assert "> [!CAUTION]\n> **Exceptions in force:**" in found.comment
    assert "Reason: zone ¦ lost; ticket OPS-1" in found.comment.split("###")[0]


def test_a_broken_configuration(guarded: Guarded) -> None:
    """The sentence of the program is the reason; there is no plan, and the comment says so."""
    guarded.stack.config({"arm_ratio": "2"})
    found = previewed(guarded)
    assert (found.code, found.report["outcome"], found.report["policies"]) == (1, "failed", "not asked")
    assert found.report["reason"].startswith("archshift:arm_ratio: ")
    assert found.report["plan"] is None
    assert f"**Failed.** `{found.report['reason']}`" in found.comment
    assert "the step is unknown" in found.comment


def test_a_stack_that_does_not_exist(guarded: Guarded) -> None:
    """The engine's own sentence, in a comment too."""
    file = guarded.stack.folder / "none.md"
    done = guarded.stack.archshift("preview", "--stack=nowhere", f"--markdown={file}")
    assert done.returncode == 1
    assert "no stack named 'nowhere' found" in done.stdout
    assert "no stack named 'nowhere' found" in file.read_text()


def test_a_folder_without_a_pack(guarded: Guarded) -> None:
    """No pack is no pass. Who leaves it out says so, and so does the comment."""
    folder = f"--cwd={edited(guarded)}"
    found = previewed(guarded, folder)
    assert found.code == 1
    assert "there is no policy pack in policies" in found.comment
    found = previewed(guarded, folder, "--no-policy-pack")
    assert (found.code, found.report["policies"]) == (0, "none")
    assert "There is no policy pack" in found.comment


SECRET = "hunter2 is |`not` <b>to be told</b>"
PARTS = ("hunter2", "to be told", base64.b64encode(SECRET.encode()).decode().rstrip("="))
ANCHOR = "    write_plan_file(cluster_survey, settings, now)\n"
IN_RESOURCES = f"""{ANCHOR}    cluster = k8s.Provider("app", context=settings.kube_context)
    app = pulumi.ResourceOptions(provider=cluster)
    password = pulumi.Config("app").require_secret("password")
    where = {{"namespace": "default"}}
    k8s.core.v1.Secret("db", metadata={{"name": "db", **where}}, string_data={{"a": password}}, opts=app)
"""
REFUSED = f"""{IN_RESOURCES}    labels = {{"owner": password}}
    k8s.core.v1.ConfigMap("env", metadata={{"name": "env", "labels": labels, **where}}, opts=app)
"""
SAID = f"""{ANCHOR}    import base64
    password = pulumi.Config("app").require("password")
    pulumi.warn("the password is " + password)
    raise ArchshiftError(f"no such user: {{password}} ({{base64.b64encode(password.encode()).decode()}})")
"""


@pytest.mark.parametrize(
    ("program", "code"), [(IN_RESOURCES, 0), (REFUSED, 1), (SAID, 1)], ids=["kept", "refused", "said"]
)
def test_no_secret_appears(guarded: Guarded, program: str, code: int) -> None:
    """A secret of the configuration goes into resources, into what the API server refuses, and into the
    program's own words: neither JSON, comment nor terminal has any of it.
    """
    folder = edited(guarded, (ANCHOR, program))
    lab, stack = guarded.cluster.lab, guarded.stack
    flags = [f"--stack={stack.name}", f"--config-file={stack.config_file}", "--secret", "app:password"]
    done = lab.run("pulumi", "config", "set", *flags, SECRET, cwd=stack.folder)
    assert done.returncode == 0, done.stderr
    assert "secure:" in stack.config_file.read_text()
    found = previewed(guarded, f"--cwd={folder}", PACK)
    assert found.code == code, found.everything
    for part in PARTS:
        assert part not in found.everything
    if program == IN_RESOURCES:
        assert "db" in {one["name"] for one in found.report["changes"]}
    if program == REFUSED:
        assert found.report["reason"] == "env has secret values; run pulumi preview to see why it failed"
    if program == SAID:
        assert found.report["reason"] == "no such user: [secret] ([secret])"
        assert found.report["warnings"] == ["the password is [secret]"]
        people = stack.archshift("preview", f"--cwd={folder}", "--no-policy-pack", timeout=300)
        assert people.returncode == 1
        assert "warning: the password is [secret]" in people.stdout
        assert [part for part in PARTS if part in people.stdout + people.stderr] == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_interrupted(guarded: Guarded, how: signal.Signals) -> None:
    """The engine is told, and everything that was started has ended when the command has."""
    process = subprocess.Popen(
        [
            str(PROJECT / ".venv" / "bin" / "archshift"),
            "preview",
            f"--config-file={guarded.stack.config_file}",
            PACK,
        ],
        cwd=PROJECT,
        env=engine_environment(guarded.cluster.lab, guarded.stack.name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + 60
    # The program itself runs: until then the engine may leave its language host to end by itself.
    while not any("pulumi-language-python-exec" in " ".join(_command(one)) for one in started.values()):
        assert time.monotonic() < deadline, "the engine did not begin"
        assert process.poll() is None, process.communicate()
        started |= {one.pid: one for one in psutil.Process(process.pid).children(recursive=True)}
        time.sleep(0.02)
    os.kill(process.pid, how)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "archshift: interrupted; nothing was changed\n")
    _, alive = psutil.wait_procs(list(started.values()), timeout=20)
    assert alive == []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
