"""Asks the API server what this user may do."""

from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster.client import Cluster
from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One permission.

    Attributes:
        verb: For example ``list``.
        resource: In kubectl's form: ``deployments.apps``, ``pods/eviction``.
        namespace: Empty for all namespaces.
        name: Empty for all objects.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The ``resourceAttributes`` of a SelfSubjectAccessReview."""
        name, _, group = self.resource.partition(".")
        name, _, subresource = name.partition("/")
        attributes = {
            "verb": self.verb,
            "resource": name,
            "group": group,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": self.name,
        }
        return {key: value for key, value in attributes.items() if value}


def is_granted(cluster: Cluster, right: Right) -> bool | str:
    """Return whether this user has a right, or a sentence why the API server cannot tell."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right.attributes},
    }
    try:
        status: Any = cluster.post_review(_REVIEWS, review).get("status")
    except ArchshiftError as error:
        return str(error)
    if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        return "its answer has no status"
    if not status["allowed"] and status.get("evaluationError"):
        # One authorizer could not answer, and it might have allowed the request.
        return one_line(status["evaluationError"], 300)
    return bool(status["allowed"])
