"""The entries by which the API server places new pods, for each namespace of the discovery. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from archshift.cluster.entries import GRAVITON_LABELS, LEFT_ALONE, NO_ZONES, OTHERS, Entry, entry_key, is_key
from archshift.cluster.model import Discovery
from archshift.cluster.scheduling import meets
from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABELS, ARCHITECTURE_LABEL, HOSTNAME_LABEL
from archshift.nodes.after_update import count_zones
from archshift.nodes.groups import Node
from archshift.plan.model import Plan

MOST_BYTES: Final = 1024 * 1024
"""The most bytes of a namespace's entries. etcd takes 1.5 MiB, and a policy has more than its entries."""

MOST_LABELS: Final = 100
"""The most pairs in ``GRAVITON_LABELS``. Each admission of a pod without an entry reads all of them."""

_OF_ONE_NODE: Final = (*ARCH_LABELS, ARCHITECTURE_LABEL, HOSTNAME_LABEL, "alpha.eksctl.io/instance-id")
"""Labels that are never among ``GRAVITON_LABELS``: those of the architecture, which the policy knows, and
those with another value on each node."""


def entries_of(
    plan: Plan,
    discovery: Discovery,
    possible: Sequence[Node],
    *,
    namespaces: Collection[str],
    images_checked: bool,
    live: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, str]]:
    """Return the entries of each namespace.

    Args:
        plan: A plan of ``placement: admission``.
        discovery: Which workloads archshift looks at.
        possible: The nodes that pods may land on after the update.
        namespaces: The namespaces of the cluster that take new objects.
        images_checked: Whether images are checked, so that a missing proof means something.
        live: The live data.

    Raises:
        ArchshiftError: The entries of a namespace are too large for a policy.
    """
    wanted: dict[str, dict[str, str]] = {name: {} for name in discovery.namespaces}
    for row in plan.workloads:
        if row.entry:
            wanted.setdefault(row.namespace, {})[entry_key(row.kind, row.name)] = row.entry
    for key in discovery.exclude:
        namespace, kind, name = key.split("/")
        if discovery.covers(namespace) and is_key(entry_key(kind, name)):
            wanted.setdefault(namespace, {})[entry_key(kind, name)] = LEFT_ALONE
    live = live or {}
    known = " ".join(dict.fromkeys(data.get(GRAVITON_LABELS, "") for _, data in sorted(live.items())))
    common = dict(_common(discovery, possible, images_checked, known.split()))
    data = {
        namespace: dict(sorted({**entries, **common}.items()))
        for namespace, entries in sorted(wanted.items())
        if namespace in namespaces
    }
    for namespace, entries in data.items():
        _check_size(namespace, entries)
    return data


def _common(
    discovery: Discovery, possible: Sequence[Node], images_checked: bool, known: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield what all namespaces have in common.

    Args:
        discovery: Which workloads archshift looks at.
        possible: The nodes that pods may land on after the update.
        images_checked: Whether images are checked.
        known: The pairs of ``GRAVITON_LABELS`` that are live.
    """
    if not count_zones(possible):
        yield NO_ZONES, "true"
    # A label selector leaves other teams' workloads in the same namespaces. They have no entry, and archshift
    # must not place them. Without a check of images nobody proves that a new workload may leave x86 later.
    # And where no x86 node is left, a pin to x86 would keep the pods pending.
    x86 = any(node.architecture == AMD64 for node in possible)
    if x86 and images_checked and not discovery.label_selector:
        yield OTHERS, str(Entry(0, 1))
        if pairs := graviton_labels(possible, known):
            yield GRAVITON_LABELS, " ".join(pairs)


def graviton_labels(nodes: Sequence[Node], known: Iterable[str] = ()) -> list[str]:
    """Return the labels that only Graviton nodes have, as sorted ``key=value`` pairs.

    Pairs that were known stay as long as no x86 node has them. Otherwise the policies would change with
    each instance type that an autoscaler brings and takes away.

    Args:
        nodes: The nodes that pods may land on.
        known: The live pairs.
    """
    on_graviton: Counter[tuple[str, str]] = Counter()
    on_x86: set[tuple[str, str]] = set()
    for node in nodes:
        if node.architecture == ARM64:
            on_graviton.update(_pairs(node))
        elif node.architecture == AMD64:
            on_x86.update(_pairs(node))
    # What a node to come may choose, or what nobody knows of it yet, counts as well.
    to_come = [
        node
        for node in nodes
        if node.architecture == AMD64 and (node.choices or node.variants or node.unknown)
    ]
    often = [pair for pair, _ in sorted(on_graviton.items(), key=lambda item: (-item[1], item[0]))]
    before = [(key, value) for key, equals, value in (text.partition("=") for text in known) if equals]
    found: dict[str, None] = {}
    for key, value in (*often, *before):
        if (key, value) in on_x86 or any(meets(node, {key: value}, None) for node in to_come):
            continue
        found[f"{key}={value}"] = None
        if len(found) == MOST_LABELS:
            break
    return sorted(found)


def _pairs(node: Node) -> Iterator[tuple[str, str]]:
    for labels in (node.labels, *node.variants):
        for key, value in labels.items():
            if key not in _OF_ONE_NODE:
                yield key, value
    for key, values in node.choices.items():
        for value in values:
            yield key, value


def _check_size(namespace: str, data: Mapping[str, str]) -> None:
    size = sum(len(key) + len(text) for key, text in data.items())
    if size > MOST_BYTES:
        raise ArchshiftError(
            f"namespace {namespace}: its {len(data):,} entries for placement have {size:,} bytes; a "
            f"policy holds {MOST_BYTES:,}",
            "leave workloads out with archshift:workloads.exclude, or set archshift:placement: patches",
        )
