"""A read-only client for Prometheus' HTTP API: bounded, and careful with its token."""

import ipaddress
import json
import os
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.ramp.measurement import PrometheusError, Sample, Series

if TYPE_CHECKING:
    # Imported only where something is sent: everything reads settings and verdicts, and most commands ask no
    # Prometheus.
    import httpx2

TOKEN: Final = "ARCHSHIFT_PROMETHEUS_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE: Final = "ARCHSHIFT_PROMETHEUS_TOKEN_FILE"  # noqa: S105

# 10,000 workloads on two architectures are 6 MB.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
# Prometheus itself gives a query up after two minutes.
_QUERY_SECONDS: Final = 150.0
_CONNECT_SECONDS: Final = 10.0


def read_token(environment: Mapping[str, str] = os.environ) -> str:
    """Return the token for Prometheus from the environment; empty for none.

    Raises:
        ArchshiftError: The file cannot be read, or the token is invalid.
    """
    token, file = environment.get(TOKEN, ""), environment.get(TOKEN_FILE, "")
    if token and file:
        raise ArchshiftError(f"{TOKEN} and {TOKEN_FILE} are both set", "unset one of them")
    source = TOKEN
    if file:
        source = f"{TOKEN_FILE}: {file}"
        try:
            with Path(file).open(encoding="utf-8") as opened:
                token = opened.read(65536)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ArchshiftError(
                f"{source} cannot be read: {reason}", "correct the path, or unset it"
            ) from None
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ArchshiftError(f"{source} is not a token: one word of printable characters")
    if file and not token:
        raise ArchshiftError(f"{source} is empty", f"write the token into it, or unset {TOKEN_FILE}")
    return token


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Prometheus:
    """A connection to one Prometheus. Use as a context manager.

    Args:
        url: Its address; see ``check_url``.
        token: The bearer token, sent only to this address; empty for none.
        transport: Replaces the network in tests.

    Raises:
        ArchshiftError: The token would be sent over plain http.
    """

    def __init__(self, url: str, token: str = "", transport: "httpx2.BaseTransport | None" = None) -> None:
        import httpx2

        self.url = url
        parsed = httpx2.URL(url)
        loopback = _loopback(parsed.host)
        if token and parsed.scheme != "https" and not loopback:
            raise ArchshiftError(
                f"archshift:gate.prometheus: {url} is plain http, and a token needs https", "use https"
            )
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx2.Timeout(_QUERY_SECONDS, connect=_CONNECT_SECONDS),
            # The target would get the token, or answer in place of Prometheus.
            follow_redirects=False,
            # The system's authorities, and SSL_CERT_FILE's.
            verify=ssl.create_default_context(),
            # The environment's proxies, except for this machine itself.
            trust_env=not loopback,
            transport=transport,
        )

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def clock(self) -> datetime:
        """Return the time of Prometheus' clock.

        Raises:
            PrometheusError: Prometheus cannot be reached, refuses, or gives only a part of the answer.
        """
        value = self._ask("query", {"query": "time()"}, "scalar")
        try:
            return datetime.fromtimestamp(float(value[1]), UTC)
        except (TypeError, ValueError, IndexError, OverflowError, OSError):
            raise self._nonsense() from None

    def query(self, expression: str, at: datetime) -> list[Sample]:
        """Evaluate an expression at a time.

        Raises:
            PrometheusError: Prometheus cannot be reached, refuses, or gives only a part of the answer.
        """
        result = self._ask("query", {"query": expression, "time": _time(at)}, "vector")
        try:
            return [Sample(dict(entry["metric"]), float(entry["value"][1])) for entry in result]
        except (TypeError, ValueError, KeyError, IndexError):
            raise self._nonsense() from None

    def query_range(self, expression: str, begin: datetime, end: datetime, step: timedelta) -> list[Series]:
        """Evaluate an expression at every step of a time.

        Raises:
            PrometheusError: Prometheus cannot be reached, refuses, or gives only a part of the answer.
        """
        times = {"start": _time(begin), "end": _time(end), "step": f"{step.total_seconds():g}"}
        result = self._ask("query_range", {"query": expression, **times}, "matrix")
        try:
            return [
                Series(dict(entry["metric"]), {float(at): float(value) for at, value in entry["values"]})
                for entry in result
            ]
        except (TypeError, ValueError, KeyError):
            raise self._nonsense() from None

    def _ask(self, endpoint: str, form: Mapping[str, str], kind: str) -> Any:
        status, body = self._send(f"{self.url}/api/v1/{endpoint}", form)
        if 300 <= status < 400:
            raise PrometheusError(
                f"{self.url} redirects, and archshift does not follow redirects",
                "set archshift:gate.prometheus to the address of Prometheus itself",
            )
        if status in (401, 403):
            raise PrometheusError(
                f"{self.url} refuses the credentials (HTTP {status})",
                f"set {TOKEN} or {TOKEN_FILE} to a token that may query",
            )
        try:
            answer = json.loads(body)
            if not isinstance(answer, dict) or answer["status"] not in ("success", "error"):
                raise ValueError
        except (ValueError, KeyError, RecursionError):
            if status >= 400:
                raise PrometheusError(
                    f"{self.url} answered HTTP {status}", "check that Prometheus runs behind it"
                ) from None
            raise self._nonsense() from None
        if answer["status"] == "error":
            raise PrometheusError(f"{self.url} cannot answer: {one_line(answer.get('error'), 300)}")
        # Before 3.0 hints about an expression came among the warnings.
        warnings = [text for text in answer.get("warnings") or () if not str(text).startswith("PromQL info")]
        if warnings:
            raise PrometheusError(f"{self.url} gave only a part of the answer: {one_line(warnings[0], 300)}")
        data = answer.get("data")
        if (
            not isinstance(data, dict)
            or data.get("resultType") != kind
            or not isinstance(data.get("result"), list)
        ):
            raise self._nonsense()
        return data["result"]

    def _send(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        import httpx2

        deadline = time.monotonic() + _QUERY_SECONDS
        body = bytearray()
        try:
            # POST, because the expressions are longer than the addresses that many proxies accept.
            with self._client.stream("POST", url, data=form) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise PrometheusError(
                            f"{self.url}: the answer is larger than {MAX_ANSWER_BYTES} bytes",
                            "name fewer archshift:workloads.namespaces",
                        )
                    if time.monotonic() > deadline:
                        raise httpx2.ReadTimeout("")
        except httpx2.TimeoutException:
            raise PrometheusError(
                f"{self.url} gave no answer in time",
                "check that it is reachable, or shorten archshift:gate.window",
            ) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise PrometheusError(
                f"{self.url} cannot be reached: {one_line(error, 300)}",
                "check archshift:gate.prometheus and your network",
            ) from None
        return response.status_code, bytes(body)

    def _nonsense(self) -> PrometheusError:
        return PrometheusError(
            f"{self.url} does not answer like Prometheus", "check archshift:gate.prometheus (its path too)"
        )


def _time(at: datetime) -> str:
    return f"{at.timestamp():.3f}"
