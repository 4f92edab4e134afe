"""Measures how shares bend when Karpenter's nodes are lost or consolidated, and what a rebalance costs.

Run ``python -m bench.lost_nodes [RATIO]``. A new lab with the real Karpenter gets a NodePool for each side
and the workloads of ``bench.autoscaling``, each with an autoscaler, after the step to the ratio (0.8). Then:

- **lost**: a third of the larger side's nodes and all their pods are gone at once, as with a zone or with
  spot capacity. Karpenter brings up nodes for the successors.
- **interrupted**: Karpenter ends a third of that side's nodes in order, as at a spot interruption: it evicts
  their pods.
- **consolidated**: the load falls to a half, and Karpenter removes and replaces nodes until nothing changes
  for half a minute.

After each, a rebalance moves the surplus. The machines and pods are simulated. Karpenter, autoscalers,
scheduler and evictions are real.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from archshift.actions.placeholders import bring_up_nodes, needed_after
from archshift.actions.rollouts import BringUpNodes
from archshift.cluster.client import Cluster, connect
from archshift.cluster.model import Inventory
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABEL, ZONE_LABEL
from archshift.nodes.groups import side_taint
from archshift.nodes.node_pools import API_VERSION
from archshift.plan.model import PlannedWorkload
from bench._lab import running_lab
from lab.control_plane import CONTEXT, Lab, LabError
from lab.day import STACK, Day, Load, loads
from lab.karpenter import ZONES

RULE: Final = "rule"
_QUIET_SECONDS: Final = 30
_LONGEST: Final = 300
_TYPES: Final = {AMD64: "m6i.large", ARM64: "m6g.large"}


class KarpenterDay(Day):
    """A day whose nodes Karpenter makes."""

    def make_nodes(self, *, even: bool) -> None:
        """Make a NodePool for each side instead of nodes."""
        del even
        for side in (ARM64, AMD64):
            self.api.create(f"/apis/{API_VERSION}/nodepools", _pool(side))
            # An update brings up the first node of a side with placeholders. This pod does it here.
            self.api.create("/apis/apps/v1/namespaces/default/replicasets", _anchor(side))

    def bring_up(self, inventory: Inventory) -> BringUpNodes:
        """Return what creates placeholders, as an update and a rebalance do."""

        def bring_up(cluster: Cluster, rows: Sequence[PlannedWorkload]) -> None:
            bring_up_nodes(cluster, needed_after(cluster, rows, inventory), STACK)

        return bring_up

    def share(self) -> tuple[float, float, int]:
        """Return how far the fleet is off its share, by how many pods a workload at most, and the pods."""
        counts = self.counts()[RULE]
        pods = {load.name: sum(counts[load.name].values()) for load in self.own}
        off = {name: counts[name][ARM64] - self.ratio * number for name, number in pods.items()}
        total = sum(pods.values())
        return sum(off.values()) / total, max(map(abs, off.values())), total

    def uids(self) -> set[str]:
        """Return the uids of the pods."""
        return {item["metadata"]["uid"] for item in self.api.list(f"/api/v1/namespaces/{RULE}/pods")}

    def nodes(self, side: Architecture) -> list[str]:
        """Return the names of the nodes of a side."""
        return sorted(
            item["metadata"]["name"]
            for item in self.api.list("/api/v1/nodes")
            if item["metadata"]["labels"].get(ARCH_LABEL) == side
            and not item["metadata"].get("deletionTimestamp")
        )


def _pool(side: Architecture) -> dict[str, Any]:
    taint = side_taint(side)
    requirements = [
        {"key": ARCH_LABEL, "operator": "In", "values": [side]},
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [_TYPES[side]]},
        {"key": ZONE_LABEL, "operator": "In", "values": [*ZONES]},
    ]
    reference = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
    return {
        "apiVersion": API_VERSION,
        "kind": "NodePool",
        "metadata": {"name": side},
        "spec": {
            "template": {
                "metadata": {"labels": {"pool": RULE}},
                "spec": {
                    "nodeClassRef": reference,
                    "requirements": requirements,
                    "taints": [{"key": taint.key, "effect": taint.effect}],
                    "expireAfter": "Never",
                },
            },
            "disruption": {
                "consolidationPolicy": "WhenEmptyOrUnderutilized",
                "consolidateAfter": "5s",
                "budgets": [{"nodes": "50%"}],
            },
        },
    }


def _anchor(side: Architecture) -> dict[str, Any]:
    labels = {"app": f"anchor-{side}"}
    container = {
        "name": "anchor",
        "image": "registry.example/app:1",
        "resources": {"requests": {"cpu": "100m"}},
    }
    spec = {"nodeSelector": {ARCH_LABEL: side, "pool": RULE}, "containers": [container]}
    return {
        "metadata": {"name": labels["app"]},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def quiet(look: Callable[[], object], what: str) -> None:
    """Wait until a value has not changed for a while."""
    deadline, since, before = time.monotonic() + _LONGEST, time.monotonic(), look()
    while time.monotonic() - since < _QUIET_SECONDS:
        time.sleep(1)
        now = look()
        if now != before:
            since, before = time.monotonic(), now
        if time.monotonic() > deadline:
            print(f"    {what} did not come to rest in {_LONGEST} s", flush=True)
            return


def lose(made: KarpenterDay, lab: Lab, names: list[str], *, at_once: bool) -> None:
    """Lose nodes: at once with their pods, or in order as at an interruption."""
    claims = [
        item["metadata"]["name"]
        for item in made.api.list(f"/apis/{API_VERSION}/nodeclaims")
        if (item.get("status") or {}).get("nodeName") in names
    ]
    lab.kubectl("delete", "nodeclaims", *claims, "--wait=false")
    if at_once:
        gone = json.dumps({"metadata": {"finalizers": None}})
        for kind, each in (("nodeclaims", claims), ("nodes", names)):
            for name in each:
                # Karpenter may have removed an empty one already.
                with suppress(LabError):
                    lab.kubectl("patch", kind, name, "--type=merge", f"--patch={gone}")
        lab.kubectl("delete", "nodes", *names, "--ignore-not-found", "--wait=false")
        pods = [
            item["metadata"]["name"]
            for item in made.api.list(f"/api/v1/namespaces/{RULE}/pods")
            if item["spec"].get("nodeName") in names
        ]
        lab.kubectl(
            "delete",
            "pods",
            *pods,
            f"--namespace={RULE}",
            "--force",
            "--grace-period=0",
            "--ignore-not-found",
        )


def report(made: KarpenterDay, what: str) -> None:
    """Print the bend, rebalance, and print what that cost."""
    made.settle()
    quiet(lambda: (made.nodes(ARM64), made.nodes(AMD64), made.uids()), what)
    made.settle()
    fleet, worst, pods = made.share()
    nodes = f"{len(made.nodes(ARM64))} + {len(made.nodes(AMD64))} nodes"
    print(f"  {what}: {pods} pods on {nodes}; fleet off by {fleet:+.3f}, worst {worst:.1f} pods", flush=True)
    before = made.uids()
    left = made.update(RULE)
    new = len(made.uids() - before)
    made.settle()
    fleet, worst, _ = made.share()
    print(
        f"    rebalance: {new} restarts; fleet off by {fleet:+.3f}, worst {worst:.1f} pods; not exact: "
        f"{', '.join(left) or 'none'}",
        flush=True,
    )


def measure(ratio: float, own: list[Load], lab: Lab, made: KarpenterDay) -> None:
    """Take the step, then lose, interrupt and consolidate nodes."""
    left = made.prepare()[RULE]
    print(f"ratio {ratio}: not exact after the step: {', '.join(left) or 'none'}", flush=True)
    report(made, "after the step")
    larger: Architecture = ARM64 if ratio >= 0.5 else AMD64
    for what, at_once in (("lost", True), ("interrupted", False)):
        nodes = made.nodes(larger)
        lose(made, lab, nodes[: max(1, round(len(nodes) / 3))], at_once=at_once)
        time.sleep(5)
        report(made, what)
    for load in own:
        made.metrics.loads[load.name] = max(load.bounds[0], round(load.pods / 2))
    report(made, "consolidated")


def main() -> None:
    """Run it, and print the figures."""
    ratio = float(next((text for text in sys.argv[1:] if not text.startswith("--")), "0.8"))
    own = loads()
    with running_lab(karpenter=True) as (lab, folder), connect(CONTEXT, lab.kubeconfig) as api:
        made = KarpenterDay(api, ratio, own, (RULE,))
        with made.metrics.serve(api, folder):
            measure(ratio, own, lab, made)


if __name__ == "__main__":
    main()
