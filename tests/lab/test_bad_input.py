"""Bad input: one sentence, exit code not 0, nothing changed."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import Lab
from lab.stack import ON_THE_LAB
from tests.lab.lab_helpers import Cluster, Result, Stack, deployment, node_groups

NAMESPACE = "bad-input"


def expect_refusal(run: Result, sentence: str) -> None:
    """Assert that a run ended with this sentence and without a traceback."""
    assert run.exit_code != 0
    assert sentence in run.output
    assert "Traceback" not in run.output


@pytest.fixture(scope="module")
def shared(control_plane: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Stack]]:
    """A stack that would make nodes and move a workload. It serves the whole file: nothing may change."""
    control_plane.start()  # a test may have ended one of its servers
    cluster = Cluster(control_plane)
    cluster.apply(deployment("web", 2, cluster.namespace(NAMESPACE)))
    stack = Stack(control_plane, tmp_path_factory.mktemp("stack"), f"test-{uuid.uuid4().hex[:8]}")
    yield cluster, stack
    stack.remove()
    cluster.clear()
    cluster.close()


@pytest.fixture
def ready(shared: tuple[Cluster, Stack]) -> Iterator[Stack]:
    """The stack with a good configuration; afterwards no node is made and no workload touched."""
    cluster, stack = shared
    stack.config(
        {
            **ON_THE_LAB,
            "node_groups": node_groups(),
            "workloads": {"namespaces": [NAMESPACE]},
            "arm_ratio": "0.5",
            "arm_ration": None,
        }
    )
    before = cluster.get("deployment", "web", NAMESPACE)["metadata"]["generation"]
    yield stack
    assert cluster.all_of("nodes") == []
    assert cluster.get("deployment", "web", NAMESPACE)["metadata"]["generation"] == before


BAD_RATIOS = {
    1.5: "1.5",
    "-0.1": "-0.1",
    "abc": "abc",
    "NaN": "NaN",
    "": "",
}

BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"ratio {text!r}": (
            {"arm_ratio": value},
            f"archshift:arm_ratio: {text!r} is invalid; use a number from 0.0 to 1.0",
        )
        for value, text in BAD_RATIOS.items()
    },
    "no ratio": ({"arm_ratio": None}, "is missing configuration value 'arm_ratio'"),
    "an unknown key": (
        {"arm_ration": "0.5"},
        "archshift:arm_ration is not a setting; there are: arm64_tests, arm_ratio, break_glass, cluster, "
        "cluster_uid, cost, gate, graviton_families, images, kube_context, monitoring, node_groups, "
        "placement, platform, policy_exception, provisioner, ramp, rollouts, workloads",
    ),
    "an unknown context": (
        {"kube_context": "somewhere"},
        "archshift:kube_context: 'somewhere' is not in the kubeconfig, which has: archshift-lab",
    ),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_setting_that_does_not_do(ready: Stack, name: str) -> None:
    """The sentence names key, value and way out."""
    values, sentence = BAD_SETTINGS[name]
    expect_refusal(ready.config(values).up(), sentence)
    if values != {"arm_ratio": None}:
        status = ready.archshift("status")
        assert (status.returncode, status.stdout) == (1, "")
        assert status.stderr == f"archshift: {sentence}\n"


def test_an_override_for_a_workload_that_is_not_there(ready: Stack) -> None:
    """The sentence names the key and the nearest workload."""
    workloads = {"namespaces": [NAMESPACE], "overrides": {f"{NAMESPACE}/Deployment/wep": {"hold": True}}}
    run = ready.config({"workloads": workloads}).up()
    expect_refusal(
        run,
        f"archshift:workloads.overrides: '{NAMESPACE}/Deployment/wep' is not among the workloads found; "
        f"did you mean {NAMESPACE}/Deployment/web?",
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"server": "https://127.0.0.1:1"}, "https://127.0.0.1:1: the cluster cannot be reached: "),
        ({"token": "not-the-token"}, ": the cluster refuses the credentials (Unauthorized); log in again"),
    ],
    ids=["points nowhere", "refused"],
)
def test_a_cluster_that_cannot_be_read(
    ready: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    sentence: str,
) -> None:
    """A kubeconfig that points nowhere or whose credentials are refused stops the run before anything."""
    config = yaml.safe_load(Path(ready.lab.environment()["KUBECONFIG"]).read_text())
    if "server" in change:
        config["clusters"][0]["cluster"]["server"] = change["server"]
    else:
        config["users"][0]["user"] = {"token": change["token"]}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    environment = {**ready.lab.process_environment(), "KUBECONFIG": str(path)}
    with monkeypatch.context() as patch:
        patch.setattr(ready.lab, "process_environment", lambda: environment)
        expect_refusal(ready.up(), sentence)
        status = ready.archshift("status")
    assert status.returncode == 1
    assert sentence in status.stderr
    assert status.stderr.count("\n") == 1
