"""The evidence about a cluster's images: which workloads are proven to run on arm64."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.images.registry.credentials import AuthFile, read_pull_secret
from archshift.images.registry.hosts import ImageRules
from archshift.images.registry.reference import repositories
from archshift.images.workload import WorkloadVerdict, judge_workload

if TYPE_CHECKING:
    # Importing their HTTP clients takes the most time, and only connecting and auditing needs them.
    from archshift.cluster.client import Cluster
    from archshift.images.audit import AuditOptions, Watch


@dataclass(frozen=True, slots=True)
class ClusterEvidence:
    """The evidence about a cluster's images.

    Attributes:
        verdicts: The key of every workload to its verdict, including what archshift does not steer.
        notes: What limited the audit, such as pull secrets that it may not read, a sentence each.
        pull_secrets: The credentials of the audit; archshift never prints them.
    """

    verdicts: Mapping[str, WorkloadVerdict] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pull_secrets: tuple[AuthFile, ...] = field(default=(), repr=False)


def audit_options(
    rules: ImageRules,
    pull_secrets: tuple[AuthFile, ...] = (),
    *,
    keep: bool = True,
    refresh: bool = False,
) -> "AuditOptions":
    """Return the options of an audit by these rules.

    Args:
        rules: How to check images.
        pull_secrets: The cluster's credentials.
        keep: Use the evidence of earlier runs, and store the new evidence.
        refresh: Ask registries again that did not answer a short time ago.
    """
    from archshift.images.audit import AuditOptions
    from archshift.images.cache import cache_folder
    from archshift.images.registry.away import REMEMBERED_SECONDS

    return AuditOptions(
        cache=cache_folder() if keep else None,
        hosts=rules.registries,
        aws=rules.aws,
        pull_secrets=pull_secrets,
        evidence_seconds=rules.max_age_days * 86400,
        away_seconds=0.0 if refresh else REMEMBERED_SECONDS,
        deep=rules.deep,
    )


def read_evidence(
    cluster: "Cluster",
    inventory: Inventory,
    rules: ImageRules,
    *,
    keep: bool = True,
    refresh: bool = False,
    watch: "Watch | None" = None,
) -> ClusterEvidence:
    """Audit all images of an inventory, each image once.

    Args:
        cluster: The connection, for pull secrets.
        inventory: What runs in the cluster.
        rules: How to check images.
        keep: Use the evidence of earlier runs, and store the new evidence.
        refresh: Ask registries again that did not answer a short time ago.
        watch: Called with the number of images read so far and their total.

    Raises:
        ArchshiftError: The Docker config or a CA file cannot be read. If an image or a registry fails, the
            verdict is ``unknown`` with the reason.
    """
    from archshift.images.audit import audit_uses

    secrets, notes = read_pull_secrets(cluster, inventory)
    running = {
        **{key: workload.containers for key, workload in inventory.outside_daemonsets.items()},
        **{key: workload.containers for key, workload in inventory.unsteered_workloads.items()},
        **inventory.containers,
    }
    uses = [use for containers in running.values() for container in containers for use in container.uses]
    verdicts = audit_uses(
        uses, replace(audit_options(rules, secrets, keep=keep, refresh=refresh), watch=watch)
    )
    return ClusterEvidence(
        {key: judge_workload(key, containers, verdicts) for key, containers in sorted(running.items())},
        notes,
        secrets,
    )


def read_pull_secrets(
    cluster: "Cluster", inventory: Inventory
) -> tuple[tuple[AuthFile, ...], tuple[str, ...]]:
    """Read the pull secrets of the inventory's pods and of their ServiceAccounts.

    Each secret serves only the images of the pods that name it, as on a node. Whoever may create pods in one
    namespace must not send another namespace's login to a registry, nor put logins in front of it.

    If a secret cannot be read, the run continues, and the verdict on its images is ``unknown``.

    Returns:
        The secrets, and a note for each secret that could not be read.
    """
    images, notes = pull_secret_images(cluster, inventory)
    names = sorted(images)

    def read(namespace: str, name: str) -> AuthFile | str:
        try:
            secret = read_pull_secret(cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{name}"))
            return replace(secret, namespace=namespace, images=repositories(images[namespace, name]))
        except ArchshiftError as error:
            return f"pull secret {namespace}/{name} was not used: {error}"

    # Most namespaces have one secret, and a request to a cloud's API server takes a tenth of a second.
    with ThreadPoolExecutor(max_workers=8) as threads:
        read_all = list(threads.map(lambda pair: read(*pair), names))
    notes += (result for result in read_all if isinstance(result, str))
    return tuple(result for result in read_all if not isinstance(result, str)), tuple(notes)


def pull_secret_images(
    cluster: "Cluster", inventory: Inventory
) -> tuple[dict[tuple[str, str], set[str]], list[str]]:
    """Return the pull secrets that pods and their ServiceAccounts name, and a note if that is unknown.

    Returns:
        The namespace and the name of each secret, to the images of the pods that name it.
    """
    notes: list[str] = []
    by_account = {}
    if any(not identity.secrets for pods in inventory.pull_identities.values() for identity in pods):
        by_account = _service_accounts(cluster, notes)
    images: dict[tuple[str, str], set[str]] = {}
    for image, pods in inventory.pull_identities.items():
        for identity in pods:
            account = (identity.namespace, identity.service_account)
            for name in identity.secrets or by_account.get(account, ()):
                images.setdefault((identity.namespace, name), set()).add(image)
    return images, notes


def _service_accounts(cluster: "Cluster", notes: list[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    try:
        accounts: list[dict[str, Any]] = list(cluster.list("/api/v1/serviceaccounts"))
    except ArchshiftError as error:
        notes.append(f"pull secrets of ServiceAccounts were not used: {error}")
        return {}
    return {
        (account["metadata"]["namespace"], account["metadata"]["name"]): tuple(
            entry["name"] for entry in account.get("imagePullSecrets") or () if entry.get("name")
        )
        for account in accounts
        if account.get("imagePullSecrets")
    }
