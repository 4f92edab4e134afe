"""A small client for the Kubernetes API: paged lists and patches of plain JSON.

lightkube reads the kubeconfig and handles credentials (exec plugins, tokens, client certificates) and TLS.
There are no typed models, because archshift needs only ten fields of each of 10,000 pods.
"""

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx2
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.polling import retry_until
from archshift.common.text import one_line

# A page has at most PAGE objects of at most 1.5 MiB each (etcd's limit); real objects have a hundredth of
# that. A larger answer is not from an API server.
MAX_PAGE_BYTES: Final = 256 * 1024 * 1024
PAGE: Final = 500
_TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)
# Three times as long as the lab's API server needs to restart after a crash.
_PATIENCE_SECONDS: Final = 15.0

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class RefusedError(ArchshiftError):
    """The API server, or its admission, refuses a request.

    Attributes:
        status: The HTTP status.
        words: The words of the refusal.
    """

    def __init__(self, problem: str, way_out: str = "", *, status: int, words: str) -> None:
        super().__init__(problem, way_out)
        self.status, self.words = status, words

    @property
    def namespace_ends(self) -> bool:
        """Whether the reason is that somebody deletes the namespace."""
        return self.status == 403 and self.words.endswith("because it is being terminated")


class BusyError(UnavailableError):
    """The API server throttles the client, stops, starts, or has an error of its own.

    Attributes:
        status: The HTTP status: 429, or 500 and higher.
        words: The words of the answer.
    """

    def __init__(self, problem: str, *, status: int, words: str) -> None:
        super().__init__(problem)
        self.status, self.words = status, words


class Cluster:
    """A connection to one API server. Use it as a context manager, or close it."""

    def __init__(self, client: httpx2.Client, server: str, authority: str = "") -> None:
        """Wrap a configured HTTP client; use ``connect`` to get one from a kubeconfig."""
        self._client = client
        self._answered = False
        self.server = server
        self.authority = authority
        """The certificate of the server's authority from the kubeconfig, base64 of PEM."""

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def list(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a collection, page by page.

        If the server answered before and fails now, the client repeats the request for 15 seconds.

        Args:
            path: For example ``/apis/apps/v1/deployments``.
            parameters: Query parameters such as ``labelSelector``.

        Raises:
            ArchshiftError: The API server is unreachable, refuses, or gives an invalid answer.
        """
        query = {**parameters, "limit": str(PAGE)}
        while True:
            page = self._request("GET", path, params=query)
            yield from page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def get(self, path: str) -> dict[str, Any]:
        """Return one object, with the same errors and repetitions as ``list``."""
        return self._request("GET", path)

    def serves(self, group_version: str, kind: str) -> bool:
        """Return whether the API server has a kind: ``monitoring.coreos.com/v1``, ``PrometheusRule``.

        Raises:
            ArchshiftError: As ``list``.
        """
        # Every user may read the discovery API, but not the list of CustomResourceDefinitions.
        try:
            resources = self.get(f"/apis/{group_version}").get("resources") or ()
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return any(isinstance(resource, dict) and resource.get("kind") == kind for resource in resources)

    def post_review(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Post a review, such as a SelfSubjectAccessReview, and return it with its answer. Nothing is stored.

        Raises:
            ArchshiftError: As ``list``.
        """
        return self._request("POST", path, **_json(question))

    def evict(self, namespace: str, pod: str, uid: str = "") -> bool:
        """Request a pod's eviction; return False if a PodDisruptionBudget refuses it now.

        Args:
            namespace: The pod's namespace.
            pod: The pod's name.
            uid: The pod's UID. A StatefulSet's next pod has the same name and must not be evicted instead.

        Raises:
            ArchshiftError: As ``list``.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        body: dict[str, Any] = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        if uid:
            body["deleteOptions"] = {"preconditions": {"uid": uid}}
        status, answer = self._send("POST", path, **_json(body))
        # The API server answers 429 if a budget refuses
        # (https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/), and 500 if two budgets
        # select the pod. 404 means that the pod is gone; 409 means that another pod has its name.
        if status == 429 or (status == 500 and b"more than one PodDisruptionBudget" in answer):
            return False
        if status >= 400 and status != 404 and not (status == 409 and uid):
            raise self._refusal(status, path, answer)
        return True

    def delete_all(self, path: str, label_selector: str) -> None:
        """Delete the objects of a collection that match a selector; same errors as ``list``."""
        self._request("DELETE", path, params={"labelSelector": label_selector})

    def patch(self, path: str, body: Mapping[str, Any], content_type: str, field_manager: str) -> None:
        """Patch one object as ``field_manager``. An apply patch takes fields from other managers.

        Args:
            path: The object's path.
            body: The patch.
            content_type: ``APPLY`` or ``MERGE``.
            field_manager: The name for ``managedFields``.

        Raises:
            ArchshiftError: As ``list``.
        """
        params = {"fieldManager": field_manager}
        if content_type == APPLY:
            params["force"] = "true"
        self._request("PATCH", path, params=params, **_json(body, content_type))

    def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        field_manager: str,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Apply fields to one object as ``field_manager`` (server-side apply), and return the object.

        Args:
            path: The object's path.
            body: The object with only the fields to own. With ``metadata.uid``, the API server changes this
                object or none; without it, an apply creates a missing object.
            field_manager: The name for ``managedFields``.
            force: Take fields from other managers. Otherwise the API server refuses to change their values.
            dry_run: Let the API server and its admission decide, but store nothing.

        Raises:
            ArchshiftError: As ``list``.
        """
        params = {"fieldManager": field_manager, "force": str(force).lower()}
        if dry_run:
            params["dryRun"] = "All"
        return self._request("PATCH", path, params=params, **_json(body, APPLY))

    def create(self, collection: str, body: Mapping[str, Any], field_manager: str = "archshift") -> bool:
        """Create an object; return False if an object with its name exists.

        Raises:
            ArchshiftError: As ``list``.
        """
        params = {"fieldManager": field_manager}
        status, answer = self._send("POST", collection, params=params, **_json(body))
        if status == 409:
            return False
        if status >= 400:
            raise self._refusal(status, collection, answer)
        return True

    def delete(self, path: str) -> None:
        """Delete an object and, in the background, the objects that it owns. A missing object is no error.

        Raises:
            ArchshiftError: As ``list``.
        """
        status, answer = self._send("DELETE", path, params={"propagationPolicy": "Background"})
        if status >= 400 and status != 404:
            raise self._refusal(status, path, answer)

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            status, body = self._send(method, path, **options)
            if status >= 400:
                raise self._refusal(status, path, body)
            return self._parsed(path, body)

        patience = _PATIENCE_SECONDS if method == "GET" else 0.0
        # A server that never answered may be the wrong server, so the client does not wait for it. A server
        # that answered before is likely to return. Its one failed page must not fail the whole reading.
        return retry_until(ask, time.monotonic() + patience, lambda: self._answered)

    def _parsed(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ArchshiftError(
                f"{self.server}: the answer to {path} is not a JSON object",
                "is this a Kubernetes API server?",
            )
        return answer

    def _send(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        with self._stream(method, path, **options) as response:
            self._answered = True
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise ArchshiftError(
                        f"{self.server}: the answer to {path} is larger than {MAX_PAGE_BYTES} bytes",
                        "is this a Kubernetes API server?",
                    )
            return response.status_code, bytes(body)

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx2.Response]:
        try:
            with self._client.stream(method, path, **options) as response:
                yield response
        except (httpx2.HTTPError, ConnectionError) as error:
            reason = one_line(error)
            raise UnavailableError(
                f"{self.server}: the cluster cannot be reached: {reason}",
                "check the kubeconfig's server and your network",
            ) from None
        except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
            # From the credential plugin (the kubeconfig's exec), which runs before a request.
            reason = one_line(error)
            raise ArchshiftError(
                f"{self.server}: no credentials: {reason}", "check the kubeconfig's user"
            ) from None

    def _refusal(self, status: int, path: str, body: bytes) -> ArchshiftError:
        try:
            message = str(json.loads(body)["message"])[:300]
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {status}"
        problem, way_out = f"{self.server}: {path}: {message}", ""
        if status == 401:
            problem = f"{self.server}: the cluster refuses the credentials ({message})"
            way_out = "log in again or check the kubeconfig's user"
        if status == 403:
            problem = f"{self.server}: not allowed: {message}"
            way_out = "docs/permissions.md lists what archshift reads"
        if status == 429 or status >= 500:
            return BusyError(problem, status=status, words=message)
        return RefusedError(problem, way_out, status=status, words=message)


def _json(body: Mapping[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    """Return the options of a request that sends this body."""
    return {"headers": {"Content-Type": content_type}, "content": json.dumps(body).encode()}


def connect(context: str | None = None, kubeconfig: Path | None = None) -> Cluster:
    """Connect with the kubeconfig that kubectl would use, or with another one.

    Args:
        context: The kubeconfig context; None means the current context.
        kubeconfig: The file; None means the files that kubectl would use.

    Raises:
        ArchshiftError: The kubeconfig or the context is missing, or the credentials are invalid.
    """
    try:
        config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
    except ConfigError as error:
        raise ArchshiftError(f"kubeconfig: {error}", "set KUBECONFIG to a readable kubeconfig") from None
    except Exception as error:  # whatever a parser raises for a file that is not a kubeconfig
        raise ArchshiftError(
            f"kubeconfig: not readable as one: {one_line(error)}", "set KUBECONFIG"
        ) from None
    if context is not None and context not in config.contexts:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise ArchshiftError(
            f"archshift:kube_context: {context!r} is not in the kubeconfig, which has: {known}"
        )
    chosen = config.contexts.get(context or config.current_context or "")
    if chosen and chosen.cluster not in config.clusters:
        raise ArchshiftError(f"kubeconfig: its context names the cluster {chosen.cluster!r}, which it lacks")
    if chosen and chosen.user and chosen.user not in config.users:
        raise ArchshiftError(f"kubeconfig: its context names the user {chosen.user!r}, which it lacks")
    try:
        single = config.get(context_name=context)
        if single is None:
            raise ConfigError("it has no current context")
        parameters = ConnectionParams(timeout=_TIMEOUT).httpx_params(single)
        _keep_protocols(parameters["verify"])
        return Cluster(
            httpx2.Client(**parameters), single.cluster.server, single.cluster.certificate_auth_data or ""
        )
    except (ConfigError, AssertionError, OSError, ValueError, TypeError, httpx2.InvalidURL) as error:
        raise ArchshiftError(
            f"kubeconfig: {one_line(error)}", "set archshift:kube_context or KUBECONFIG"
        ) from None


def _keep_protocols(context: ssl.SSLContext) -> None:
    """Set the protocols that a TLS context offers (ALPN) once, for all connections.

    The HTTP client sets them for each connection. That frees the previous list while other threads may copy
    it. Such a thread then sends an invalid ClientHello, and the server answers with an alert
    (python/cpython#141012; measured: one connection in 12,000 with eight threads).
    """
    context.set_alpn_protocols(["http/1.1"])
    context.set_alpn_protocols = lambda _: None  # type: ignore[method-assign, assignment]
