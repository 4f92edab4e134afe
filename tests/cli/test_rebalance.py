"""``archshift rebalance``: what it prints, and with which exit code. The lab moves real pods."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from archshift.cli import updates
from archshift.cli.commands import rebalance
from archshift.cluster.lease import LEASES, NAMESPACE, Lease
from archshift.cluster.model import Inventory, Trouble
from archshift.common.errors import ArchshiftError
from archshift.plan.deletion_costs import Proportion
from archshift.plan.model import Plan, PlannedWorkload
from archshift.survey import Survey
from tests.build import Json, deployment, inventory, node, planned, pod
from tests.fakes import PODS, Clock, FakeCluster, FakePulumi, Run

CARTS = "/apis/apps/v1/namespaces/shop/deployments"
CART = "shop/Deployment/cart"
PODS_OF_SHOP = "/api/v1/namespaces/shop/pods/"
LEASE = LEASES.collection(NAMESPACE)


class Shop(FakeCluster):
    """Six carts; an evicted one comes back on the other side."""

    def __init__(self, graviton: int) -> None:
        super().__init__({"/api/v1/nodes": [node("arm"), node("x86", "amd64")]})
        self.where = {f"cart-{number}": "arm" if number < graviton else "x86" for number in range(6)}

    def before(self, verb: str, path: str) -> None:
        """Show the pods as they are."""
        del verb, path
        status = {"observedGeneration": 1, "replicas": 6, "updatedReplicas": 6, "availableReplicas": 6}
        self.objects[CARTS] = [
            {"metadata": {"name": "cart", "generation": 1}, "spec": {"replicas": 6}, "status": status}
        ]
        self.objects[PODS] = [
            pod(name, where, owner=("ReplicaSet", "cart-5d8f"), labels={"pod-template-hash": "5d8f"})
            for name, where in self.where.items()
        ]

    def terminate(self, pod: Json) -> None:
        """Place the successor."""
        self.where[f"{pod['metadata']['name']}-again"] = (
            "arm" if self.where.pop(pod["metadata"]["name"]) == "x86" else "x86"
        )


def plan(graviton: int, **options: Any) -> Plan:
    """Half of the carts belong on Graviton."""
    row = planned("cart", 6, 3, graviton=graviton, **{"applied": True, "autoscaled": True, **options})
    kept = {CART: Proportion(3, 6)}
    return Plan(arm_ratio=0.5, workloads=(row,), kept_shares=kept)


@pytest.fixture
def shop(pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """One cart is on Graviton, and three belong there."""
    pulumi.configure(arm_ratio="0.5", platform="lab")
    found = Shop(1)
    Clock(monkeypatch)
    # This clock moves only with sleeps, and no thread renews a Lease by it.
    monkeypatch.setattr("archshift.cluster.lease.SECONDS", 1e9)
    monkeypatch.setattr(rebalance, "connect", lambda _context: found)

    def survey(*_: object, **__: object) -> Survey:
        there = sum(where == "arm" for where in found.where.values())
        known: Inventory = inventory(deployment(replicas=6), graviton={"cart": there})
        return Survey(inventory=known, evidence=None, plan=plan(there), needs=None)

    monkeypatch.setattr(rebalance, "survey", survey)
    return found


def test_a_dry_run_as_json_has_the_promised_schema(run: Run, shop: Shop) -> None:
    """Scripts read exactly these keys, and nothing is changed."""
    code, out, _ = run("rebalance", "--dry-run", "--json")
    assert (code, shop.evicted, shop.patches) == (3, [], [])
    assert json.loads(out) == {
        "dry_run": True,
        "evicted": 0,
        "exact": False,
        "workloads": [
            {
                "workload": CART,
                "replicas": 6,
                "wanted": 3,
                "graviton": 1,
                "near": False,
                "before": 1,
                "surplus": 2,
                "moves": 2,
                "reason": "",
            }
        ],
        "deletion_costs": {"set": 6, "given_back": 0, "problems": {}},
    }


def test_a_dry_run_for_people(run: Run, shop: Shop) -> None:
    code, out, _ = run("rebalance", "--dry-run", "--max-pods=1")
    assert (code, shop.evicted) == (3, [])
    assert [" ".join(line.split()) for line in out.splitlines() if line] == [
        "WORKLOAD PODS WANTED BEFORE MOVES",
        f"{CART} 6 3 1 1 --max-pods permits no more evictions",
        "6 pods would get another deletion cost",
        "1 pod would be evicted",
    ]


def test_exactly_the_surplus_moves_and_the_costs_are_renewed(run: Run, shop: Shop) -> None:
    """Two evictions, and a cost for each pod."""
    code, out, _ = run("rebalance")
    managers = [manager for path, *_, manager in shop.patches if path.startswith(PODS_OF_SHOP)]
    assert (code, len(shop.evicted), managers) == (0, 2, ["archshift/dev/deletion-costs"] * 6)
    assert [" ".join(line.split()) for line in out.splitlines() if line] == [
        "WORKLOAD PODS WANTED BEFORE NOW",
        f"{CART} 6 3 1 3 2 from x86 to Graviton",
        "6 pods got another deletion cost",
        "2 pods evicted; every workload is exact",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pipeline_that_is_cancelled_ends_the_command_in_order(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """What is open is closed, such as entries that hold only while pods move."""
    closed = []

    def move_pods(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            closed.append(number)

    monkeypatch.setattr(rebalance, "move_pods", move_pods)
    code, _, err = run("rebalance")
    assert (code, closed, shop.evicted) == (130, [number], [])
    assert "run archshift rebalance again to continue" in err


def test_entries_that_a_killed_rebalance_left_are_set_back_first(
    run: Run, shop: Shop, pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan says what is still wanted, and the next one is made after that. A dry run writes nothing."""
    pulumi.configure(arm_ratio="0.5", platform="lab", placement="admission")
    order = []
    survey = rebalance.survey  # type: ignore[attr-defined]

    def set_back_entries(cluster: Shop, label: str, planned: dict[str, str]) -> dict[str, str]:
        order.append(label)
        assert cluster is shop
        assert planned == {CART: ""}
        return {CART: "", "shop/Deployment/web": "no"}

    def seen(*given: Any, **named: Any) -> Survey:
        order.append("survey")
        return survey(*given, **named)

    monkeypatch.setattr(rebalance, "set_back_entries", set_back_entries)
    monkeypatch.setattr(rebalance, "survey", seen)
    run("rebalance", "--dry-run")
    assert order == ["survey"]
    _, _, err = run("rebalance")
    assert order[1:4] == ["survey", "dev", "survey"]
    assert f"{CART}: its entry of a rebalance that was killed was set back\n" in err
    assert "shop/Deployment/web: its entry of a rebalance that was killed could not be set back: no\n" in err


def test_nodes_that_come_up_on_demand_come_before_the_first_eviction(
    run: Run, shop: Shop, pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A placeholder for each pod that moves. Without a node, no pod goes."""
    pools = {"x86": {"instance_types": ["m6i.large"], "limits": {"cpu": 9}}, "arm": {"twin_of": "x86"}}
    pulumi.configure(arm_ratio="0.5", platform="lab", provisioner="karpenter", node_groups=json.dumps(pools))
    asked: list[tuple[str, str, int, str]] = []

    def bring_up_nodes(_: Shop, requests: Any, stack: str) -> None:
        asked.extend((request.workload.key, request.side, request.pods, stack) for request in requests)
        assert shop.evicted == []
        if len(asked) == 1:
            raise ArchshiftError("no Graviton node came up", "check the limits")

    monkeypatch.setattr(rebalance, "bring_up_nodes", bring_up_nodes)
    code, _, err = run("rebalance")
    assert "new nodes: no pod moves: no Graviton node came up" in err
    assert (code, shop.evicted, asked) == (3, [], [(CART, "arm64", 2, "dev")])
    assert run("rebalance")[0] == 0
    assert len(shop.evicted) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_interrupt_the_end(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A runner sends several within seconds."""
    closed, before = [], signal.getsignal(signal.SIGTERM)

    def move_pods(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)
            closed.append(shop.evicted)

    monkeypatch.setattr(rebalance, "move_pods", move_pods)
    assert run("rebalance")[0] == 130
    assert closed == [[]]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_limit_of_pods_is_kept(run: Run, shop: Shop) -> None:
    """The next run goes on, so it is not exact yet."""
    code, out, _ = run("rebalance", "--max-pods=1", "--json")
    assert (code, len(shop.evicted), json.loads(out)["evicted"]) == (3, 1, 1)
    assert run("rebalance", "--max-pods=1")[0] == 0
    assert len(shop.evicted) == 2


def rows(**options: Any) -> PlannedWorkload:
    return plan(1, **options).workloads[0]


def test_a_workload_that_only_an_update_brings_right_is_named(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Survey(
        inventory=inventory(deployment(replicas=6)),
        evidence=None,
        plan=plan(1, applied=False),
        needs=None,
    )
    monkeypatch.setattr(rebalance, "survey", lambda *_, **__: found)
    code, out, _ = run("rebalance")
    assert (code, shop.evicted) == (3, [])
    assert "its placement is not what the plan wants; run pulumi up" in out
    assert out.splitlines()[-1] == "0 pods evicted; 1 workload not exact"


def test_trouble_has_the_exit_code_of_status(run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pending pod of a workload that archshift places."""
    row = planned("cart", 6, 3, graviton=3, applied=True, entry="3 of 6 on arm64")
    trouble = {CART: Trouble(pending=1, words="0/2 nodes are available")}
    found = Survey(
        inventory=inventory(deployment(replicas=6)),
        evidence=None,
        plan=Plan(arm_ratio=0.5, workloads=(row,), troubles=trouble),
        needs=None,
    )
    monkeypatch.setattr(rebalance, "survey", lambda *_, **__: found)
    code, out, _ = run("rebalance")
    assert (code, shop.evicted) == (5, [])
    assert "0/2 nodes are available" in out


@pytest.mark.parametrize("number", ["0", "-1", "all", ""])
def test_an_invalid_limit_is_refused(run: Run, shop: Shop, number: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("rebalance", f"--max-pods={number}")
    assert (ended.value.code, shop.evicted) == (4, [])


# --- while an update is under way ----------------------------------------------------------------

REFUSED = (
    "archshift: an update of the stack dev is under way; run archshift rebalance after it; if it was "
    "killed, run pulumi cancel first\n"
)


def answers(monkeypatch: pytest.MonkeyPatch, stacks: Any, whoami: Any) -> None:
    """Let the engine answer."""
    monkeypatch.setattr(
        updates, "pulumi", lambda _, *command: json.dumps(stacks if "ls" in command else whoami)
    )


def test_nothing_moves_while_the_backend_shows_an_update(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulumi Cloud does. Another stack's update is no reason."""
    cloud = {"url": "https://app.pulumi.com/org"}
    answers(monkeypatch, [{"name": "org/dev", "updateInProgress": True}], cloud)
    assert run("rebalance") == (1, "", REFUSED)
    assert shop.evicted == []
    answers(monkeypatch, [{"name": "other", "updateInProgress": True}, {"name": "dev"}], cloud)
    assert run("rebalance")[0] == 0


def test_nothing_moves_while_a_state_in_a_folder_is_locked(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another stack's lock is no reason."""
    answers(monkeypatch, [{"name": "dev"}], {"url": f"file://{tmp_path}"})
    locks = tmp_path / ".pulumi" / "locks" / "organization" / "archshift"
    for stack in ("other", "dev"):
        (locks / stack).mkdir(parents=True)
        (locks / stack / "5e2b.json").write_text("{}")
        code, _, err = run("rebalance")
        assert (code, err) == ((1, REFUSED) if stack == "dev" else (0, err))
    assert len(shop.evicted) == 2


def test_a_second_rebalance_moves_nothing_while_the_first_one_lives(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence. A dry run needs no Lease."""
    lease = Lease(shop, "dev", "archshift rebalance on ci")
    lease.take(print)
    assert run("rebalance", "--dry-run")[0] == 3
    sleep = time.sleep

    def meanwhile(seconds: float) -> None:
        sleep(seconds)
        lease.renew()
        shop.objects[LEASE][0]["spec"]["renewTime"] += "9"

    monkeypatch.setattr("time.sleep", meanwhile)
    code, _, err = run("rebalance")
    assert (code, shop.evicted) == (1, [])
    assert "archshift rebalance on ci moves pods of the same stack now" in err
    lease.give_back()
    assert run("rebalance")[0] == 0


def test_a_rebalance_that_lost_its_lease_evicts_nothing_more(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after a pause of its process: another one may move the same pods."""
    measure = rebalance.measure  # type: ignore[attr-defined]

    monkeypatch.setattr("archshift.cluster.lease.SECONDS", 30)

    def stands_still(*given: Any, **named: Any) -> Any:
        found = measure(*given, **named)
        time.sleep(60)
        return found

    monkeypatch.setattr(rebalance, "measure", stands_still)
    code, _, err = run("rebalance")
    assert (code, shop.evicted) == (1, [])
    assert "the rebalance stopped, because another command may hold its Lease now; run archshift" in err
