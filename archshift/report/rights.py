"""What archshift has to be allowed in a cluster, as docs/permissions.md lists it, and whether it is."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.client import Cluster
from archshift.common.errors import ArchshiftError
from archshift.report.checks import CheckResult, Outcome

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_CONTROLLERS: Final = ("deployments.apps", "statefulsets.apps", "daemonsets.apps", "cronjobs.batch")
_WHOLE_CLUSTER: Final = ("",)


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that has to be allowed.

    Attributes:
        verb: For example ``list``.
        resource: As kubectl writes it: ``deployments.apps``, ``pods/eviction``.
        namespace: Where; empty for everywhere.
    """

    verb: str
    resource: str
    namespace: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """As a SelfSubjectAccessReview names it."""
        name, _, group = self.resource.partition(".")
        name, _, subresource = name.partition("/")
        attributes = {
            "verb": self.verb,
            "resource": name,
            "group": group,
            "subresource": subresource,
            "namespace": self.namespace,
        }
        return {key: value for key, value in attributes.items() if value}


@dataclass(frozen=True, slots=True)
class PermissionNeed:
    """Rights that serve one purpose.

    Attributes:
        purpose: What they are for.
        rights: The rights.
        without: What a missing one means.
        effect: What happens then.
    """

    purpose: str
    rights: tuple[Right, ...]
    without: Outcome
    effect: str


def needs(settings: "Settings") -> Iterator[PermissionNeed]:
    """Yield what a stack needs under its settings."""
    ours = settings.discovery.namespaces or _WHOLE_CLUSTER
    # A guarded stack reads the controllers of all namespaces: their pods need nodes too.
    seen = _WHOLE_CLUSTER if settings.guarded else ours
    yield PermissionNeed(
        "plan and status",
        (
            *_rights("list", _CONTROLLERS, seen),
            *_rights("get", _CONTROLLERS, ours),
            *_rights("list", ("pods", "nodes", "horizontalpodautoscalers.autoscaling"), _WHOLE_CLUSTER),
        ),
        "problem",
        "no plan can be made",
    )
    yield PermissionNeed(
        "pulumi up",
        (
            *_rights("patch watch", _CONTROLLERS, ours),
            *_rights("list watch", ("replicasets.apps", "events", "pods", "persistentvolumeclaims"), ours),
        ),
        "problem",
        "pulumi up is refused, or cannot follow the rollouts",
    )
    yield PermissionNeed(
        "settling",
        _rights("create", ("pods/eviction",), ours),
        "warning",
        "pods that found their side full during a rollout are named instead of moved",
    )
    if settings.images.check:
        yield PermissionNeed(
            "pull secrets",
            (*_rights("list", ("serviceaccounts",), _WHOLE_CLUSTER), *_rights("get", ("secrets",), ours)),
            "warning",
            "images of private registries end as unknown and stay on x86, unless secrets are allowed by name",
        )
    if settings.monitoring:
        namespace = (settings.monitoring.namespace,)
        yield PermissionNeed(
            "monitoring",
            _rights(
                "get create patch delete", ("configmaps", "prometheusrules.monitoring.coreos.com"), namespace
            ),
            "problem",
            "rules and dashboard cannot be made",
        )
    if settings.arm64_tests:
        yield PermissionNeed(
            "arm64_tests",
            (
                *_rights("create get list patch delete", ("jobs.batch",), ours),
                *_rights("list", ("events",), ours),
                *_rights("list", ("jobs.batch",), _WHOLE_CLUSTER),
            ),
            "problem",
            "workloads cannot be tested on arm64",
        )
    if settings.provisioner != "managed":
        yield PermissionNeed(
            "node pools",
            (
                *_rights("get list watch create patch delete", ("nodepools.karpenter.sh",), _WHOLE_CLUSTER),
                *_rights("list create delete deletecollection", ("pods",), ("default",)),
            ),
            "problem",
            "NodePools cannot be made, or no nodes asked for",
        )
    elif settings.platform == "lab":
        yield PermissionNeed(
            "simulated nodes",
            _rights("create patch delete", ("nodes",), _WHOLE_CLUSTER),
            "problem",
            "the lab's nodes cannot be made",
        )
    if settings.groups:
        yield PermissionNeed(
            "drain",
            (
                *_rights("patch", ("nodes",), _WHOLE_CLUSTER),
                *_rights("create", ("pods/eviction",), _WHOLE_CLUSTER),
                *_rights(
                    "list",
                    (
                        "replicasets.apps",
                        "statefulsets.apps",
                        "replicationcontrollers",
                        "poddisruptionbudgets.policy",
                    ),
                    _WHOLE_CLUSTER,
                ),
            ),
            "warning",
            "archshift drain, which comes last, is refused",
        )


def _rights(verbs: str, resources: Iterable[str], namespaces: Iterable[str]) -> tuple[Right, ...]:
    spaces = tuple(namespaces)
    return tuple(
        Right(verb, resource, space) for resource in resources for verb in verbs.split() for space in spaces
    )


def check_rights(cluster: Cluster, settings: "Settings") -> Iterator[CheckResult]:
    """Yield for each purpose whether all that it takes is allowed, and which verb on what is not.

    The API server is asked, as ``kubectl auth can-i`` does: it knows what is allowed by whichever rules.
    """
    wanted = tuple(needs(settings))
    allowed = _ask_all(cluster, {right for need in wanted for right in need.rights})
    for need in wanted:
        check = f"rights: {need.purpose}"
        missing = [right for right in need.rights if allowed[right] is False]
        unsure = [allowed[right] for right in need.rights if isinstance(allowed[right], str)]
        if missing:
            yield CheckResult(
                check,
                need.without,
                f"may not {_listed(missing)}: {need.effect}",
                "allow it in a role of this user (docs/permissions.md)",
            )
        elif unsure:
            yield CheckResult(check, "unknown", f"the API server does not say: {unsure[0]}", _UNSURE)
        else:
            yield CheckResult(check, "ok", "all allowed")


_UNSURE: Final = "try kubectl auth can-i --list as the same user"


def _ask_all(cluster: Cluster, rights: Iterable[Right]) -> Mapping[Right, bool | str]:
    """Return what is allowed, what is not, and a sentence for what cannot be told."""
    wanted = sorted(rights, key=lambda right: (right.namespace, right.resource, right.verb))
    # What is allowed everywhere is allowed in each namespace, of which there may be many.
    everywhere = list(dict.fromkeys(Right(right.verb, right.resource) for right in wanted))
    with ThreadPoolExecutor(max_workers=4) as threads:
        known = dict(
            zip(everywhere, threads.map(lambda right: _ask(cluster, right), everywhere), strict=True)
        )
        apart = [
            right
            for right in wanted
            if right.namespace and known[Right(right.verb, right.resource)] is not True
        ]
        known |= zip(apart, threads.map(lambda right: _ask(cluster, right), apart), strict=True)
    return {right: known.get(right, True) for right in wanted}


def _ask(cluster: Cluster, right: Right) -> bool | str:
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
        return "the answer to a review has no status"
    if not status["allowed"] and status.get("evaluationError"):
        # One authorizer could not be asked; it might have allowed it.
        return " ".join(str(status["evaluationError"]).split())[:300]
    return bool(status["allowed"])


def _listed(rights: Iterable[Right]) -> str:
    """Say rights shortly: the verbs of a resource together, then its namespaces."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        verbs.setdefault((right.resource, right.namespace), []).append(right.verb)
    spaces: dict[tuple[str, str], list[str]] = {}
    for (resource, space), allowed_verbs in verbs.items():
        spaces.setdefault((", ".join(allowed_verbs), resource), []).append(space)
    return "; ".join(
        f"{verb_list} {resource}" + ("" if namespaces == [""] else f" in {', '.join(namespaces)}")
        for (verb_list, resource), namespaces in spaces.items()
    )
