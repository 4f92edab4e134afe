"""The permissions that archshift needs in a cluster (docs/permissions.md), and whether it has them."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from archshift.cluster.access import Right, is_granted
from archshift.cluster.autoscalers import SCALERS
from archshift.cluster.canaries import canaries_name
from archshift.cluster.client import Cluster
from archshift.cluster.identity import SYSTEM_NAMESPACE
from archshift.cluster.kinds import CONTROLLERS, SCALED
from archshift.cluster.lease import LEASES, lease_name
from archshift.cluster.lease import NAMESPACE as LEASE_NAMESPACE
from archshift.cluster.live_placement import BINDINGS, POLICIES
from archshift.report.checks import CheckResult, Outcome

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings


_CONTROLLERS: Final = tuple(kind.for_roles for kind in CONTROLLERS.values())
_READ_EVERYWHERE: Final = (
    "pods",
    "nodes",
    SCALERS.for_roles,
    "limitranges",
    "persistentvolumeclaims",
    "persistentvolumes",
    "runtimeclasses.node.k8s.io",
    "storageclasses.storage.k8s.io",
    "csidrivers.storage.k8s.io",
)
_POLICIES: Final = (POLICIES.for_roles, BINDINGS.for_roles)
_WHOLE_CLUSTER: Final = ("",)

_REGISTERED: Final = "get list watch create patch delete"
"""For objects that are resources of the stack. The engine's plugin watches each until it is gone. Without the
right to watch, a delete that takes a moment would wait for the plugin's ten minutes.
"""


@dataclass(frozen=True, slots=True)
class PermissionNeed:
    """The permissions for one purpose.

    Attributes:
        rights: What ``pulumi up`` needs.
        looking: The part of it that previews, plans and reports need, which change nothing.
        without: Outcome of the check if a permission is missing.
        effect: What happens without it.
    """

    purpose: str
    rights: tuple[Right, ...]
    without: Outcome
    effect: str
    looking: tuple[Right, ...] = ()


def needs(settings: "Settings") -> Iterator[PermissionNeed]:
    """Yield the permissions that a stack's settings need."""
    ours = settings.discovery.namespaces or _WHOLE_CLUSTER
    # A guarded stack reads the controllers of all namespaces, because their pods need nodes too.
    seen = _WHOLE_CLUSTER if settings.guarded else ours
    reading = (
        *_rights("list", _CONTROLLERS, seen),
        *_rights("get", _CONTROLLERS, ours),
        # The first Graviton node starts every DaemonSet, wherever it is.
        *_rights("list", ("daemonsets.apps", *_READ_EVERYWHERE), _WHOLE_CLUSTER),
    )
    yield PermissionNeed(
        "plan and status", reading, "problem", "archshift cannot make a plan", looking=reading
    )
    # A preview tries each patch as a dry run, for which the API server wants the same right.
    patching = (
        *_rights("patch", _CONTROLLERS, ours),
        Right("get", "namespaces", SYSTEM_NAMESPACE, SYSTEM_NAMESPACE),
    )
    yield PermissionNeed(
        "pulumi up",
        patching,
        "problem",
        "pulumi up fails, because it cannot place these workloads",
        looking=patching,
    )
    yield PermissionNeed(
        "rebalance",
        _rights("create", ("pods/eviction",), ours),
        "warning",
        "archshift cannot move pods that a rollout left on the wrong side, and only names them",
    )
    yield PermissionNeed(
        "deletion costs",
        _rights("patch", ("pods",), ours),
        "warning",
        "shares of autoscaled workloads change while they are scaled down",
    )
    yield _lease(settings)
    if settings.placement == "admission":
        yield PermissionNeed(
            "placement at admission",
            (
                *_rights("list", ("namespaces",), _WHOLE_CLUSTER),
                *_rights(_REGISTERED, _POLICIES, _WHOLE_CLUSTER),
            ),
            "problem",
            "archshift cannot tell the API server where new pods belong",
            looking=(
                *_rights("list", ("namespaces",), _WHOLE_CLUSTER),
                *_rights("list get", _POLICIES, _WHOLE_CLUSTER),
            ),
        )
    yield PermissionNeed(
        "failed canaries",
        (
            *_rights("create", ("configmaps",), ours),
            # docs/permissions.md limits these to the one name; creates cannot be limited.
            *_rights("get patch delete", ("configmaps",), ours, canaries_name(settings.stack_label)),
        ),
        "warning",
        "the next update tries a workload again that failed on Graviton",
        looking=_rights("get", ("configmaps",), ours, canaries_name(settings.stack_label)),
    )
    if settings.images.check:
        accounts = _rights("list", ("serviceaccounts",), _WHOLE_CLUSTER)
        yield PermissionNeed(
            "pull secrets",
            (*accounts, *_rights("get", ("secrets",), ours)),
            "warning",
            "private images stay unknown and on x86, unless a role allows their secrets by name",
            # No role for the whole cluster has the secrets: ``archshift rbac`` names them by namespace.
            looking=accounts,
        )
    if settings.monitoring:
        namespace = (settings.monitoring.namespace,)
        yield PermissionNeed(
            "monitoring",
            _rights(_REGISTERED, ("configmaps", "prometheusrules.monitoring.coreos.com"), namespace),
            "problem",
            "archshift cannot create the rules and the dashboard",
            looking=_rights("get", ("configmaps", "prometheusrules.monitoring.coreos.com"), namespace),
        )
    if settings.arm64_tests:
        yield PermissionNeed(
            "tests on arm64",
            (
                *_rights("create get list patch delete", ("jobs.batch",), ours),
                *_rights("list", ("events",), ours),
                *_rights("list", ("jobs.batch",), _WHOLE_CLUSTER),
            ),
            "problem",
            "archshift cannot test workloads on arm64",
            looking=_rights("list", ("jobs.batch",), _WHOLE_CLUSTER),
        )
    if settings.pool_settings is not None or settings.provisioner != "managed":
        yield PermissionNeed(
            "node pools",
            (
                *_rights(_REGISTERED, ("nodepools.karpenter.sh",), _WHOLE_CLUSTER),
                *_PLACEHOLDERS,
            ),
            "problem",
            "archshift cannot create NodePools or bring up nodes",
            looking=_rights("get list watch", ("nodepools.karpenter.sh",), _WHOLE_CLUSTER),
        )
    if settings.platform == "lab" and (settings.node_groups or settings.provisioner == "managed"):
        yield PermissionNeed(
            "simulated nodes",
            _rights(_REGISTERED, ("nodes",), _WHOLE_CLUSTER),
            "problem",
            "archshift cannot create the lab's nodes",
        )
    if settings.groups or settings.takes_over_pools:
        yield PermissionNeed(
            "drain",
            (
                *_rights("patch", ("nodes",), _WHOLE_CLUSTER),
                *_rights("create", ("pods/eviction",), _WHOLE_CLUSTER),
                *_rights(
                    "list",
                    (*(kind.for_roles for kind in SCALED.values()), "poddisruptionbudgets.policy"),
                    _WHOLE_CLUSTER,
                ),
            ),
            "warning",
            "archshift drain, the last step, will fail",
        )


def rebalance_needs(settings: "Settings") -> Iterator[PermissionNeed]:
    """Yield what ``archshift rebalance`` changes, without ``--restart``; it reads what previews read."""
    ours = settings.discovery.namespaces or _WHOLE_CLUSTER
    purposes = {"rebalance", "deletion costs", "failed canaries"}
    if settings.placement != "admission":
        purposes.remove("failed canaries")
        # Without the note of pods that came back, each hour would restart them again for nothing.
        noted = [kind.for_roles for kind in CONTROLLERS.values() if kind.plural in _NOTED]
        yield PermissionNeed("notes", _rights("patch", noted, ours), "warning", "pods move for nothing")
    else:
        yield PermissionNeed(
            "exact entries",
            _rights("get patch", (POLICIES.for_roles,), _WHOLE_CLUSTER),
            "warning",
            "pods of autoscaled workloads come back to the wrong side",
        )
    yield PermissionNeed(
        "budgets",
        _rights("list", ("poddisruptionbudgets.policy",), ours),
        "warning",
        "archshift cannot name the budget that blocks a pod",
    )
    if settings.pool_settings is not None:
        yield PermissionNeed("placeholders", _PLACEHOLDERS, "problem", "no nodes come up")
    yield _lease(settings)
    yield from (need for need in needs(settings) if need.purpose in purposes)


def _lease(settings: "Settings") -> PermissionNeed:
    named = lease_name(settings.stack_label)
    return PermissionNeed(
        "one at a time",
        (
            *_rights("create", (LEASES.for_roles,), (LEASE_NAMESPACE,)),
            *_rights("get patch", (LEASES.for_roles,), (LEASE_NAMESPACE,), named),
        ),
        "warning",
        "archshift rebalance refuses to run, and no command sees that an update moves pods",
    )


def _rights(
    verbs: str, resources: Iterable[str], namespaces: Iterable[str], name: str = ""
) -> tuple[Right, ...]:
    spaces = tuple(namespaces)
    return tuple(
        Right(verb, resource, space, name)
        for resource in resources
        for verb in verbs.split()
        for space in spaces
    )


_PLACEHOLDERS: Final = _rights("list create delete deletecollection", ("pods",), ("default",))
_NOTED: Final = ("deployments", "statefulsets")


def check_rights(cluster: Cluster, settings: "Settings") -> Iterator[CheckResult]:
    """Check for each purpose whether all its permissions are granted.

    The API server answers, as it does for ``kubectl auth can-i``: it knows all rules of the cluster.
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
                f"not allowed: {_listed(missing)}; {need.effect}",
                "add it to a role of this user (docs/permissions.md)",
            )
        elif unsure:
            yield CheckResult(check, "unknown", f"the API server cannot tell: {unsure[0]}", _UNSURE)
        else:
            yield CheckResult(check, "ok", "all allowed")


_UNSURE: Final = "run kubectl auth can-i --list as the same user"


def _ask_all(cluster: Cluster, rights: Iterable[Right]) -> Mapping[Right, bool | str]:
    """Return for each right whether it is granted, or a sentence why the API server cannot tell."""
    wanted = sorted(rights, key=lambda right: (right.namespace, right.resource, right.verb))
    # A right for all namespaces saves a question for each namespace.
    everywhere = list(dict.fromkeys(Right(right.verb, right.resource) for right in wanted))
    with ThreadPoolExecutor(max_workers=4) as threads:
        known = dict(
            zip(everywhere, threads.map(lambda right: is_granted(cluster, right), everywhere), strict=True)
        )
        apart = [
            right
            for right in wanted
            if (right.namespace or right.name) and known[Right(right.verb, right.resource)] is not True
        ]
        known |= zip(apart, threads.map(lambda right: is_granted(cluster, right), apart), strict=True)
    return {right: known.get(right, True) for right in wanted}


def _listed(rights: Iterable[Right]) -> str:
    """Return rights in short: the verbs of a resource, then its namespaces."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        named = right.name and right.name != right.namespace
        resource = f"{right.resource} {right.name}" if named else right.resource
        verbs.setdefault((resource, right.namespace), []).append(right.verb)
    spaces: dict[tuple[str, str], list[str]] = {}
    for (resource, space), allowed_verbs in verbs.items():
        spaces.setdefault((", ".join(allowed_verbs), resource), []).append(space)
    return "; ".join(
        f"{verb_list} {resource}" + ("" if namespaces == [""] else f" in {', '.join(namespaces)}")
        for (verb_list, resource), namespaces in spaces.items()
    )
