"""What places pods at admission in the cluster now: the policies of a stack, and their bindings."""

from collections.abc import Iterator, Mapping
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
        doubled: Namespace to the names of other bindings that put its policy into effect once more.
    """

    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    rivals: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    doubled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
    bindings: dict[str, Mapping[str, Any]] = {}
    doubled: dict[str, list[str]] = {}
    # Anybody's binding can put a policy into effect, so their labels do not matter.
    for item in cluster.list(BINDINGS.collection()):
        name, bound = item["metadata"]["name"], (item.get("spec") or {}).get("policyName")
        if (item["metadata"].get("labels") or {}).get(STACK_LABEL) == stack_label:
            bindings[name] = item
        if bound and bound != name:
            doubled.setdefault(str(bound), []).append(name)
    named = {namespace: policy_name(stack_label, namespace) for namespace in names}
    return LivePlacement(
        policies={space: policies[name] for space, name in named.items() if name in policies},
        bindings={space: bindings[name] for space, name in named.items() if name in bindings},
        namespaces=frozenset(names),
        rivals=rivals,
        doubled={
            space: tuple(sorted(doubled[name]))
            for space, name in named.items()
            if name in policies and name in doubled
        },
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


def changed_fields(wanted: Any, live: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the fields of a live value that are not as wanted, such as ``spec.failurePolicy``.

    What is empty is not set: the API server adds empty selectors.

    Args:
        wanted: The wanted value.
        live: The live one.
        path: Where both are in the object.
    """
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for key in wanted.keys() | live.keys():
            yield from changed_fields(wanted.get(key), live.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(wanted, list | tuple) and isinstance(live, list) and len(wanted) == len(live):
        # A person looks for the field, and not for the number of an element.
        if any(any(changed_fields(one, other, path)) for one, other in zip(wanted, live, strict=True)):
            yield path
    elif wanted != live and not (_is_empty(wanted) and _is_empty(live)):
        yield path


def has_more(wanted: Any, live: Any) -> bool:
    """Return whether a live object has a field that is not wanted.

    A server-side apply leaves such a field to whoever has set it, so only a new object is without it.

    Args:
        wanted: The wanted object.
        live: The live one.
    """
    if not (isinstance(wanted, Mapping) and isinstance(live, Mapping)):
        return _is_empty(wanted) and not _is_empty(live)
    return any(has_more(wanted.get(key), value) for key, value in live.items())


def _is_empty(value: Any) -> bool:
    """Return whether a value says nothing."""
    return value is None or value == "" or (isinstance(value, Mapping | list | tuple) and not value)
