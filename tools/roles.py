"""Writes the manifests of the roles, ``deploy/rbac``, for a stack that uses all that needs permissions.

``archshift rbac`` prints those of one stack.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from archshift.report.roles import deploying_role, looking_role, rebalancing_role
from archshift.settings.stack import load

FOLDER: Final = Path(__file__).parent.parent / "deploy" / "rbac"

_CONFIG: Final[Mapping[str, Any]] = {
    "arm_ratio": "0.2",
    "placement": "admission",
    "provisioner": "karpenter",
    "arm64_tests": {"all": True},
    "monitoring": {"namespace": "monitoring"},
    "node_groups": {"x86": {"instance_types": ["m6i.large"], "limits": {"cpu": 8}}},
}

_HEAD: Final = """\
# Written by `python -m tools.roles`, for a stack with the name prod that uses every feature.
# `archshift rbac --stack STACK` prints the roles of your stack, with the names of its pull secrets.
# docs/permissions.md says how to give them to their users.
"""


def files() -> dict[str, str]:
    """Return the name of each file and its text."""
    values = {
        f"archshift:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in _CONFIG.items()
    }
    settings = load("prod", values, {})
    roles = {
        "looking.yaml": looking_role(settings),
        "deploying.yaml": deploying_role(settings),
        "rebalancing.yaml": rebalancing_role(settings),
    }
    return {
        name: _HEAD + yaml.safe_dump_all(manifests, sort_keys=False, width=110)
        for name, manifests in roles.items()
    }


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
