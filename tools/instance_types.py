"""Makes archshift/nodes/instance_types.json from EC2's catalogue: `python -m tools.instance_types`.

The catalogue is the answer of EC2's DescribeInstanceTypes for all regions together. The test dependency
moto contains it. The table keeps only the values that matter for a Kubernetes node.
"""

import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

TABLE: Final = Path(__file__).resolve().parent.parent / "archshift" / "nodes" / "instance_types.json"

# The names that a kubelet reports. EC2's other two architectures are for macOS. EKS has no 32-bit image, so
# the few types that also run i386 count as amd64.
_ARCHITECTURES: Final = {"x86_64": "amd64", "arm64": "arm64"}

# The catalogue lacks types that AWS sells only in single zones:
# https://aws.amazon.com/ec2/instance-types/p6/. No public table has their network interfaces, so this uses
# 110 pods, the default of a kubelet.
_MISSING: Final[dict[str, tuple[str, int, int, int]]] = {"p6e-gb200.36xlarge": ("arm64", 144, 983040, 110)}


def read_catalogue() -> dict[str, Any]:
    """Return EC2's catalogue: type name to its description."""
    path = resources.files("moto") / "ec2" / "resources" / "instance_types.json.gz"
    catalogue: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return catalogue


def most_pods(network: Mapping[str, Any]) -> int:
    """Return how many pods the VPC CNI can give addresses to.

    The CNI uses only the default network card. The first address of each interface belongs to the node, and
    two pods use the host's network (https://docs.aws.amazon.com/eks/latest/userguide/choosing-instance-type.html).
    """
    card = network["NetworkCards"][network["DefaultNetworkCardIndex"]]
    return int(card["MaximumNetworkInterfaces"]) * (int(network["Ipv4AddressesPerInterface"]) - 1) + 2


def make_table(catalogue: Mapping[str, Any]) -> dict[str, Any]:
    """Return family to its architecture and sizes: vCPU, memory in MiB, maximum number of pods."""
    types = dict(_MISSING)
    for name, entry in catalogue.items():
        architectures = [a for a in entry["ProcessorInfo"]["SupportedArchitectures"] if a in _ARCHITECTURES]
        if architectures:
            types[name] = (
                _ARCHITECTURES[architectures[0]],
                entry["VCpuInfo"]["DefaultVCpus"],
                entry["MemoryInfo"]["SizeInMiB"],
                most_pods(entry["NetworkInfo"]),
            )
    families: dict[str, Any] = defaultdict(dict)
    for name, (architecture, *figures) in sorted(types.items(), key=lambda item: (item[1][1:3], item[0])):
        family, _, size = name.partition(".")
        if families[family].setdefault("architecture", architecture) != architecture:
            raise ValueError(f"{family} has types of both architectures, but the table allows one per family")
        families[family].setdefault("sizes", {})[size] = figures
    return dict(sorted(families.items()))


def write_table(table: Mapping[str, Any]) -> str:
    """Return the file's text, with a family per line, so that a diff shows each change."""
    lines = (
        f"  {json.dumps(family)}: {json.dumps(entry, separators=(',', ':'))}"
        for family, entry in table.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Write the table."""
    table = make_table(read_catalogue())
    TABLE.write_text(write_table(table))
    print(f"{TABLE.name}: {sum(len(entry['sizes']) for entry in table.values())} types", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
