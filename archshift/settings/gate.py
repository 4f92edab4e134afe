"""Readers of ``archshift:gate``."""

import re
from datetime import timedelta
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.ramp.figures import FIGURES, Figure, Tolerance, WorkloadTolerances
from archshift.ramp.gate import GateSettings
from archshift.ramp.prometheus import TOKEN
from archshift.ramp.promql import AppMetrics
from archshift.settings import values
from archshift.settings.times import duration

_SHORTEST: Final = timedelta(minutes=15)
_LONGEST: Final = timedelta(weeks=2)

_METRIC_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_MATCHER: Final = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\\n{}]*"'


def read_gate(key: str, value: Any) -> GateSettings:
    """Read ``archshift:gate``.

    Raises:
        ArchshiftError: A value does not do.
    """
    readers: dict[str, Any] = {
        "prometheus": lambda k, v: check_url(k, values.typed(k, v, str, "an address")),
        "window": duration(_SHORTEST, _LONGEST),
        "soak": duration(timedelta(0), timedelta(weeks=8)),
        "min_samples": values.size(1, "samples"),
        "tolerances": read_tolerances,
        "workloads": read_workloads,
        "step_back_share": values.ratio,
        "metrics": _metrics,
        "selector": _selector,
        "evidence": _evidence,
    }
    given = values.mapping(key, value)
    values.only(f"{key}.", given, set(readers))
    return GateSettings(**{name: readers[name](f"{key}.{name}", entry) for name, entry in given.items()})


def _metrics(key: str, value: Any) -> AppMetrics:
    given = values.mapping(key, value)
    patterns = {"latency": _METRIC_NAME, "requests": _METRIC_NAME, "errors": _MATCHER}
    wanted = {
        "latency": "the name of a histogram, without _bucket",
        "requests": "the name of a counter",
        "errors": 'a label matcher such as code=~"5.."',
    }
    values.only(f"{key}.", given, set(patterns))
    for name, text in given.items():
        description = f"{wanted[name]}" + ("" if name == "errors" else ', or "" for none')
        text = values.typed(f"{key}.{name}", text, str, description)
        if not re.fullmatch(patterns[name], text) and (text or name == "errors"):
            raise ArchshiftError(f"{key}.{name}: {text!r} is not {description}")
    return AppMetrics(**given)


def _selector(key: str, value: Any) -> str:
    text = values.typed(key, value, str, 'label matchers such as cluster="prod"')
    if text and not re.fullmatch(rf"{_MATCHER}(\s*,\s*{_MATCHER})*", text):
        raise ArchshiftError(f'{key}: {text!r} are not label matchers such as cluster="prod"')
    return text


def _evidence(key: str, value: Any) -> str:
    path = values.typed(key, value, str, "the path of a file")
    if path.startswith("/") or ".." in path.split("/"):
        raise ArchshiftError(
            f"{key}: {path!r} leads out of the folder of Pulumi.yaml", "give a path within it"
        )
    return path


def read_tolerances(key: str, value: Any) -> dict[str, Tolerance]:
    """Read figure name to ``{hold, step_back}``.

    Raises:
        ArchshiftError: A figure is unknown or a number does not do.
    """
    given = values.mapping(key, value)
    values.only(f"{key}.", given, set(FIGURES))
    return {name: _tolerance(f"{key}.{name}", one, FIGURES[name]) for name, one in given.items()}


def _tolerance(key: str, value: Any, figure: Figure) -> Tolerance:
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"hold", "step_back"})
    read = {name: _number(f"{key}.{name}", number, figure) for name, number in given.items()}
    tolerance = Tolerance(
        read.get("hold", figure.tolerance.hold), read.get("step_back", figure.tolerance.step_back)
    )
    if tolerance.step_back < tolerance.hold:
        raise ArchshiftError(
            f"{key}: step_back {tolerance.step_back:g} is less than hold {tolerance.hold:g}",
            "what steps back has to be worse than what holds",
        )
    return tolerance


def _number(key: str, value: Any, figure: Figure) -> float:
    wanted = {
        "events": "a number from 0 (events a pod and day)",
        "share": "a share from 0.0 to 1.0",
    }.get(figure.unit, "a share from 0.0, such as 0.1 for 10 % more")
    most = 1.0 if figure.unit == "share" else 1000.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return float(value)


def read_workloads(key: str, value: Any) -> dict[str, WorkloadTolerances]:
    """Read workload key to its tolerances, ``min_samples``, ``skip`` and ``reason``.

    Raises:
        ArchshiftError: A value does not do.
    """
    return {
        values.typed(key, name, str, "namespace/Kind/name"): _workload(f"{key}.{name}", one)
        for name, one in values.mapping(key, value).items()
    }


def _workload(key: str, value: Any) -> WorkloadTolerances:
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"tolerances", "min_samples", "skip", "reason"})
    skip = given.get("skip", [])
    skipped = frozenset(FIGURES) if skip is True else frozenset(values.texts(f"{key}.skip", skip or []))
    for name in skipped - set(FIGURES):
        raise ArchshiftError(
            f"{key}.skip: {name!r} is no figure", f"there are: {', '.join(FIGURES)}, or true for all"
        )
    reason = values.typed(f"{key}.reason", given.get("reason", ""), str, "text").strip()
    if skipped and not reason:
        raise ArchshiftError(
            f"{key}.skip leaves figures unjudged and needs a reason: beside it that says why"
        )
    return WorkloadTolerances(
        tolerances=read_tolerances(f"{key}.tolerances", given.get("tolerances", {})),
        min_samples=(
            values.size(1, "samples")(f"{key}.min_samples", given["min_samples"])
            if "min_samples" in given
            else None
        ),
        skip=skipped,
        reason=reason,
    )


def check_url(key: str, url: str) -> str:
    """Return the address of a Prometheus without a slash at its end.

    Args:
        key: The setting that it comes from.
        url: The address, with a path where it is behind a proxy.

    Raises:
        ArchshiftError: It is not one, or has more in it than an address.
    """
    import httpx2

    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise ArchshiftError(f"{key}: {url!r} is not an address such as https://prometheus.example") from None
    if parsed.userinfo:
        # Not the address itself: it has a password in it.
        raise ArchshiftError(
            f"{key}: the address of {parsed.host} has a user in it", f"give credentials as {TOKEN}"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ArchshiftError(f"{key}: {url!r} is not an address such as https://prometheus.example")
    return str(parsed).rstrip("/")
