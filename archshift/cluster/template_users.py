"""Workloads whose pod template another controller uses or watches: a change of it starts a release there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.kinds import Resource

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than making a plan, and here it is only an annotation.
    from archshift.cluster.client import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateUser:
    """A kind of object that refers to a workload for its pod template.

    Attributes:
        group: Its API group.
        kind: Its kind.
        plural: The name of its collection.
        references: The paths of the reference in the object; versions of the API differ.
    """

    group: str
    kind: str
    plural: str
    references: tuple[tuple[str, ...], ...]


TEMPLATE_USERS: Final = (
    # A Rollout makes its own pods from the Deployment's template.
    TemplateUser(
        group="argoproj.io", kind="Rollout", plural="rollouts", references=(("spec", "workloadRef"),)
    ),
    # Both of these watch the Deployment and start a staged release when its template changes.
    TemplateUser(
        group="rollouts.kruise.io",
        kind="Rollout",
        plural="rollouts",
        references=(("spec", "workloadRef"), ("spec", "objectRef", "workloadRef")),
    ),
    TemplateUser(group="flagger.app", kind="Canary", plural="canaries", references=(("spec", "targetRef"),)),
)


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """Who uses the pod templates of workloads.

    Attributes:
        users: Workload key to the object that refers to it, such as ``Rollout checkout``.
        unreadable: The kinds that the cluster serves but that archshift may not read.
    """

    users: Mapping[str, str]
    unreadable: tuple[str, ...] = ()

    def of(self, key: str, replicas: int) -> str:
        """Return who uses a workload's template; empty if nobody does.

        A workload without pods may be the template of an object that archshift may not read.
        """
        if key in self.users or replicas or not self.unreadable or "/Deployment/" not in key:
            return self.users.get(key, "")
        return f"a {' or '.join(self.unreadable)} that archshift may not read"


def read_template_use(cluster: "Cluster", namespaces: Sequence[str] = ()) -> TemplateUse:
    """Read who uses the pod templates of workloads.

    Args:
        cluster: The connection.
        namespaces: Only these namespaces; empty means all.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    from archshift.cluster.client import RefusedError

    served = {
        group["name"]: (group.get("preferredVersion") or {}).get("groupVersion")
        for group in cluster.get("/apis").get("groups") or ()
    }
    users: dict[str, str] = {}
    unreadable = []
    for user in TEMPLATE_USERS:
        version = served.get(user.group)
        # Argo CD has the same API group without this kind.
        if not version or not cluster.serves(version, user.kind):
            continue
        resource = Resource(api_version=version, plural=user.plural)
        try:
            for namespace in namespaces or ("",):
                for item in cluster.list(resource.collection(namespace)):
                    users |= _references(user, item)
        except RefusedError as error:
            if error.status != 403:
                raise
            unreadable.append(user.kind)
    return TemplateUse(users, tuple(dict.fromkeys(unreadable)))


def _references(user: TemplateUser, item: Mapping[str, Any]) -> dict[str, str]:
    meta = item["metadata"]
    found = {}
    for path in user.references:
        reference: Any = item
        for key in path:
            reference = reference.get(key) if isinstance(reference, Mapping) else None
        if isinstance(reference, Mapping) and reference.get("kind") and reference.get("name"):
            key = f"{meta['namespace']}/{reference['kind']}/{reference['name']}"
            found[key] = f"{user.kind} {meta['name']}"
    return found
