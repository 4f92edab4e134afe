"""Readers of ``archshift:monitoring``."""

import re
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.ramp.monitoring_rules import MonitoringSettings
from archshift.settings import values

_NAMESPACE: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_LABEL_NAME: Final = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"


def read_monitoring(key: str, value: Any) -> MonitoringSettings | None:
    """Read ``archshift:monitoring``; None where it is empty.

    Raises:
        ArchshiftError: A value does not do.
    """
    given = values.mapping(key, value)
    if not given:
        return None
    readers: dict[str, Any] = {"namespace": _namespace, "labels": _labels, "dashboard_labels": _labels}
    values.only(f"{key}.", given, set(readers))
    if "namespace" not in given:
        raise ArchshiftError(
            f"{key}.namespace is missing", "give the namespace that Prometheus reads rules from"
        )
    return MonitoringSettings(
        **{name: readers[name](f"{key}.{name}", entry) for name, entry in given.items()}
    )


def _namespace(key: str, value: Any) -> str:
    name = values.typed(key, value, str, "a namespace")
    if not re.fullmatch(_NAMESPACE, name):
        raise ArchshiftError(f"{key}: {value!r} is not a namespace's name: lower-case letters, digits and -")
    return name


def _labels(key: str, value: Any) -> dict[str, str]:
    labels = {}
    for name, text in values.mapping(key, value).items():
        word = values.typed(f"{key}.{name}", text, str, 'text; put it in quotes, as in "1"')
        if not re.fullmatch(_LABEL_NAME, str(name)) or not re.fullmatch(_LABEL_VALUE, word):
            raise ArchshiftError(f"{key}.{name}: {word!r} is not a label that Kubernetes takes")
        labels[str(name)] = word
    return labels
