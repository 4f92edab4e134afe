"""A stand-in for the server of external metrics: it tells autoscalers the load of workloads.

It is reached as such servers are, through an APIService of the API server, with TLS on 127.0.0.1.
"""

import base64
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archshift.cluster.client import Cluster

METRIC: Final = "load"
"""The metric's name. Its label ``workload`` has the name of a Deployment."""

_GROUP: Final = "external.metrics.k8s.io/v1beta1"
_NAMESPACE, _SERVICE = "kube-system", "external-metrics"


class ExternalMetrics:
    """The loads, in pods, and the server that tells them.

    Attributes:
        loads: Name of a workload to the number of pods that its load needs.
    """

    def __init__(self) -> None:
        self.loads: dict[str, int] = {}

    def autoscaler(self, namespace: str, name: str, least: int, most: int) -> dict[str, Any]:
        """Return the manifest of an autoscaler that follows the load of a Deployment at once."""
        at_once = {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": 10_000, "periodSeconds": 1}],
        }
        metric = {"name": METRIC, "selector": {"matchLabels": {"workload": name}}}
        target = {"type": "AverageValue", "averageValue": "1"}
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": least,
                "maxReplicas": most,
                "metrics": [{"type": "External", "external": {"metric": metric, "target": target}}],
                "behavior": {"scaleUp": at_once, "scaleDown": at_once},
            },
        }

    @contextmanager
    def serve(self, api: Cluster, folder: Path) -> Iterator[None]:
        """Serve the metrics, and tell the API server about it.

        Args:
            api: The connection.
            folder: Where the certificate and its key may be.
        """
        authority = _certificate(folder)
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "metrics.crt", folder / "metrics.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        port = server.server_address[1]
        service = {
            "metadata": {"name": _SERVICE},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]},
        }
        group, version = _GROUP.split("/")
        registration = {
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(authority).decode(),
                "service": {"namespace": _NAMESPACE, "name": _SERVICE, "port": port},
            },
        }
        services, registrations = (
            f"/api/v1/namespaces/{_NAMESPACE}/services",
            "/apis/apiregistration.k8s.io/v1/apiservices",
        )
        api.create(services, service)
        api.create(registrations, registration)
        try:
            yield
        finally:
            api.delete(f"{registrations}/{version}.{group}")
            api.delete(f"{services}/{_SERVICE}")
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps(answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def _answer(self, path: str) -> Mapping[str, Any]:
        url = urlsplit(path)
        if "/namespaces/" not in url.path:
            metric = {"name": METRIC, "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": _GROUP,
                "resources": [{"singularName": "", **metric}],
            }
        name = parse_qs(url.query)["labelSelector"][0].removeprefix("workload=")
        value = {
            "metricName": METRIC,
            "metricLabels": {"workload": name},
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "value": str(self.loads[name]),
        }
        return {"kind": "ExternalMetricValueList", "apiVersion": _GROUP, "metadata": {}, "items": [value]}


def _certificate(folder: Path) -> bytes:
    """Write a key and its certificate for the Service's name, and return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _SERVICE)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{_SERVICE}.{_NAMESPACE}.svc")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    authority = made.public_bytes(serialization.Encoding.PEM)
    (folder / "metrics.crt").write_bytes(authority)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "metrics.key"
    path.touch(mode=0o600)
    path.write_bytes(private)
    return authority
