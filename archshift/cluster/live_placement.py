"""What places pods at admission in the cluster now: the policy, its binding and the ConfigMaps of a stack."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.entries import config_map_name
from archshift.cluster.kinds import Resource
from archshift.common.errors import ArchshiftError

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than the rest, and here it is only an annotation.
    from archshift.cluster.client import Cluster

POLICY_KIND: Final = "MutatingAdmissionPolicy"
POLICIES: Final = Resource(api_version="admissionregistration.k8s.io/v1", plural="mutatingadmissionpolicies")
BINDINGS: Final = Resource(
    api_version="admissionregistration.k8s.io/v1", plural="mutatingadmissionpolicybindings"
)
CONFIG_MAPS: Final = Resource(api_version="v1", plural="configmaps")
_NAMESPACES: Final = Resource(api_version="v1", plural="namespaces")

STEP_ANNOTATION: Final = "archshift/step"
"""On each of these objects: when archshift last applied it, moved pods by it, or repaired it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlacement:
    """What places pods at admission now.

    Attributes:
        policy: The stack's policy, as the API server returns it; None if it is missing.
        binding: The policy's binding; None if it is missing.
        data: Namespace to the data of the stack's ConfigMap there.
        steps: Namespace to when archshift last changed something by that ConfigMap (``STEP_ANNOTATION``).
        namespaces: The namespaces that take new objects.
    """

    policy: Mapping[str, Any] | None = None
    binding: Mapping[str, Any] | None = None
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()

    @property
    def since(self) -> str:
        """Since when it places pods, as the API server writes times; empty if it does not."""
        if not self.policy or not self.binding:
            return ""
        return max(str(each["metadata"].get("creationTimestamp", "")) for each in (self.policy, self.binding))

    @property
    def entries(self) -> dict[str, str]:
        """The key of a workload to its entry."""
        return {
            f"{namespace}/{kind}/{name}": text
            for namespace, data in self.data.items()
            for kind, dot, name in (key.partition(".") for key in data)
            if dot and (text := data[f"{kind}.{name}"]) and kind[:1].isupper()
        }


def serves_placement(cluster: "Cluster") -> bool:
    """Return whether the API server can place pods at admission.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return cluster.serves(POLICIES.api_version, POLICY_KIND)


def check_served(cluster: "Cluster") -> None:
    """Check that the API server can place pods at admission.

    Raises:
        ArchshiftError: It cannot, or the cluster cannot be read.
    """
    if not serves_placement(cluster):
        version = cluster.get("/version").get("gitVersion") or "of an unknown version"
        raise ArchshiftError(
            f"archshift:placement: admission needs {POLICY_KIND} in {POLICIES.api_version}, which Kubernetes "
            f"1.36 has; this API server is {version} and does not serve it",
            "set archshift:placement: patches, or upgrade the cluster",
        )


def read_live_placement(cluster: "Cluster", stack_label: str) -> LivePlacement:
    """Read what a stack's placement at admission is now.

    Args:
        cluster: The connection.
        stack_label: The stack, as ``stack_label`` writes it.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    name = config_map_name(stack_label)
    # A right to one name is enough for a list with this field selector.
    named = {"fieldSelector": f"metadata.name={name}"}
    config_maps = {
        item["metadata"]["namespace"]: item for item in cluster.list(CONFIG_MAPS.collection(), **named)
    }
    return LivePlacement(
        policy=next(iter(cluster.list(POLICIES.collection(), **named)), None),
        binding=next(iter(cluster.list(BINDINGS.collection(), **named)), None),
        data={namespace: item.get("data") or {} for namespace, item in config_maps.items()},
        steps={namespace: step_of(item) for namespace, item in config_maps.items()},
        namespaces=frozenset(
            item["metadata"]["name"]
            for item in cluster.list(_NAMESPACES.collection())
            # A namespace that is being deleted takes no new objects.
            if not item["metadata"].get("deletionTimestamp")
        ),
    )


def step_of(item: Mapping[str, Any]) -> str:
    """Return the value of ``STEP_ANNOTATION`` of an object; empty if it is missing."""
    return str((item["metadata"].get("annotations") or {}).get(STEP_ANNOTATION, ""))


def is_as_wanted(wanted: Any, live: Any) -> bool:
    """Return whether a live value has all that is wanted of it. The API server adds defaults."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and is_as_wanted(value, live[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(is_as_wanted, wanted, live))
    return bool(wanted == live)
