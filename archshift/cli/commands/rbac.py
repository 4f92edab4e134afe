"""``archshift rbac``: the roles of a stack, as manifests."""

import argparse
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from archshift.cli.arguments.rbac import PARTS
from archshift.cli.stack import busy, print_json, read_settings, say
from archshift.cluster.client import connect
from archshift.cluster.image_evidence import pull_secret_images
from archshift.cluster.inventory import read_inventory
from archshift.common.errors import ArchshiftError
from archshift.report.roles import deploying_role, looking_role, pull_secret_roles, rebalancing_role
from archshift.settings.stack import Settings

_GROUP: Final = re.compile(r"[-A-Za-z0-9_.:/@]{1,253}")
_ACCOUNTS: Final = re.compile(r"system:serviceaccounts:(?!kube-system$).+")
"""The ServiceAccounts of one namespace."""


def run(options: argparse.Namespace) -> int:
    """Print the manifests; returns the exit code."""
    for name in ("looking_group", "deploying_group", "rebalancing_group"):
        group = getattr(options, name)
        if not _GROUP.fullmatch(group):
            raise ArchshiftError(f"--{name.replace('_', '-')}: {group[:80]!r} is not the name of a group")
        # The policy of the looking role would stop every user of the cluster, its nodes or its controllers.
        if group.startswith("system:") and not _ACCOUNTS.fullmatch(group):
            raise ArchshiftError(
                f"--{name.replace('_', '-')}: {group[:80]!r} is a group of Kubernetes itself",
                "name a group that only this user has",
            )
    for name in ("deploying", "rebalancing"):
        if options.looking_group == getattr(options, f"{name}_group"):
            raise ArchshiftError(
                f"--looking-group and --{name}-group are both {options.looking_group!r}, so neither could "
                "change anything",
                "name two groups",
            )
    with busy("reading the stack and the cluster"):
        manifests = list(_manifests(options, read_settings(options)))
    if options.json:
        print_json({"apiVersion": "v1", "kind": "List", "items": manifests})
    else:
        for line in yaml.safe_dump_all(manifests, sort_keys=False, width=110).splitlines():
            say(line)
    return 0


def _manifests(options: argparse.Namespace, settings: Settings) -> Iterator[dict[str, Any]]:
    for part in PARTS:
        if options.only and part not in options.only:
            continue
        if part == "looking":
            yield from looking_role(settings, options.looking_group)
        elif part == "deploying":
            yield from deploying_role(settings, options.deploying_group)
        elif part == "rebalancing":
            yield from rebalancing_role(settings, options.rebalancing_group)
        elif settings.images.check:
            yield from pull_secret_roles(
                settings.stack_label,
                _pull_secrets(settings),
                (options.looking_group, options.deploying_group, options.rebalancing_group),
            )


def _pull_secrets(settings: Settings) -> list[tuple[str, str]]:
    with connect(settings.kube_context) as cluster:
        inventory = read_inventory(
            cluster,
            settings.discovery,
            settings.field_manager,
            with_unsteered=settings.guarded,
            every_controller=settings.placement == "admission",
        )
        images, notes = pull_secret_images(cluster, inventory)
    for note in notes:
        raise ArchshiftError(note, "run the command as a user who may list ServiceAccounts")
    return sorted(images)
