"""The evidence of failed canaries, as a resource of the stack: its deletion deletes that evidence.

Updates write the evidence while pods move (archshift/cluster/canaries.py), with both placements. The engine
runs the provider in a process of its own, in `pulumi destroy` without the program. The state names the class
by this module's name. So a renamed module could not delete what an older one made.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi.dynamic import (
    ConfigureRequest,
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)


class FailedCanariesProvider(ResourceProvider):
    """Keeps in which namespaces evidence can be, and deletes it at the end."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Take the stack's configuration."""
        self._context = req.config.get("archshift:kube_context") or None

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Say whether evidence can be in more places; a namespace that archshift left may still have it."""
        changed = _namespaces(olds, news) != _namespaces(olds) or olds.get("cluster") != news.get("cluster")
        return DiffResult(changes=changed, replaces=[], delete_before_replace=False)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Keep the namespaces."""
        return CreateResult("failed-canaries", props)

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Keep the new namespaces too."""
        return UpdateResult({**news, "namespaces": _namespaces(olds, news)})

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        """Delete the evidence."""
        # Imported here: a preview needs no client.
        from archshift.cluster.canaries import delete_canaries
        from archshift.cluster.client import connect
        from archshift.cluster.identity import is_cluster

        with connect(self._context) as cluster:
            # A cluster that was built anew has no evidence of this stack.
            if is_cluster(cluster, props.get("cluster")):
                delete_canaries(cluster, props["stackLabel"], _namespaces(props))


def _namespaces(*props: Mapping[str, Any]) -> list[str]:
    return sorted({namespace for one in props for namespace in one.get("namespaces") or ()})


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCanariesArgs:
    """Arguments of ``FailedCanaries``.

    Attributes:
        stack_label: The stack, as ``stack_label`` writes it.
        namespaces: The namespaces of its workloads.
        cluster: The uid of the cluster.
    """

    stack_label: str
    namespaces: Iterable[str]
    cluster: str


class FailedCanaries(Resource, module="archshift", name="FailedCanaries"):
    """The evidence of a stack that workloads failed on Graviton."""

    TYPE: Final = "pulumi-python:dynamic/archshift:FailedCanaries"

    def __init__(
        self, name: str, args: FailedCanariesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        inputs = {
            "stackLabel": args.stack_label,
            "namespaces": sorted(set(args.namespaces)),
            "cluster": args.cluster,
        }
        super().__init__(FailedCanariesProvider(), name, inputs, opts)
