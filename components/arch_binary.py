"""An agent whose binary is another one on each architecture, on every node of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from archshift.images.fetched_binary import CONTAINER_SECURITY, FetchedBinary, on_both_architectures

_LABEL: Final = "app.kubernetes.io/name"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchBinaryArgs:
    """Arguments of ``ArchBinary``.

    Attributes:
        binary: What is fetched, and from where.
        image: What the binary runs in, for both architectures; ``scratch`` with certificates is enough
            for a static one. Name it by digest.
        namespace: Where the DaemonSet is made. It may enforce the Pod Security Standard ``restricted``.
        args: Arguments of the binary.
        env: Environment variables of the binary. They can be read off the cluster: nothing secret.
        resources: Its requests and limits, as in a pod spec.
        tolerations: Of the pods, as in a pod spec: an agent is to run on tainted nodes too.
        service_account: The pods' ServiceAccount, whose token they get; None for the default one without.
    """

    binary: FetchedBinary
    image: str
    namespace: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    service_account: str | None = None


class ArchBinary(pulumi.ComponentResource):
    """A DaemonSet that runs on x86 and Graviton nodes, each pod with the binary for its node.

    An init container picks by ``uname -m``, downloads, and lets the pod start only with a file that has
    the expected checksum and is a program for that machine. For pods of another shape put what
    ``FetchedBinary`` returns into your own.
    """

    TYPE: Final = "archshift:index:ArchBinary"

    daemon_set: pulumi.CustomResource
    """The DaemonSet; it has the component's name."""

    def __init__(self, name: str, args: ArchBinaryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        labels = {_LABEL: name}
        # In the API's own words, as FetchedBinary has them, so not k8s.apps.v1.DaemonSet.
        self.daemon_set = pulumi.CustomResource(
            "kubernetes:apps/v1:DaemonSet",
            name,
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": name, "namespace": args.namespace, "labels": labels},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": _pod_spec(name, args)},
                },
            },
            pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _pod_spec(name: str, args: ArchBinaryArgs) -> dict[str, Any]:
    binary = args.binary
    container = {
        "name": name,
        "image": args.image,
        "command": [binary.path, *args.args],
        "env": [{"name": key, "value": value} for key, value in args.env.items()],
        "resources": dict(args.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [binary.volume_mount()],
    }
    account = {"serviceAccountName": args.service_account} if args.service_account else {}
    return {
        "affinity": on_both_architectures(),
        "automountServiceAccountToken": args.service_account is not None,
        "initContainers": [binary.init_container()],
        "containers": [container],
        "tolerations": [dict(toleration) for toleration in args.tolerations],
        "volumes": [binary.volume()],
        **account,
    }
