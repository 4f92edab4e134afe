"""The stack's memory of its cluster."""

from dataclasses import replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from archshift.cluster.lease import LEASES, NAMESPACE, Lease, lease_name
from archshift.common.errors import ArchshiftError
from components import cluster_identity, stack_state
from components.cluster_identity import check_cluster, survey_stack
from tests.build import load, shop
from tests.components.recorder import READ_STACK_OUTPUTS, Recorder, record
from tests.fakes import Clock, FakeCluster

UID = "6a0c9f1e"


class FailedError(grpc.RpcError):  # type: ignore[misc]
    """An error of the engine, as the SDK sees it."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return self.words


def check(answer: Any, context: str | None = "blue", declared: str = "") -> list[str]:
    """Check the cluster in a program whose stack has these outputs."""
    checked: list[str] = []
    reached = FakeCluster()
    reached.uid = UID
    recorder = Recorder(answers={READ_STACK_OUTPUTS: answer})
    record(lambda: checked.append(check_cluster(reached, context, declared)), recorder)
    return checked + [call["name"] for _, call in recorder.calls]


def outputs(**values: str) -> Any:
    """What the engine answers for a stack with these outputs."""
    return lambda _: {"outputs": values}


def test_a_new_stack_takes_the_cluster_that_it_finds() -> None:
    uid, name = check(outputs())
    assert (uid, name.partition("/")[2]) == (UID, "archshift/test")
    assert check(outputs(cluster_uid=UID))[0] == UID


def test_another_cluster_is_one_sentence_with_both_uids_and_the_way_out() -> None:
    with pytest.raises(ArchshiftError) as error:
        check(outputs(cluster_uid="old"))
    assert str(error.value) == (
        "the cluster of this stack has the uid old, but the context blue of the kubeconfig reaches the "
        f"cluster with the uid {UID}; set archshift:kube_context to the context of the stack's cluster; if "
        f"the cluster was rebuilt, run pulumi config set cluster_uid {UID}"
    )
    with pytest.raises(ArchshiftError, match="but the current context of the kubeconfig reaches"):
        check(outputs(cluster_uid="old"), context=None)


def test_a_rebuilt_cluster_is_named_in_the_settings() -> None:
    """The setting goes before the memory, also if it names a cluster that is not the one reached."""
    assert check(outputs(cluster_uid="old"), declared=UID) == [UID]
    with pytest.raises(ArchshiftError, match="the cluster of this stack has the uid other"):
        check(outputs(cluster_uid=UID), declared="other")


def test_outputs_that_cannot_be_read_for_a_moment_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may be writing the file of the state. Unknown for good is never yes."""
    answers = [{"outputs": {"cluster_uid": UID}}]
    failures = ["failed to load checkpoint: EOF"]

    def answer(_: Any) -> Any:
        if failures:
            raise FailedError(failures.pop())
        return answers[0]

    assert check(answer)[0] == UID
    monkeypatch.setattr(stack_state, "_PATIENCE_SECONDS", 0.0)
    failures.append("denied")
    with pytest.raises(ArchshiftError, match=r"cannot read the outputs of the stack .*: denied"):
        check(answer)


def test_the_check_and_the_survey_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig for EKS runs a program for each connection, which takes a second."""
    reached, contexts, uids = shop(), list[str | None](), list[str]()

    def connect(context: str | None) -> FakeCluster:
        contexts.append(context)
        return reached

    monkeypatch.setattr(cluster_identity, "connect", connect)
    settings = load(kube_context="blue", images={"check": False})
    recorder = Recorder(answers={READ_STACK_OUTPUTS: outputs()})
    record(lambda: uids.append(survey_stack(settings, None, lambda *_: None)[2]), recorder)
    assert (uids, contexts) == ([reached.uid], ["blue"])


@pytest.mark.parametrize("preview", [False, True])
def test_an_update_plans_nothing_while_a_rebalance_moves_pods(
    monkeypatch: pytest.MonkeyPatch, *, preview: bool
) -> None:
    """It would take the entries of the moment for the workloads' own. A preview only looks."""
    reached = shop()
    path = f"{LEASES.collection(NAMESPACE)}/{lease_name('stack')}"
    monkeypatch.setattr(cluster_identity, "connect", lambda _: reached)
    monkeypatch.setattr("pulumi.runtime.is_dry_run", lambda: preview)
    survey_stack_in_program(reached)
    assert (path in reached.gets) == (not preview)
    if not preview:
        assert reached.lists
        assert reached.gets.index(path) <= 1, "before the survey"


def test_an_update_stops_before_it_looks_while_somebody_moves_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = shop()
    clock = Clock(monkeypatch)
    other = Lease(reached, "stack", "archshift rebalance on ci")
    other.take(print)
    sleep = clock.sleep

    def meanwhile(seconds: float) -> None:
        sleep(seconds)
        reached.objects[LEASES.collection(NAMESPACE)][0]["spec"]["renewTime"] = str(clock.now)

    monkeypatch.setattr("time.sleep", meanwhile)
    monkeypatch.setattr(cluster_identity, "connect", lambda _: reached)
    monkeypatch.setattr("pulumi.runtime.is_dry_run", lambda: False)
    with pytest.raises(ArchshiftError, match="archshift rebalance on ci moves pods of the same stack now"):
        survey_stack_in_program(reached)
    assert reached.lists == [], "nothing was planned"


def survey_stack_in_program(reached: FakeCluster) -> None:
    settings = replace(load(images={"check": False}), stack="stack")
    recorder = Recorder(answers={READ_STACK_OUTPUTS: outputs()})
    record(lambda: survey_stack(settings, None, lambda *_: None), recorder)
    assert reached.lists
