"""An agent with a different binary for each architecture, on every node of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from archshift.images.building.fetched_binary import CONTAINER_SECURITY, FetchedBinary, on_both_architectures

_LABEL: Final = "app.kubernetes.io/name"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchBinaryArgs:
    """Arguments of ``ArchBinary``.

    Attributes:
        binary: The binary and its download URLs.
        image: The image in which the binary runs, for both architectures. For a static binary ``scratch``
            with certificates is enough. Name the image by digest.
        namespace: Namespace of the DaemonSet. It may enforce the Pod Security Standard ``restricted``.
        args: Arguments of the binary.
        env: Environment variables of the binary. Everybody who can read the DaemonSet can read them, so
            put no secret here.
        resources: Requests and limits, as in a pod spec.
        tolerations: Tolerations of the pods, as in a pod spec: an agent must run on tainted nodes too.
        service_account: ServiceAccount of the pods, which get its token. None: the default one, no token.
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

    An init container chooses the binary by ``uname -m`` and downloads it. The pod starts only if the file
    has the expected checksum and is a program for that machine. For other kinds of pods, put the parts
    that ``FetchedBinary`` returns into your own pod spec.
    """

    TYPE: Final = "archshift:index:ArchBinary"

    daemon_set: pulumi.CustomResource
    """The DaemonSet; its name is the component's name."""

    def __init__(self, name: str, args: ArchBinaryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        labels = {_LABEL: name}
        # FetchedBinary returns parts in the API's own spelling, which k8s.apps.v1.DaemonSet does not take.
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
