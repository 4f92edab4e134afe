"""A ServiceAccount whose rights a test chooses."""

from __future__ import annotations

from typing import Any

from tests.lab.lab_helpers import Manifest

ACCOUNT = "ship"
"""Its name, in the namespace ``default``."""


def role(kind: str, name: str, namespace: str | None, rules: list[dict[str, Any]]) -> list[Manifest]:
    """A role and its binding to the account."""
    where = {"namespace": namespace} if namespace else {}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": kind,
            "metadata": {"name": name, **where},
            "rules": rules,
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": name, **where},
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
        },
    ]
