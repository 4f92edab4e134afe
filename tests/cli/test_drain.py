"""``archshift drain``: what it prints, with which exit code; how it drains is in tests/lab/test_drain.py."""

import copy
import json
from typing import Any

import pytest

from archshift.actions.drain import ANNOTATION, NodeProgress, Outcome
from archshift.cli.commands import drain
from tests.build import node, shop
from tests.fakes import FakeCluster, FakePulumi, Run


@pytest.fixture
def cluster(pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The shop, half moved, for the survey and the drain alike."""
    pulumi.configure(arm_ratio="0.5", platform="lab")
    found = shop(2)
    monkeypatch.setattr(drain, "connect", lambda _context: found)
    return found


def test_what_forbids_it_as_json_has_the_promised_schema(run: Run, cluster: FakeCluster) -> None:
    """Scripts read exactly these keys; the exit code is 3 and nothing is patched."""
    code, out, err = run("drain", "--json", cluster=cluster)
    assert (code, err, cluster.patches) == (3, "", [])
    assert json.loads(out) == {
        "stack": "dev",
        "nodes": [{"node": "x86", "group": "", "state": "active", "pods": 3, "tied": 0}],
        "evicted": 0,
        "blockers": [
            {
                "what": "archshift:arm_ratio",
                "reason": "0.5 is less than 1.0; set it to 1.0 and run pulumi up",
            },
            {
                "what": "shop/Deployment/cart",
                "reason": "the next pulumi up moves its pods to Graviton; run it first",
            },
            {
                "what": "shop/Pod/debug",
                "reason": "a bare pod on x86, which nothing would start again; delete it, or use --bare-pods",
            },
        ],
        "warnings": [],
        "waiting": [],
    }


def test_what_forbids_it_for_people(run: Run, cluster: FakeCluster) -> None:
    """The nodes, a line a reason, and that nothing was changed."""
    code, out, _ = run("drain", "--dry-run", cluster=cluster)
    assert code == 3
    lines = [" ".join(line.split()) for line in out.splitlines() if line]
    assert lines[:2] == ["NODE GROUP STATE PODS TIED", "x86 - active 3 0"]
    assert lines[-1] == "nothing was changed; the lines above say what blocks the drain"


@pytest.mark.parametrize("new_pods_wait", [False, True])
def test_an_end_says_what_is_next(capsys: pytest.CaptureFixture[str], *, new_pods_wait: bool) -> None:
    """Also that new workloads wait where the API server places them on x86."""
    outcome = Outcome(nodes=(NodeProgress(node="x86-0", group="x86", state="drained"),), evicted=3)
    drain.print_table(outcome, (), (), (), dry_run=False, new_pods_wait=new_pods_wait)
    lines = " ".join(capsys.readouterr().out.split())
    assert "next: set the sizes of their node groups to 0 and run pulumi up" in lines
    assert ("until then, pods of new workloads stay pending" in lines) == new_pods_wait


def test_undo_says_which_nodes_take_pods_again(run: Run, cluster: FakeCluster) -> None:
    """Those of this stack's drain; the images' registries are not asked for it."""
    drained = node("x86", "amd64", unschedulable=True)
    drained["metadata"]["annotations"] = {
        ANNOTATION: NodeProgress(node="x86", state="drained", stack="archshift/dev").text
    }
    cluster.objects["/api/v1/nodes"] = [node("arm"), copy.deepcopy(drained)]
    assert run("drain", "--undo", cluster=cluster) == (0, "uncordoned: x86\n", "")
    cluster.objects["/api/v1/nodes"] = [node("arm"), drained]
    code, out, _ = run("drain", "--undo", "--json", cluster=cluster)
    assert (code, json.loads(out)) == (0, {"stack": "dev", "uncordoned": ["x86"]})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes=0"], "'0' is not a number of nodes or a share such as 10%"),
        (["--nodes=101%"], "'101%' is not a number of nodes or a share such as 10%"),
        (["--nodes=-1"], "'-1' is not a number of nodes or a share such as 10%"),
        (["--timeout=0"], "'0' is not a number of seconds"),
        (["--timeout=soon"], "'soon' is not a number of seconds"),
    ],
)
def test_a_command_line_that_does_not_do(
    capsys: pytest.CaptureFixture[str], run: Run, arguments: list[str], words: str
) -> None:
    """Exit code 4, and what is wrong."""
    with pytest.raises(SystemExit) as error:
        run("drain", *arguments)
    assert error.value.code == 4
    assert words in capsys.readouterr().err


def test_interrupted_it_says_how_things_stand(
    run: Run, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes stay cordoned: the line says so, and both ways on."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drain, "find_blockers", lambda **_: [])
    monkeypatch.setattr(drain, "drain", interrupted)
    assert run("drain", cluster=cluster) == (
        130,
        "",
        "archshift: interrupted; nodes stay cordoned: run archshift drain again to continue, or with --undo "
        "to uncordon them\n",
    )


@pytest.mark.parametrize(
    ("text", "nodes", "budget"), [("10%", 3, 1), ("10%", 40, 4), ("100%", 7, 7), ("3", 40, 3), ("10%", 0, 1)]
)
def test_a_share_of_the_nodes_is_one_at_least(text: str, nodes: int, budget: int) -> None:
    """A tenth of three nodes is one node."""
    assert drain.nodes_at_a_time(text, nodes) == budget
