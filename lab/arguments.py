"""The command lines of the lab's servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.bootstrap import KARPENTER, KWOK_STAGES

# The lab runs one copy of each client, and nobody asks the clients for health or metrics.
_CLIENT: Final = ("--leader-elect=false", "--secure-port=0")

_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "registry": ("serve", "{keys}/registry.yaml"),
    "etcd": (
        "--data-dir={lab}/etcd",
        "--listen-client-urls={etcd}",
        "--advertise-client-urls={etcd}",
        "--listen-peer-urls={peer}",
        "--initial-advertise-peer-urls={peer}",
        "--initial-cluster=default={peer}",
        "--cert-file={keys}/etcd.crt",
        "--key-file={keys}/etcd.key",
        "--trusted-ca-file={keys}/ca.crt",
        "--client-cert-auth",
        "--peer-cert-file={keys}/etcd.crt",
        "--peer-key-file={keys}/etcd.key",
        "--peer-trusted-ca-file={keys}/ca.crt",
        "--peer-client-cert-auth",
        # After a power cut, a lab may lose its last second.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ),
    "kube-apiserver": (
        "--bind-address=127.0.0.1",
        "--secure-port={port}",
        "--etcd-servers={etcd}",
        "--etcd-cafile={keys}/ca.crt",
        "--etcd-certfile={keys}/etcd-client.crt",
        "--etcd-keyfile={keys}/etcd-client.key",
        "--tls-cert-file={keys}/api-server.crt",
        "--tls-private-key-file={keys}/api-server.key",
        "--cert-dir={keys}",
        "--token-auth-file={keys}/tokens.csv",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file={keys}/service-account.pub",
        "--service-account-signing-key-file={keys}/service-account.key",
        # Simulated pods need no token, and with this plugin they would wait for their account.
        "--disable-admission-plugins=ServiceAccount",
        # As on every EKS cluster. Otherwise it refuses node agents such as CSI drivers.
        "--allow-privileged=true",
        "--service-cluster-ip-range=10.96.0.0/16",
        # Nothing in the lab reaches the API server through a Service.
        "--endpoint-reconciler-type=none",
        "--advertise-address=127.0.0.1",
        "--profiling=false",
    ),
    "kube-controller-manager": (
        *_CLIENT,
        "--kubeconfig={keys}/kube-controller-manager.kubeconfig",
        # As installers set it up: each controller has its own account and rights.
        "--use-service-account-credentials=true",
        "--service-account-private-key-file={keys}/service-account.key",
        # These controllers would ask a cloud for addresses, load balancers and routes. The node lifecycle
        # controller stays: without it, new nodes keep their not-ready taint.
        "--controllers=*,-node-ipam-controller,-service-lb-controller,-node-route-controller",
        # Autoscalers look every two seconds, because nobody waits for a lab.
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ),
    "kube-scheduler": (
        *_CLIENT,
        # The default profile, because archshift relies only on what every cluster has.
        "--kubeconfig={keys}/kube-scheduler.kubeconfig",
    ),
    "kwok": (
        "--kubeconfig={keys}/kwok.kubeconfig",
        f"--config={{lab}}/bin/{KWOK_STAGES}",
        "--config={code}/stages.yaml",
        "--manage-all-nodes=true",
        # 0: no leases; heartbeats keep the nodes alive. With leases, a restarted kwok takes over the nodes
        # only when the old leases expire, after 40 s. It also misses pods that reach a new node before
        # the lease reaches kwok's cache.
        "--node-lease-duration-seconds=0",
        # 0: no kubelet port, because it would listen on every address.
        "--node-port=0",
    ),
    KARPENTER: (),  # Karpenter reads all its settings from its environment
}
"""Server to its arguments; ``server_arguments`` fills in the names in braces."""


def server_arguments(lab: Path, ports: Mapping[str, int]) -> dict[str, list[str]]:
    """Return each server's arguments in the lab of this folder."""
    values = {
        "lab": lab,
        "keys": lab / "keys",
        "code": Path(__file__).resolve().parent,
        "etcd": f"https://127.0.0.1:{ports['etcd']}",
        "peer": f"https://127.0.0.1:{ports['etcd-peer']}",
        "port": ports["kube-apiserver"],
    }
    return {
        server: [argument.format_map(values) for argument in arguments]
        for server, arguments in _ARGUMENTS.items()
    }
