"""What every job with credentials begins with: the environment, and the way to the cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.conftest import SCRIPTS, STACK_FILE, Runner

CLUSTER = "  archshift:cluster: {name: shop-eu}\n"
CONTEXT = "  archshift:kube_context: prod\n"


@pytest.mark.parametrize(
    ("file", "variable", "asked"),
    [
        (STACK_FILE + CLUSTER + CONTEXT, "", "--name shop-eu --alias prod"),
        (STACK_FILE + CLUSTER, "", "--name shop-eu --alias shop-eu"),
        (STACK_FILE + CONTEXT, "shop-us", "--name shop-us --alias prod"),
    ],
)
def test_the_kubeconfig_has_the_name_that_the_stack_calls_it(
    runner: Runner, file: str, variable: str, asked: str
) -> None:
    """The stack's file says both, so that no variable has to repeat them; one helps where it does not."""
    runner.install("aws")
    runner.commit({"Pulumi.prod.yaml": file})
    runner.new_stack("prod")
    assert runner.run("cluster.sh", "prod", EKS_CLUSTER=variable).code == 0
    assert runner.calls("aws") == [f"aws eks update-kubeconfig {asked}"]


def test_a_stack_that_names_no_cluster_is_told_what_to_set(runner: Runner) -> None:
    """Rather than reaching whichever cluster comes first."""
    runner.install("aws")
    runner.new_stack("prod")
    done = runner.run("cluster.sh", "prod")
    assert (done.code, done.stderr) == (
        1,
        "archshift: Pulumi.prod.yaml has no archshift:cluster; set the environment's variable EKS_CLUSTER to "
        "the cluster's name in EKS\n",
    )
    assert not runner.calls("aws")


@pytest.mark.parametrize(
    "names",
    [
        '  archshift:cluster: {name: "--kubeconfig=/etc/passwd"}\n',
        '  archshift:cluster: {name: "a b"}\n',
        CLUSTER + '  archshift:kube_context: "--role-arn"\n',
        CLUSTER + '  archshift:kube_context: "a\\nb"\n',
    ],
)
def test_a_name_that_is_an_option_of_a_command_is_refused(runner: Runner, names: str) -> None:
    """A pull request chooses the names."""
    runner.install("aws")
    runner.commit({"Pulumi.prod.yaml": STACK_FILE + names})
    runner.new_stack("prod")
    done = runner.run("cluster.sh", "prod")
    assert done.code == 1
    assert "is invalid in a kubeconfig; use a name without blanks" in done.stderr
    assert not runner.calls("aws")


def test_a_state_that_cannot_be_read_stops_it(runner: Runner) -> None:
    """It must not read as a stack that names no cluster."""
    runner.install("aws")
    done = runner.run("cluster.sh", "prod")
    assert done.code != 0
    assert "no stack named 'prod' found" in done.stderr
    assert not runner.calls("aws")


def test_the_next_steps_find_archshift_and_uv(tmp_path: Path) -> None:
    """What it adds to PATH has the command, and uv, which the engine starts the program with."""
    added = tmp_path / "paths"
    subprocess.run(
        [str(SCRIPTS / "setup.sh")],
        env={**os.environ, "GITHUB_PATH": str(added)},
        cwd=tmp_path,
        timeout=300,
        check=True,
    )
    folders = [Path(line) for line in added.read_text().splitlines()]
    assert folders[0] == Path(sys.executable).parent
    for program in ("archshift", "python", "uv"):
        assert any(os.access(folder / program, os.X_OK) for folder in folders), program
