"""What happens to workloads every day: they are deleted, renamed, replaced, refused, and undone.

One workload's trouble is its own: all others go on, and nothing that archshift wrote stays behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from components.workload_patch import WorkloadPatch
from lab.control_plane import PROJECT, LabError
from tests.build import PREFERRED, REQUIRED
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups, stateful_set, wait_for
from tests.lab.ordinary import freeze, lift_freezes


@pytest.fixture
def steered(stack: Stack, namespace: str) -> Stack:
    """A stack at 0.5 that steers the namespace, with nodes but no workload."""
    return stack.config(
        {"node_groups": node_groups(2, 2), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.5"}
    )


def spec_of(cluster: Cluster, name: str, namespace: str, kind: str = "deployment") -> Manifest:
    """The whole spec as the API server has it."""
    spec: Manifest = cluster.get(kind, name, namespace)["spec"]
    return spec


def patched(stack: Stack) -> list[str]:
    """The names of the workloads that the stack's state has patches of."""
    return sorted(
        resource["urn"].rpartition("/")[2]
        for resource in stack.resources()
        if resource["type"] == WorkloadPatch.TYPE
    )


def up(stack: Stack) -> None:
    """An update that ends well and says nothing worse than a warning about pods."""
    done = stack.up()
    assert done.succeeded, done.output
    assert "error" not in done.output


def test_a_deleted_workload_is_the_most_boring_update(
    cluster: Cluster, steered: Stack, namespace: str
) -> None:
    """Deleted by its owner, then its namespace deleted: the update forgets it and moves the others."""
    other = cluster.namespace(f"{namespace}-other")
    steered.config({"workloads": {"namespaces": [namespace, other]}})
    cluster.apply([deployment(name, 4, namespace) for name in ("a", "b")])
    cluster.apply([deployment("c", 2, other), stateful_set("d", 2, other)])
    up(steered)
    assert patched(steered) == ["a", "b", "c", "d"]
    cluster.lab.kubectl("delete", "deployment", "b", f"--namespace={namespace}")
    cluster.lab.kubectl("delete", "namespace", other, "--wait=true")
    up(steered.config({"arm_ratio": "1.0"}))
    assert patched(steered) == ["a"]
    assert cluster.graviton_counts(namespace) == {"Deployment/a": 4}
    again = steered.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output


def test_a_workload_that_vanishes_before_its_patch_is_no_error_and_is_not_created(
    cluster: Cluster, steered: Stack, namespace: str
) -> None:
    """`pulumi refresh` forgets a patch whose workload is gone, and `up` does not make it anew."""
    cluster.apply([deployment(name, 2, namespace) for name in ("a", "b")])
    up(steered)
    cluster.lab.kubectl("delete", "deployment", "b", f"--namespace={namespace}")
    refreshed = steered.refresh()
    assert refreshed.succeeded, refreshed.output
    assert patched(steered) == ["a"]
    up(steered)
    assert [item["metadata"]["name"] for item in cluster.all_of("deployments", namespace)] == ["a"]


def test_renamed_made_anew_and_of_another_kind(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Three replacements in one update: each new workload is placed, and destroy gives it back."""
    cluster.apply([deployment(name, 4, namespace) for name in ("anew", "old-name", "kind")])
    up(steered)
    for name in ("anew", "old-name", "kind"):
        cluster.lab.kubectl("delete", "deployment", name, f"--namespace={namespace}")
    cluster.apply(
        [
            deployment("anew", 4, namespace),
            deployment("new-name", 4, namespace),
            stateful_set("kind", 4, namespace),
        ]
    )
    cluster.wait_until_settled(namespace)
    before = [
        spec_of(cluster, "anew", namespace),
        spec_of(cluster, "new-name", namespace),
        spec_of(cluster, "kind", namespace, "statefulset"),
    ]
    up(steered)
    assert patched(steered) == ["anew", "kind", "new-name"]
    assert cluster.graviton_counts(namespace) == {
        "Deployment/anew": 2,
        "Deployment/new-name": 2,
        "StatefulSet/kind": 2,
    }
    gone = steered.destroy()
    assert gone.succeeded, gone.output
    assert before == [
        spec_of(cluster, "anew", namespace),
        spec_of(cluster, "new-name", namespace),
        spec_of(cluster, "kind", namespace, "statefulset"),
    ]


def test_destroy_gives_back_what_is_there(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """With a workload gone, the others get their specs back to the byte, without the program."""
    cluster.apply([deployment(name, 4, namespace) for name in ("a", "b", "c")])
    before = {name: spec_of(cluster, name, namespace) for name in "ac"}
    up(steered)
    cluster.lab.kubectl("delete", "deployment", "b", f"--namespace={namespace}")
    gone = steered.destroy("--target=**WorkloadPatches**")
    assert gone.succeeded, gone.output
    assert {name: spec_of(cluster, name, namespace) for name in "ac"} == before
    assert patched(steered) == []


@pytest.mark.parametrize("manager", ["helm", None])
def test_a_forced_constraint_among_others_is_given_back(
    cluster: Cluster, steered: Stack, namespace: str, manager: str | None
) -> None:
    """An application's own spread over architectures between two others, applied in both ways."""
    selector = {"matchLabels": {"app.kubernetes.io/name": "web"}}
    spreads = [
        {"topologyKey": key, "whenUnsatisfiable": when, "maxSkew": 1, "labelSelector": selector}
        for key, when in (
            ("topology.kubernetes.io/zone", "ScheduleAnyway"),
            ("kubernetes.io/arch", "DoNotSchedule"),
            ("kubernetes.io/hostname", "ScheduleAnyway"),
        )
    ]
    cluster.apply(deployment("web", 4, namespace, topologySpreadConstraints=spreads), manager=manager)
    before = spec_of(cluster, "web", namespace)
    overrides = {f"{namespace}/Deployment/web": {"force": True, "reason": "its chart is frozen"}}
    workloads = {"namespaces": [namespace], "overrides": overrides}
    up(steered.config({"workloads": workloads, "arm_ratio": "0.75"}))
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 3}
    gone = steered.destroy("--target=**WorkloadPatches**")
    assert gone.succeeded, gone.output
    assert spec_of(cluster, "web", namespace) == before


def labelled(item: Manifest, **labels: str) -> Manifest:
    """The same workload with labels of its own."""
    item["metadata"]["labels"] = labels
    return item


def test_a_denied_patch_stops_no_other(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """What no plan can know: the others move, and the update ends with the policy's words."""
    names = [f"web-{number:02}" for number in range(12)]
    cluster.apply(deployment(name, 2, namespace) for name in names)
    cluster.apply(labelled(deployment("frozen", 2, namespace), change="frozen"))
    # The Deployment's controller writes the Deployment before it makes the pods, and may not do that later.
    wait_for(
        lambda: any(
            pod["metadata"]["name"].startswith("frozen-") for pod in cluster.all_of("pods", namespace)
        )
    )
    cluster.apply(freeze(namespace, dry_runs=False))
    # Its own attempts may still change the workload.
    wait_until_denied(cluster, "frozen", namespace)
    untouched = spec_of(cluster, "frozen", namespace)
    try:
        done = steered.up()
        assert not done.succeeded
        words = f"{namespace}/Deployment/frozen: its patch was refused"
        assert any(words in text and "a change freeze is on" in text for text in done.diagnostics), (
            done.output
        )
        counts = cluster.graviton_counts(namespace)
        # The scheduler alone decided where these are.
        counts.pop("Deployment/frozen")
        assert spec_of(cluster, "frozen", namespace) == untouched
        assert counts == {f"Deployment/{name}": 1 for name in names}
    finally:
        lift_freezes(cluster)
    up(steered)
    assert set(cluster.graviton_counts(namespace).values()) == {1}


def test_a_denied_give_back_stops_no_other(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Destroy gives back all others, ends with the policy's words, and works once the policy is gone."""
    names = [f"web-{number:02}" for number in range(30)]
    cluster.apply(deployment(name, 1, namespace) for name in names)
    cluster.apply(labelled(deployment(f"frozen-{n}", 1, namespace), change="frozen") for n in range(2))
    before = {name: spec_of(cluster, name, namespace) for name in names}
    up(steered)
    cluster.apply(freeze(namespace, dry_runs=False))
    wait_until_denied(cluster, "frozen-0", namespace)
    try:
        refused = steered.destroy("--target=**WorkloadPatches**")
        assert not refused.succeeded
        assert (
            f"{namespace}/Deployment/frozen-0: the API server refuses to give its fields back"
            in refused.output
        )
        assert {name: spec_of(cluster, name, namespace) for name in names} == before
        assert patched(steered) == ["frozen-0", "frozen-1"]
    finally:
        lift_freezes(cluster)
    done = steered.destroy("--target=**WorkloadPatches**")
    assert done.succeeded, done.output
    template = spec_of(cluster, "frozen-0", namespace)["template"]
    assert "affinity" not in template["spec"]
    assert "annotations" not in template["metadata"]


def wait_until_denied(cluster: Cluster, name: str, namespace: str) -> None:
    """The API server reads new policies a moment later."""

    limits = iter(range(1, 1000))

    def denied() -> bool:
        change = f'--patch={{"spec": {{"revisionHistoryLimit": {next(limits)}}}}}'
        try:
            cluster.lab.kubectl("patch", "deployment", name, f"--namespace={namespace}", change)
        except LabError as error:
            return "a change freeze is on" in str(error)
        return False

    wait_for(denied)


def own_null_fields(namespace: str) -> list[Manifest]:
    """Workloads whose placement fields somebody owns as null or as empty lists."""
    soft: Manifest = {"podAntiAffinity": {PREFERRED: []}}
    shapes: Mapping[str, Any] = {
        "null-required": {"affinity": {"nodeAffinity": {REQUIRED: None}}},
        "empty-preferred": {"affinity": {"nodeAffinity": {PREFERRED: []}}},
        "empty-tolerations": {"affinity": soft, "tolerations": []},
        "empty-affinity": {"affinity": {}},
        "empty-node-affinity": {"affinity": {"nodeAffinity": {}}},
    }
    return [deployment(name, 2, namespace, **pod_spec) for name, pod_spec in shapes.items()]


def test_fields_that_are_owned_but_empty_stop_no_other(
    cluster: Cluster, steered: Stack, namespace: str
) -> None:
    """Helm 4, Flux and Argo CD apply so. Each update moves all others, also after a give-back."""
    others = [deployment(f"web-{number}", 2, namespace) for number in range(6)]
    cluster.apply(own_null_fields(namespace), manager="helm")
    cluster.apply(others)
    for _ in range(2):
        done = steered.up()
        counts = cluster.graviton_counts(namespace)
        assert all(counts[f"Deployment/web-{number}"] == 1 for number in range(6)), done.output
        given_back = steered.destroy("--target=**WorkloadPatches**")
        assert given_back.succeeded, given_back.output


OLD_PROGRAM = """
import sys
import pulumi
from pulumi.runtime import config
sys.path.insert(0, {project!r})
import pulumi_kubernetes as k8s
from archshift.cluster.kinds import CONTROLLERS
from archshift.settings import stack as stack_settings
from archshift.survey import survey

values = {{**config.get_config_env(), **config.CONFIG.get()}}
settings = stack_settings.load(pulumi.get_stack(), values)
provider = k8s.Provider("cluster", context=settings.kube_context)
on_cluster = pulumi.ResourceOptions(provider=provider)
workloads = pulumi.ComponentResource("archshift:index:WorkloadPatches", "workloads", {{}}, on_cluster)
hook = pulumi.ResourceHook("archshift-restore-taken-fields", lambda args: None)
for row in survey(settings).plan.workloads:
    if row.patch is None:
        continue
    metadata = row.patch["metadata"]
    annotations = {{**metadata.get("annotations", {{}}), "pulumi.com/patchFieldManager": settings.mark}}
    hooks = pulumi.ResourceHookBinding()
    if row.forced:
        annotations["pulumi.com/patchForce"] = "true"
        hooks.before_delete = [hook]
    api = CONTROLLERS[row.kind].api_version
    pulumi.CustomResource(
        f"kubernetes:{{api}}:{{row.kind}}Patch",
        row.key,
        {{
            "apiVersion": api,
            "kind": row.kind,
            "metadata": {{**metadata, "annotations": annotations}},
            "spec": row.patch["spec"],
        }},
        pulumi.ResourceOptions(parent=workloads, hooks=hooks),
    )
"""
"""The patches as archshift 0.1.0 registers them."""


@pytest.mark.parametrize("step", ["0.5", "1.0"])
def test_a_stack_of_the_former_version_moves_on(
    cluster: Cluster, steered: Stack, namespace: str, step: str
) -> None:
    """The first update of this version, with a step or without: no restart but the step's, and the engine
    deletes the old resources. Then destroy leaves nothing, also of a forced field.
    """
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2)
    key = f"{namespace}/Deployment/forced"
    overrides = {key: {"force": True, "reason": "the chart is frozen"}}
    workloads = {"namespaces": [namespace], "overrides": overrides}
    steered.config({"node_groups": None, "workloads": workloads})
    zone = {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "Exists"}]}
    own = {"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 10, "preference": zone}]}}}
    cluster.apply([deployment("web", 4, namespace), stateful_set("db", 2, namespace)])
    cluster.apply(deployment("forced", 4, namespace, **own), manager="helm")
    kinds = {"web": "deployment", "forced": "deployment", "db": "statefulset"}
    before = {name: spec_of(cluster, name, namespace, kind) for name, kind in kinds.items()}
    (steered.folder / "__main__.py").write_text(OLD_PROGRAM.format(project=str(PROJECT)))
    arguments = steered.arguments("up", "--yes", "--skip-preview", "--non-interactive")
    done = steered.lab.run("pulumi", *arguments, cwd=steered.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait_until_settled(namespace)
    placed = {name: spec_of(cluster, name, namespace, kind) for name, kind in kinds.items()}
    assert all("archshift/revision" in str(spec) for spec in placed.values())
    pods = cluster.pod_names(namespace)
    up(steered.config({"arm_ratio": step}))
    assert patched(steered) == ["db", "forced", "web"]
    assert not [one for one in steered.resources() if one["type"].startswith("kubernetes:apps")]
    if step == "0.5":
        assert {name: spec_of(cluster, name, namespace, kind) for name, kind in kinds.items()} == placed
        assert cluster.pod_names(namespace) == pods
    counts = {"web": 2, "forced": 2, "db": 1} if step == "0.5" else {"web": 4, "forced": 4, "db": 2}
    graviton = cluster.graviton_counts(namespace)
    assert {name.partition("/")[2]: count for name, count in graviton.items()} == counts
    again = steered.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    gone = steered.destroy()
    assert gone.succeeded, gone.output
    assert {name: spec_of(cluster, name, namespace, kind) for name, kind in kinds.items()} == before


def test_another_cluster_changes_nothing(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """The stack remembers its cluster: preview, up and destroy refuse another one and say the way out."""
    cluster.apply([deployment(name, 2, namespace) for name in ("a", "b")])
    up(steered)
    uid = cluster.get("namespace", "kube-system")["metadata"]["uid"]
    elsewhere = "11111111-2222-3333-4444-555555555555"
    move_state(steered, uid, elsewhere)
    specs = {name: spec_of(cluster, name, namespace) for name in "ab"}
    cluster.lab.kubectl("delete", "deployment", "b", f"--namespace={namespace}")
    sentence = f"the cluster of this stack has the uid {elsewhere}, but the context"
    for run in (steered.preview(), steered.up()):
        assert not run.succeeded
        assert sentence in run.output
        assert f"pulumi config set cluster_uid {uid}" in run.output
        assert run.changes == {}
    refused = steered.destroy("--target=**WorkloadPatches**")
    assert not refused.succeeded
    assert sentence in refused.output
    assert spec_of(cluster, "a", namespace) == specs["a"]
    assert patched(steered) == ["a", "b"]
    up(steered.config({"cluster_uid": uid}))
    assert patched(steered) == ["a"]
    up(steered.config({"cluster_uid": None}))
    assert spec_of(cluster, "a", namespace) == specs["a"]


def move_state(stack: Stack, uid: str, elsewhere: str) -> None:
    """Make the stack's state one that was made on another cluster."""
    exported = stack.lab.run("pulumi", "stack", "export", f"--stack={stack.name}", cwd=stack.folder)
    assert uid in exported.stdout
    moved = exported.stdout.replace(uid, elsewhere)
    done = stack.lab.run("pulumi", "stack", "import", f"--stack={stack.name}", cwd=stack.folder, stdin=moved)
    assert done.returncode == 0, done.stderr
    assert json.loads(moved)["deployment"]["resources"]
