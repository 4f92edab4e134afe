"""What places pods at admission in the cluster now: the policies of a stack, and their bindings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.entries import from_text, policy_name
from archshift.cluster.kinds import Resource
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import STACK_LABEL

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than the rest, and here it is only an annotation.
    from archshift.cluster.client import Cluster

POLICY_KIND: Final = "MutatingAdmissionPolicy"
BINDING_KIND: Final = "MutatingAdmissionPolicyBinding"
POLICIES: Final = Resource(api_version="admissionregistration.k8s.io/v1", plural="mutatingadmissionpolicies")
BINDINGS: Final = Resource(
    api_version="admissionregistration.k8s.io/v1", plural="mutatingadmissionpolicybindings"
)
_NAMESPACES: Final = Resource(api_version="v1", plural="namespaces")

STEP_ANNOTATION: Final = "archshift/step"
"""On each of these objects: when archshift last applied it, moved pods by it, or repaired it."""

REPLACED_ANNOTATION: Final = "archshift/replaced-entries"
"""On a policy while pods move: JSON of keys to the entry that holds meanwhile and the workload's own one.

Whoever finds it after the command that wrote it has ended sets the entries back.
"""

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""The API server labels each namespace with its name."""

SEEN_SECONDS: Final = 1.5
"""How long until the API server places pods by a changed policy: it compiles policies once a second."""

ENTRIES_VARIABLE: Final = "entries_"
"""The first part of the names of the variables in a policy that hold its entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlacement:
    """What places pods at admission now.

    Attributes:
        policies: Namespace to the stack's policy for it, as the API server returns it.
        bindings: Namespace to the binding of this policy.
        namespaces: The namespaces that take new objects.
        rivals: Namespace to the entries of other stacks for it, by the label of the stack.
    """

    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    rivals: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    @property
    def since(self) -> dict[str, str]:
        """Namespace to since when its new pods are placed, as the API server writes times."""
        return {
            namespace: max(
                str(each["metadata"].get("creationTimestamp", ""))
                for each in (self.policies[namespace], self.bindings[namespace])
            )
            for namespace in self.policies.keys() & self.bindings.keys()
        }

    @property
    def data(self) -> dict[str, dict[str, str]]:
        """Namespace to the entries of its policy."""
        return {namespace: entries_in(policy) for namespace, policy in self.policies.items()}

    @property
    def entries(self) -> dict[str, str]:
        """The key of a workload to its entry."""
        return {
            f"{namespace}/{kind}/{name}": text
            for namespace, data in self.data.items()
            for key, text in data.items()
            for kind, dot, name in (key.partition("."),)
            if dot and text and kind[:1].isupper()
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
    ours = {"labelSelector": f"{STACK_LABEL}={stack_label}"}
    names = [
        item["metadata"]["name"]
        for item in cluster.list(_NAMESPACES.collection())
        # A namespace that is being deleted takes no new objects.
        if not item["metadata"].get("deletionTimestamp")
    ]
    policies: dict[str, Mapping[str, Any]] = {}
    rivals: dict[str, dict[str, dict[str, str]]] = {}
    for item in cluster.list(POLICIES.collection(), labelSelector=STACK_LABEL):
        name, label = item["metadata"]["name"], item["metadata"]["labels"][STACK_LABEL]
        if label == stack_label:
            policies[name] = item
            continue
        for space in names:
            if policy_name(label, space) == name:
                rivals.setdefault(space, {})[label] = entries_in(item)
    bindings = {item["metadata"]["name"]: item for item in cluster.list(BINDINGS.collection(), **ours)}
    named = {namespace: policy_name(stack_label, namespace) for namespace in names}
    return LivePlacement(
        policies={space: policies[name] for space, name in named.items() if name in policies},
        bindings={space: bindings[name] for space, name in named.items() if name in bindings},
        namespaces=frozenset(names),
        rivals=rivals,
    )


def entries_in(policy: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries in the text of a policy. Another program may have changed it."""
    data: dict[str, str] = {}
    for variable in (policy.get("spec") or {}).get("variables") or ():
        if str(variable.get("name")).startswith(ENTRIES_VARIABLE):
            data |= from_text(str(variable.get("expression")))
    return data


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
