"""``archshift audit``: which images and workloads can run on arm64."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archshift.cli.arguments.audit import EXIT_SOME_CANNOT, EXIT_SOME_UNKNOWN
from archshift.cli.stack import busy, print_json, read_settings
from archshift.cli.table import console, plain_table
from archshift.cluster.client import connect
from archshift.cluster.image_evidence import ClusterEvidence, audit_options, read_evidence
from archshift.cluster.inventory import read_inventory
from archshift.common.errors import ArchshiftError
from archshift.common.files import replace_file
from archshift.common.text import counted, first_few, printable
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.images.verdict import AMD64_ONLY, OTHER, UNKNOWN, ImageVerdict
from archshift.images.workload import WorkloadVerdict
from archshift.settings.stack import Settings, images_of_no_stack

_CANNOT = (AMD64_ONLY, OTHER)


def run(options: argparse.Namespace) -> int:
    """Print the audit; returns the exit code."""
    if not options.images and not options.from_cluster:
        raise ArchshiftError("audit: there is nothing to audit", "name an image, or use --from-cluster")
    fail_on = _fail_on(options.fail_on)
    with busy("reading registries") as watch:
        stack = read_settings(options, nodes=False) if options.from_cluster else None
        rules = _rules(options, stack)
        images, evidence = _audit(options, stack, rules, watch)
        workloads, notes = dict(evidence.verdicts), evidence.notes
        suggestions = {} if options.no_suggestions else _suggest(images, rules, evidence)
    if options.metrics:
        _write_metrics(Path(options.metrics), images)
    if options.json:
        print_json(as_json(images, workloads, suggestions, notes))
    else:
        _print_tables(images, workloads, suggestions, notes)
    verdicts = {image.verdict for image in images} | {workload.verdict for workload in workloads.values()}
    failing = verdicts & fail_on
    if not failing:
        return 0
    return EXIT_SOME_UNKNOWN if failing == {UNKNOWN} else EXIT_SOME_CANNOT


def as_json(
    images: Iterable[ImageVerdict],
    workloads: Mapping[str, WorkloadVerdict],
    suggestions: Mapping[str, str | None],
    notes: Iterable[str],
) -> dict[str, Any]:
    """Return the audit as JSON values."""
    return {
        "images": [
            {
                **image.to_dict(),
                **({"suggestion": suggestions[image.image]} if image.image in suggestions else {}),
            }
            for image in images
        ],
        "workloads": [
            {
                "workload": key,
                "verdict": verdict.verdict,
                "blocking": [
                    {"container": b.container, "image": b.image, "verdict": b.verdict, "reason": b.reason}
                    for b in verdict.blocking
                ],
                "notes": list(verdict.notes),
            }
            for key, verdict in workloads.items()
        ],
        "notes": list(notes),
    }


def metrics(images: Iterable[ImageVerdict]) -> str:
    """Return Prometheus text: a sample for each image and architecture, and one for each unknown image."""
    lines = [
        "# HELP archshift_image_platform_supported 1 if the image runs on the architecture, 0 if not.",
        "# TYPE archshift_image_platform_supported gauge",
    ]
    unknown = []
    for image in images:
        label = printable(image.image).replace("\\", r"\\").replace('"', r"\"")
        if image.verdict == UNKNOWN:
            unknown.append(f'archshift_image_unknown{{image="{label}"}} 1')
            continue
        for arch, runs in (("amd64", image.runs_on_amd64), ("arm64", image.runs_on_arm64)):
            labels = f'image="{label}",os="linux",arch="{arch}"'
            lines.append(f"archshift_image_platform_supported{{{labels}}} {int(runs)}")
    lines += [
        "# HELP archshift_image_unknown 1 for an image that could not be read.",
        "# TYPE archshift_image_unknown gauge",
        *unknown,
    ]
    return "\n".join(lines) + "\n"


def _fail_on(text: str) -> set[str]:
    known = {"unknown", "amd64-only", "arm64-only", "other", "multi-arch"}
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    for verdict in sorted(wanted - known):
        raise ArchshiftError(f"--fail-on: {verdict!r} is not a verdict", f"use {', '.join(sorted(known))}")
    return wanted


def _audit(
    options: argparse.Namespace, stack: Settings | None, rules: ImageRules, watch: Callable[[int, int], None]
) -> tuple[list[ImageVerdict], ClusterEvidence]:
    images: dict[str, ImageVerdict] = {}
    evidence = ClusterEvidence()
    if stack:
        with connect(stack.kube_context) as cluster:
            inventory = read_inventory(cluster, stack.discovery, stack.field_manager)
            evidence = read_evidence(cluster, inventory, rules, refresh=options.refresh, watch=watch)
        for workload in evidence.verdicts.values():
            for verdict in workload.images:
                known = images.get(verdict.image)
                # A deep audit may judge an image differently for each command: the worse verdict counts.
                if known is None or known.runs_on_arm64:
                    images[verdict.image] = verdict
    if options.images:
        from archshift.images.audit import audit_images

        images |= audit_images(
            options.images, replace(audit_options(rules, refresh=options.refresh), watch=watch)
        )
    return list(images.values()), evidence


def _rules(options: argparse.Namespace, stack: Settings | None) -> ImageRules:
    rules = stack.images if stack else images_of_no_stack()
    plain = {
        host: replace(rules.registries.get(host, RegistryHost()), plain_http=True)
        for host in options.plain_http
    }
    return replace(
        rules, check=True, deep=rules.deep or options.deep, registries={**rules.registries, **plain}
    )


def _suggest(
    images: Iterable[ImageVerdict], rules: ImageRules, evidence: ClusterEvidence
) -> dict[str, str | None]:
    from archshift.images.audit import suggest_newer

    wanted = [image.image for image in images if image.verdict in _CANNOT]
    return suggest_newer(wanted, audit_options(rules, evidence.pull_secrets)) if wanted else {}


def _write_metrics(path: Path, images: Iterable[ImageVerdict]) -> None:
    # A collector may read at any moment, so it must never see a partial file.
    try:
        replace_file(path, metrics(images))
    except OSError as error:
        raise ArchshiftError(f"--metrics: {path}: {error.strerror}") from None


def _print_tables(
    images: list[ImageVerdict],
    workloads: Mapping[str, WorkloadVerdict],
    suggestions: Mapping[str, str | None],
    notes: Iterable[str],
) -> None:
    out = console()
    order = {UNKNOWN: 1, AMD64_ONLY: 0, OTHER: 0}
    table = plain_table()
    for name in ("IMAGE", "VERDICT", "WHY"):
        table.add_column(name, overflow="fold")
    away: dict[str, list[ImageVerdict]] = {}
    for image in sorted(images, key=lambda image: (order.get(image.verdict, 2), image.image)):
        if image.away:
            away.setdefault(image.reason, []).append(image)
            continue
        why = image.reason or ", ".join(image.platforms)
        if suggestions.get(image.image):
            why += f"; {suggestions[image.image]} has arm64"
        table.add_row(image.image, image.verdict, why, style=None if image.runs_on_arm64 else "yellow")
    for reason, unread in away.items():
        # One registry that is away would fill the screen.
        names = first_few(unread, 3, name=lambda image: image.image)
        table.add_row(names, UNKNOWN, reason, style="yellow")
    out.print(table)
    blocked = {key: verdict for key, verdict in workloads.items() if not verdict.runs_on_arm64}
    if blocked:
        out.print()
        table = plain_table()
        for name in ("WORKLOAD", "VERDICT", "BLOCKED BY"):
            table.add_column(name, overflow="fold")
        waiting: dict[str, list[str]] = {}
        for key, verdict in blocked.items():
            main = verdict.main_blocking
            if main is not None and main.away:
                waiting.setdefault(main.cause, []).append(key)
            else:
                table.add_row(key, verdict.verdict, "; ".join(b.reason for b in verdict.blocking))
        for cause, keys in waiting.items():
            table.add_row(first_few(keys, 3), UNKNOWN, cause)
        out.print(table)
    for key, verdict in workloads.items():
        for note in verdict.notes:
            out.print(f"{key}: {note}", highlight=False, style="dim")
    for note in notes:
        out.print(note, highlight=False, style="dim")
    can = sum(image.runs_on_arm64 for image in images)
    unknown = sum(image.verdict == UNKNOWN for image in images)
    runs = "runs" if can == 1 else "run"
    line = f"{can} of {counted(len(images), 'image')} {runs} on arm64, {unknown} unknown"
    if workloads:
        line += f"; {len(workloads) - len(blocked)} of {counted(len(workloads), 'workload')} can move"
    out.print()
    out.print(line, style="bold")
