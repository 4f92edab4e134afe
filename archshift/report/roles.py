"""The roles of a stack, as manifests: one that looks, one that deploys, and one that rebalances.

All come from the one table of permissions (``rights``). The role that looks may patch, because a preview
tries each patch as a dry run. A ValidatingAdmissionPolicy refuses everything else that it would change.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from archshift.cluster.access import Right
from archshift.cluster.autoscalers import SCALED_OBJECTS
from archshift.cluster.template_users import TEMPLATE_USERS
from archshift.common.kubernetes import of_stack, short_hash
from archshift.report.rights import needs, rebalance_needs

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings

Manifest: TypeAlias = dict[str, Any]

LOOKING: Final = "archshift-looking"
DEPLOYING: Final = "archshift-deploying"
REBALANCING: Final = "archshift-rebalancing"
PULL_SECRETS: Final = "archshift-pull-secrets"
DRY_RUN_ONLY: Final = "archshift-looking-only-tries"

_RBAC: Final = "rbac.authorization.k8s.io"
_REVIEWS: Final = ("authentication.k8s.io", "authorization.k8s.io")


def looking_role(settings: "Settings", group: str = LOOKING) -> list[Manifest]:
    """Return the role of previews, plans and reports, without the pull secrets."""
    rights = [right for need in needs(settings) for right in need.looking]
    # The policy first, so that the group never has the right to patch without it.
    return [
        *dry_run_only(settings.stack_label, group),
        *_role(of_stack(LOOKING, settings.stack_label), [*rights, *_owners()], group),
    ]


def deploying_role(settings: "Settings", group: str = DEPLOYING) -> list[Manifest]:
    """Return the role of ``pulumi up`` and ``archshift drain``, without the pull secrets."""
    rights = [right for need in needs(settings) for right in (*need.rights, *need.looking)]
    # No namespace's owner expects that somebody reads all its secrets.
    return _role(
        of_stack(DEPLOYING, settings.stack_label),
        [right for right in (*rights, *_owners()) if right.resource != "secrets"],
        group,
    )


def rebalancing_role(settings: "Settings", group: str = REBALANCING) -> list[Manifest]:
    """Return the role of ``archshift rebalance``, without the pull secrets.

    With ``placement: patches``, it may patch Deployments and StatefulSets, to note which pods came back. RBAC
    cannot limit that to an annotation. With ``admission``, it changes no workload.
    """
    # No right of the looking role to patch: its policy, which permits dry runs only, is for its own group.
    looking = [
        right
        for need in needs(settings)
        for right in need.looking
        if right.verb in ("get", "list") and right.resource != "secrets"
    ]
    rights = [*looking, *(right for need in rebalance_needs(settings) for right in need.rights), *_owners()]
    return _role(of_stack(REBALANCING, settings.stack_label), rights, group)


def pull_secret_roles(
    stack_label: str, secrets: Iterable[tuple[str, str]], groups: Iterable[str]
) -> Iterator[Manifest]:
    """Yield a role for each namespace, with the names of its pull secrets.

    Args:
        stack_label: The stack, as ``stack_label`` writes it.
        secrets: Namespace and name of each pull secret that a workload names.
        groups: Who may read them.
    """
    names: dict[str, set[str]] = {}
    for namespace, name in secrets:
        names.setdefault(namespace, set()).add(name)
    for namespace, own in sorted(names.items()):
        rules = [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": sorted(own), "verbs": ["get"]}
        ]
        yield from _bound("Role", of_stack(PULL_SECRETS, stack_label), namespace, rules, groups)


def dry_run_only(stack_label: str, group: str) -> list[Manifest]:
    """Return the policy by which a group can change nothing, and only try changes.

    Args:
        stack_label: The stack, as ``stack_label`` writes it.
        group: The group.
    """
    reviews = ", ".join(f"'{name}'" for name in _REVIEWS)
    # Each group has a policy of its own: that of another group must not replace it, because the first group
    # may still have roles in namespaces.
    own = "" if group == LOOKING else f"-{short_hash(group)}"
    policy = f"{of_stack(DRY_RUN_ONLY, stack_label)}{own}"
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": policy},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["*"],
                            "apiVersions": ["*"],
                            "operations": ["*"],
                            "resources": ["*/*"],
                        }
                    ]
                },
                "matchConditions": [
                    {"name": "the-looking-role", "expression": f"'{group}' in request.userInfo.groups"},
                    # A question about one's own permissions stores nothing.
                    {"name": "no-review", "expression": f"!(request.resource.group in [{reviews}])"},
                ],
                "validations": [
                    {
                        "expression": "request.?dryRun.orValue(false)",
                        "message": f"the group {group} may only try a change (dry run)",
                        "reason": "Forbidden",
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": policy},
            "spec": {"policyName": policy, "validationActions": ["Deny"]},
        },
    ]


def _owners() -> list[Right]:
    """Return the rights to see whose templates to leave alone, and what else scales workloads."""
    users = (f"{user.plural}.{user.group}" for user in TEMPLATE_USERS)
    return [Right("list", resource) for resource in (*users, SCALED_OBJECTS.for_roles)]


def _role(name: str, rights: Iterable[Right], group: str) -> list[Manifest]:
    """Return the role for the whole cluster, and one for each namespace that has rights of its own."""
    by_namespace: dict[str, list[Right]] = {}
    for right in rights:
        # The name of a namespace is the namespace of a right about itself.
        namespace = "" if right.resource == "namespaces" else right.namespace
        by_namespace.setdefault(namespace, []).append(right)
    return [
        manifest
        for namespace, own in sorted(by_namespace.items())
        for manifest in _bound(
            "Role" if namespace else "ClusterRole", name, namespace, [*_rules(own)], [group]
        )
    ]


def _rules(rights: Iterable[Right]) -> Iterator[Manifest]:
    verbs: dict[tuple[str, str, str], dict[str, None]] = {}
    for right in rights:
        resource, _, api_group = right.resource.partition(".")
        verbs.setdefault((api_group, right.name, resource), {})[right.verb] = None
    resources: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (api_group, name, resource), own in sorted(verbs.items()):
        resources.setdefault((api_group, name, tuple(sorted(own))), []).append(resource)
    for (api_group, name, listed), them in resources.items():
        named: Mapping[str, Any] = {"resourceNames": [name]} if name else {}
        yield {"apiGroups": [api_group], "resources": them, **named, "verbs": [*listed]}


def _bound(
    kind: str, name: str, namespace: str, rules: list[Manifest], groups: Iterable[str]
) -> Iterator[Manifest]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    yield {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}
    yield {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group} for group in groups],
    }
