"""The hourly rebalance: what it may move, and when it fails."""

import os
import signal
import subprocess
import time

import pytest

from tests.pipelines.conftest import SCRIPTS, Runner


@pytest.fixture
def prod(runner: Runner) -> Runner:
    """A stack that is as it was deployed."""
    runner.new_stack("prod")
    runner.deployed({"arm_ratio": 0.5})
    return runner


@pytest.mark.parametrize(
    ("code", "fails", "words"),
    [
        (0, False, ""),
        # Only an update can bring the rest right; a failed run each hour would help nobody.
        (3, False, ""),
        (5, True, "Pods of prod are pending, or a rollout is stuck.\n"),
        (1, True, "archshift rebalance of prod ended with 1.\n"),
    ],
)
def test_it_moves_a_limited_number_of_pods(prod: Runner, code: int, words: str, *, fails: bool) -> None:
    """What it did is on the page of the run."""
    prod.stand_in("archshift-rebalance", f"echo '2 pods evicted'; exit {code}")
    done = prod.run("rebalance.sh", "prod", "20")
    assert (bool(done.code), done.stderr) == (fails, words)
    assert prod.calls("archshift rebalance") == ["archshift rebalance --stack prod --max-pods 20"]
    assert "2 pods evicted" in prod.summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_job_lets_archshift_end_in_order(prod: Runner, number: signal.Signals) -> None:
    """The runner signals the script alone; what archshift says at its end is on the page of the run."""
    started = prod.root / "started"
    prod.stand_in(
        "archshift-rebalance",
        f"trap 'sleep 1; echo the entries are set back; exit 130' TERM; touch {started}; "
        "while :; do sleep 0.1; done",
    )
    job = subprocess.Popen(
        # A process in the background of a shell ignores SIGINT, and so would the script.
        ["/usr/bin/env", "--default-signal=INT", SCRIPTS / "rebalance.sh", "prod", "20"],
        cwd=prod.checkout,
        env=prod.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    while not started.exists():
        assert job.poll() is None
        time.sleep(0.1)
    os.kill(job.pid, number)
    out, err = job.communicate(timeout=60)
    assert "the entries are set back" in out
    assert (job.returncode, err) == (1, "The rebalance of prod was cancelled; the next one goes on.\n")


def test_between_a_merge_and_its_deployment_nothing_moves(prod: Runner) -> None:
    """The settings of the checkout are not those of the cluster."""
    prod.deployed({"arm_ratio": 0.2})
    assert prod.run("rebalance.sh", "prod", "20").code == 0
    assert prod.calls("archshift rebalance") == []
    assert prod.summary.endswith("The next deployment moves the pods.\n")


@pytest.mark.parametrize(("ratio", "calls"), [(0.5, 1), (0.8, 0)])
def test_after_an_update_that_failed_only_pods_of_the_same_ratio_move(
    prod: Runner, ratio: float, calls: int
) -> None:
    prod.deployed({"arm_ratio": 0.5}, tried={"ratio": ratio, "commit": "0" * 40})
    assert prod.run("rebalance.sh", "prod", "20").code == 0
    assert len(prod.calls("archshift rebalance")) == calls
    if not calls:
        assert "0.5 is deployed (an update to 0.8 failed), and arm_ratio is 0.5" in prod.summary


@pytest.mark.parametrize("most", ["", "all", "0", "-1"])
def test_a_limit_is_required(prod: Runner, most: str) -> None:
    done = prod.run("rebalance.sh", "prod", most)
    assert (done.code, done.stderr) == (
        1,
        f"The second argument must be a number of pods, but it is '{most}'.\n",
    )
