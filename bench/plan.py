"""Measures only the plan: CPU seconds for 1,000 workloads with 10,000 pods, and the growth."""

import time

from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.common.resources import Resources
from archshift.nodes.groups import Node
from archshift.plan.planner import make_plan


def inventory(workloads: int, pods_each: int = 10, nodes: int = 200) -> Inventory:
    """Return a fleet of equal workloads, half of them with a selector and an affinity of their own."""
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]}
    fleet = {}
    for index in range(workloads):
        own = (
            {
                "node-selector": {"disk": "ssd"},
                "required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]},
            }
            if index % 2
            else {}
        )
        workload = Workload(
            namespace=f"team-{index % 20}",
            kind="Deployment",
            name=f"web-{index}",
            replicas=pods_each,
            template=Template(spec=own, selector={"matchLabels": {"app": f"web-{index}"}}),
            requests=Resources(100, 128 * 1024**2),
        )
        fleet[workload.key] = workload
    return Inventory(
        workloads=fleet,
        nodes=tuple(
            Node(
                name=f"node-{index}",
                labels={
                    "kubernetes.io/arch": "arm64" if index % 2 else "amd64",
                    "topology.kubernetes.io/zone": "ab"[index % 2],
                    "disk": "ssd",
                },
                millicpu=15_890,
                memory=60 * 1024**3,
                pods=110,
            )
            for index in range(nodes)
        ),
        pods={(key, "amd64"): pods_each for key in fleet},
    )


def main() -> None:
    """Measure and print."""
    print(f"{'workloads':>9} {'pods':>7} {'CPU s':>7} {'us a workload':>14}")
    for workloads in (100, 1_000, 5_000):
        fleet = inventory(workloads)
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            make_plan(arm_ratio=0.37, inventory=fleet)
            best = min(best, time.process_time() - started)
        print(f"{workloads:>9} {workloads * 10:>7} {best:>7.3f} {best / workloads * 1e6:>14.0f}")
    print("limit: 1 s for 1,000 workloads with 10,000 pods")


if __name__ == "__main__":
    main()
