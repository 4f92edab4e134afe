"""PromQL by workload and architecture. The rules record these expressions; the gate queries them.

Metrics of containers and of applications have no architecture. kube-state-metrics' ``kube_node_info`` has no
label for it either. So every expression joins a pod's metric to the pod's node, the node to its architecture,
and the pod through its ReplicaSet to its Deployment. Each right-hand side of a join is made unique first:
two replicas of kube-state-metrics export everything twice, and a plain join then fails as "many-to-many".

Results have the labels ``namespace``, ``workload`` (``namespace/Kind/name``, as everywhere in archshift) and
``arch`` (``arm64`` or ``amd64``).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Final

from archshift.common.architectures import AMD64, ARM64
from archshift.common.kubernetes import POD_OWNERS, REPLICA_SET_OWNERS, SYSTEM_NAMESPACES

NODE_ARCH: Final = "archshift:node_arch"
POD_ARCH: Final = "archshift:pod_arch"

_MACHINES: Final = {ARM64: "aarch64", AMD64: "x86_64"}
_CREATORS: Final = ("ReplicaSet", *POD_OWNERS)
_RESULT: Final = ("namespace", "workload", "arch")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppMetrics:
    """The names of the applications' own metrics; an empty name means that there is no such metric.

    Attributes:
        latency: The name of a classic histogram, without ``_bucket``.
        requests: The name of a counter of requests.
        errors: A label matcher that selects the failed ones among ``requests``.
    """

    latency: str = "http_request_duration_seconds"
    requests: str = "http_requests_total"
    errors: str = 'code=~"5.."'

    @property
    def errors_label(self) -> str:
        """The label in ``errors``."""
        return re.split(r"[=!]", self.errors, maxsplit=1)[0].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expressions:
    """Instant expressions over a cluster's raw series.

    Attributes:
        namespaces: Only these; empty means all but the system's.
        selector: Label matchers for every series, such as ``cluster="prod"`` if one Prometheus has several
            clusters; empty for none.
        metrics: The applications' metrics.
        over: The range of the rates in PromQL; it must contain two scrapes.
        recorded: Whether to use the recorded ``archshift:node_arch`` and ``archshift:pod_arch``. Otherwise
            every expression contains theirs, and no rule must be loaded.
    """

    namespaces: tuple[str, ...] = ()
    selector: str = ""
    metrics: AppMetrics = AppMetrics()
    over: str = "5m"
    recorded: bool = False

    # --- where pods are ---------------------------------------------------------------------

    def node_arch(self) -> str:
        """The architecture of every node, as 1 with ``node`` and ``arch``.

        It comes from the node's label if kube-state-metrics exports it. Otherwise it comes from the kernel's
        version, which ends in it on Amazon Linux, or from node-exporter if the host has the node's name.
        """
        label = "label_kubernetes_io_arch"
        by_label = [_label(self._nodes("kube_node_labels", f'{label}!=""'), "arch", label)]
        by_kernel = [
            _fixed(self._nodes("kube_node_info", f'kernel_version=~".+[.]{machine}"'), "arch", arch)
            for arch, machine in _MACHINES.items()
        ]
        by_uname = [
            _label(
                _fixed(self._nodes("node_uname_info", f'machine="{machine}"'), "arch", arch),
                "node",
                "nodename",
            )
            for arch, machine in _MACHINES.items()
        ]
        sources = [
            block("max by (node, arch)", "\nor\n".join(source)) for source in (by_label, by_kernel, by_uname)
        ]
        # For a few minutes a replaced node may have its old series beside its new one.
        return block("topk by (node)", "1,\n" + "\nor on (node)\n".join(sources))

    def nodes_without_arch(self) -> str:
        """The nodes whose architecture is unknown."""
        return f"max by (node) ({self._nodes('kube_node_info')})\nunless on (node)\n{self._node_arch()}"

    def pods(self, *creators: str) -> str:
        """The pods on nodes that have not ended, as 1 with ``namespace``, ``pod``, ``node`` and creator."""
        kinds = "|".join(creators or _CREATORS)
        wanted = self.where('node!=""', f'created_by_kind=~"{kinds}"')
        alive = self.where('phase=~"Pending|Running"')
        return block(
            "max by (namespace, pod, node, created_by_kind, created_by_name)",
            f"kube_pod_info{wanted}\nand on (namespace, pod, uid)\nkube_pod_status_phase{alive} == 1",
        )

    def pods_without_arch(self) -> str:
        """The number of pods on nodes whose architecture is unknown."""
        return block("count", f"{self.pods()}\nunless on (node)\n{self._node_arch()}")

    def pod_arch(self) -> str:
        """Every pod's workload and architecture, as 1 with ``namespace``, ``pod``, ``workload``, ``arch``."""
        owners = "kube_replicaset_owner" + self.where(_any_of("owner_kind", REPLICA_SET_OWNERS))
        by_replica_set = (
            f"{_label(self.pods('ReplicaSet'), 'replicaset', 'created_by_name')}\n"
            "* on (namespace, replicaset) group_left (owner_kind, owner_name)\n"
            f"max by (namespace, replicaset, owner_kind, owner_name) ({owners})"
        )
        direct = self.pods(*POD_OWNERS)
        for label, source in (("owner_name", "created_by_name"), ("owner_kind", "created_by_kind")):
            direct = _label(direct, label, source)
        owned = block(
            "label_join",
            f'{by_replica_set}\nor\n{direct},\n"workload", "/", "namespace", "owner_kind", "owner_name"',
        )
        # A StatefulSet's pod that moved keeps its name: for one scrape both of its series may exist.
        return block(
            "topk by (namespace, pod)",
            "1,\n"
            + block(
                "max by (namespace, pod, workload, arch)",
                f"{owned}\n* on (node) group_left (arch)\n{self._node_arch()}",
            ),
        )

    def workload_pods(self) -> str:
        """The number of a workload's pods."""
        return block(f"count by ({', '.join(_RESULT)})", self._pod_arch())

    # --- of figures -------------------------------------------------------------------------

    def where(self, *matchers: str) -> str:
        """Return the label matchers for series of pods: namespaces, selector and these."""
        listed = "|".join(self.namespaces or SYSTEM_NAMESPACES)
        operator = "=~" if self.namespaces else "!~"
        return _selector(self.selector, f'namespace{operator}"{listed}"', *matchers)

    def by_workload(self, aggregation: str, by_pod: str, by: tuple[str, ...] = ()) -> str:
        """Aggregate an expression by namespace and pod to workload and architecture.

        Args:
            aggregation: An operator such as ``sum`` or ``avg``.
            by_pod: The expression.
            by: More labels to keep.
        """
        return block(
            f"{aggregation} by ({', '.join((*_RESULT, *by))})",
            f"{by_pod}\n* on (namespace, pod) group_left (workload, arch)\n{self._pod_arch()}",
        )

    def of_containers(self, aggregation: str, metric: str, *, rate: bool) -> str:
        """Sum a metric of containers by pod, then aggregate it to workload and architecture.

        Args:
            aggregation: An operator such as ``sum`` or ``avg``.
            metric: The metric's name.
            rate: Whether to take the rate of a counter.
        """
        # A series without a container is a sum of a cgroup; POD is the container that holds the network.
        series = metric + self.where('container!=""', 'container!="POD"')
        values = f"rate({series}[{self.over}])" if rate else series
        # The maximum, because two jobs may scrape one kubelet.
        by_pod = block("sum by (namespace, pod)", f"max by (namespace, pod, container) ({values})")
        return self.by_workload(aggregation, by_pod)

    def of_applications(self, metric: str, matcher: str = "", by: tuple[str, ...] = ()) -> str:
        """Sum the rate of a pods' counter to workload and architecture.

        Args:
            metric: The counter's name.
            matcher: Selects series by their labels; empty for all.
            by: More labels to keep.
        """
        labels = ", ".join(("namespace", "pod", *by))
        where = self.where('pod!=""', matcher)
        return self.by_workload("sum", f"sum by ({labels}) (rate({metric}{where}[{self.over}]))", by)

    # --- parts ------------------------------------------------------------------------------

    def _nodes(self, metric: str, *matchers: str) -> str:
        return metric + _selector(self.selector, *matchers)

    def _node_arch(self) -> str:
        return NODE_ARCH if self.recorded else self.node_arch()

    def _pod_arch(self) -> str:
        return POD_ARCH if self.recorded else self.pod_arch()


def workloads_matcher(keys: Iterable[str]) -> str:
    """Return a matcher for these workloads."""
    # The dot is the only character of names in Kubernetes that is special in a regular expression.
    return 'workload=~"' + "|".join(key.replace(".", "[.]") for key in sorted(keys)) + '"'


def _selector(*matchers: str) -> str:
    text = ", ".join(filter(None, matchers))
    return f"{{{text}}}" if text else ""


def _any_of(label: str, values: Sequence[str]) -> str:
    return f'{label}="{values[0]}"' if len(values) == 1 else f'{label}=~"{"|".join(values)}"'


def block(function: str, body: str) -> str:
    """Return a call with its body on lines of its own."""
    return f"{function} (\n{indent(body, '  ')}\n)".lstrip()


def _label(expression: str, label: str, source: str) -> str:
    return _call("label_replace", expression, f'"{label}", "$1", "{source}", "(.+)"')


def _fixed(expression: str, label: str, value: str) -> str:
    return _call("label_replace", expression, f'"{label}", "{value}", "", ""')


def _call(function: str, expression: str, arguments: str) -> str:
    if "\n" in expression:
        return block(function, f"{expression},\n{arguments}")
    return f"{function}({expression}, {arguments})"
