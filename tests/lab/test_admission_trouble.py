"""Placement at admission on bad days: updates that die, and owners who do things in the middle of a step."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import Lab
from lab.restarts import Pods, had_to_move, read_pods, restarted
from lab.stack import kill_with_children
from tests.images.build import Pusher, elf, layer
from tests.images.servers import Registry
from tests.lab.accounts import ACCOUNT, role
from tests.lab.exact import expect_exact
from tests.lab.guard_matrix import with_image
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups, stateful_set, wait_for
from tests.lab.ordinary import Place, place, planned_rows, went_well

SIZES = (4, 5, 7, 9, 12, 16)


def fleet(namespace: str) -> list[Manifest]:
    items = [deployment(f"web-{size}", size, namespace) for size in SIZES]
    return [*items, stateful_set("db", 6, namespace)]


@pytest.fixture
def steered(stack: Stack, namespace: str) -> Iterator[Stack]:
    """A stack that places at admission; it has made its x86 nodes, and nothing runs there yet."""
    groups = node_groups()
    settings = {"images": {"check": False}, "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.0"}
    went_well(stack.config({**settings, "node_groups": {"x86": groups["x86"]}}).up())
    yield stack.config({**settings, "node_groups": groups, "placement": "admission"})
    stack.destroy()


def killed(stack: Stack, when: Callable[[], Any]) -> None:
    """`pulumi up`, killed with all it started as soon as something is so; the lock is released."""
    run = stack.begin_up()
    try:
        deadline = time.monotonic() + 120
        while not when():
            assert run.poll() is None, f"the update ended before: {run.communicate()[0]}"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill_with_children(run.pid)
        run.communicate()
    stack.cancel()


def steps(cluster: Cluster) -> list[str]:
    text = "{.items[*].metadata.annotations['archshift/step']}"
    return cluster.lab.kubectl("get", "mutatingadmissionpolicies", f"--output=jsonpath={text}").split()


def begins_a_policy(stack: Stack) -> bool:
    """Whether the engine has begun to change a policy in its last run."""
    log = max(stack.folder.glob("*.events.jsonl"), key=lambda path: path.stat().st_mtime)
    return any(
        "resourcePreEvent" in line and "MutatingAdmissionPolicy::" in line and '"op":"update"' in line
        for line in log.read_text().splitlines()
    )


def have_changed(cluster: Cluster, known: list[str]) -> bool:
    """Whether a policy was made or changed after that."""
    return steps(cluster) != known


def move(cluster: Cluster, namespace: str, before: int) -> bool:
    """Whether some pods have moved."""
    return abs(sum(cluster.graviton_counts(namespace).values()) - before) >= 4


def moved_and_restarted(stack: Stack, before: Pods, after: Pods) -> tuple[int, int]:
    rows = [{"workload": row["workload"], "wanted": row["wanted"]} for row in planned_rows(stack).values()]
    return sum(had_to_move(row, before) for row in rows), sum(restarted(row, before, after) for row in rows)


def test_an_update_killed_anywhere_is_gone_on_with(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Each next update is exact, and only the pods restart that had to move."""
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    for ratio, phase in (("0.3", "changed"), ("0.6", "begins"), ("0.9", "changed"), ("0.4", "moving")):
        before, known = read_pods(cluster.lab), steps(cluster)
        phases: dict[str, Callable[[], Any]] = {
            "begins": partial(begins_a_policy, steered),
            "changed": partial(have_changed, cluster, known),
            "moving": partial(move, cluster, namespace, sum(cluster.graviton_counts(namespace).values())),
        }
        killed(steered.config({"arm_ratio": ratio}), phases[phase])
        went_well(steered.up())
        expect_exact(cluster, steered, namespace, float(ratio))
        moved, again = moved_and_restarted(steered, before, read_pods(cluster.lab))
        assert 0 < moved == again, phase
        assert went_well(steered.up()).changes == {}, phase


@pytest.mark.parametrize("placement", ["patches", "admission"])
def test_a_target_after_new_nodes_keeps_the_state_readable(
    cluster: Cluster, stack: Stack, namespace: str, placement: str
) -> None:
    """The engine writes what is not a target as it was, and a dependency on later nodes breaks its state."""
    cluster.apply(fleet(namespace))
    groups = node_groups()
    settings = {"workloads": {"namespaces": [namespace]}, "placement": placement, "arm_ratio": "0.0"}
    went_well(stack.config({**settings, "node_groups": {"x86": groups["x86"]}}).up())
    cluster.wait_until_settled(namespace)
    went_well(stack.config({"node_groups": groups, "arm_ratio": "0.3"}).up())
    before = read_pods(cluster.lab)
    went_well(stack.config({"arm_ratio": "0.6"}).up("--target=**NodeGroups**"))
    assert read_pods(cluster.lab) == before
    went_well(stack.up())
    expect_exact(cluster, stack, namespace, 0.6)
    stack.destroy()


def test_an_api_server_that_dies_in_the_middle_costs_no_pod(
    cluster: Cluster, steered: Stack, namespace: str
) -> None:
    """It comes back with the policies; this update or the next one ends exact, and few pods move twice."""
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    went_well(steered.config({"arm_ratio": "0.2"}).up())
    before = read_pods(cluster.lab)
    there = sum(cluster.graviton_counts(namespace).values())
    step = steered.config({"arm_ratio": "0.8"}).begin_up()
    wait_for(partial(move, cluster, namespace, there))
    assert step.poll() is None, "the update ended before"
    cluster.lab.kill("kube-apiserver")
    time.sleep(2)
    cluster.lab.start()
    output, _ = step.communicate(timeout=300)
    print(step.returncode, output)
    went_well(steered.up())
    expect_exact(cluster, steered, namespace, 0.8)
    moved, again = moved_and_restarted(steered, before, read_pods(cluster.lab))
    assert moved <= again <= 1.1 * moved + 1


# --- owners in the middle of a step ---


def meanwhile_in_a_step(stack: Stack, when: Callable[[], Any], what: Callable[[], object]) -> str:
    """`pulumi up`, and what an owner does as soon as something is so; returns its output."""
    step = stack.begin_up()
    wait_for(when)
    assert step.poll() is None, "the update ended before"
    what()
    output, _ = step.communicate(timeout=300)
    assert step.returncode == 0, output
    return output


def test_owners_do_things_in_the_middle(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Of what they delete or scale, the update says so; the next one is exact."""
    kubectl, where = cluster.lab.kubectl, f"--namespace={namespace}"
    other = cluster.namespace(f"{namespace}-b")
    cluster.apply([*fleet(namespace), deployment("cart", 6, other)])
    for each in (namespace, other):
        cluster.wait_until_settled(each)
    # One of these namespaces does not exist.
    steered.config({"workloads": {"namespaces": [namespace, other, f"{namespace}-c"]}, "arm_ratio": "0.3"})
    went_well(steered.up())

    def delete_and_scale() -> None:
        kubectl("delete", "deployment", "web-12", where, "--wait=false")
        cluster.scale("deployment", "web-16", namespace, 24)

    known = steps(cluster)
    steered.config({"arm_ratio": "0.6"})
    output = meanwhile_in_a_step(steered, partial(have_changed, cluster, known), delete_and_scale)
    assert "Deployment/web-12: it was deleted during the step" in output
    assert "Deployment/web-16: it now has 24 replicas, but the plan was for 16" in output
    cluster.wait_until_settled(namespace)
    went_well(steered.up())
    known = steps(cluster)
    steered.config({"arm_ratio": "0.9"})
    output = meanwhile_in_a_step(
        steered,
        partial(have_changed, cluster, known),
        lambda: kubectl("delete", "namespace", other, "--wait=false"),
    )
    assert "Deployment/cart: its namespace is being deleted" in output
    assert "not allowed" not in output
    wait_for(lambda: other not in kubectl("get", "namespaces"))
    went_well(steered.up())
    expect_exact(cluster, steered, namespace, 0.9)
    assert went_well(steered.up()).changes == {}


def test_a_second_stack_for_the_same_workloads_is_refused(
    cluster: Cluster, steered: Stack, namespace: str, tmp_path: Path
) -> None:
    """Before it evicts a pod: the API server would follow the first policy alone."""
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    went_well(steered.config({"arm_ratio": "0.2"}).up())
    before = cluster.pod_names(namespace)
    second = Stack(cluster.lab, tmp_path / "second", f"test-{uuid.uuid4().hex[:8]}")
    settings = {"workloads": {"namespaces": [namespace]}, "arm_ratio": "0.8", "placement": "admission"}
    refused = second.config(settings).up()
    assert not refused.succeeded
    assert f"the stack {steered.name} places {namespace}/Deployment/web-12" in refused.output
    assert cluster.pod_names(namespace) == before
    # With a workload for each, they share the namespace.
    both = {"namespaces": [namespace], "exclude": [f"{namespace}/Deployment/web-16"]}
    went_well(steered.config({"workloads": both}).up())
    others = [f"{namespace}/Deployment/web-{size}" for size in SIZES if size != 16]
    shared = {"namespaces": [namespace], "exclude": [*others, f"{namespace}/StatefulSet/db"]}
    went_well(second.config({"workloads": shared}).up())
    assert cluster.graviton_counts(namespace)["Deployment/web-16"] == 13
    assert went_well(steered.up()).changes == {}
    second.destroy()
    second.remove()


# --- images and rights ---


@pytest.fixture
def shop(control_plane: Lab, registry: Registry, push: Pusher, tmp_path: Path) -> Iterator[Place]:
    """A cluster whose images archshift reads."""
    with place(control_plane, registry, push, tmp_path) as made:
        yield made


def begun(shop: Place, *items: Manifest) -> Stack:
    """A stack that places these workloads at admission, all on x86."""
    groups = node_groups()
    stack = shop.stack(node_groups={"x86": groups["x86"]}, arm_ratio="0.0")
    went_well(stack.up())
    shop.cluster.apply(items)
    shop.cluster.wait_until_settled(shop.namespace)
    went_well(stack.config({"node_groups": groups, "placement": "admission"}).up())
    return stack


def failing(manifest: Manifest) -> Manifest:
    """The same workload, whose containers crash on Graviton."""
    environment = [{"name": "LAB_OUTCOME", "value": "fail-on-graviton"}]
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = environment
    return manifest


def repaired(shop: Place, push: Pusher) -> str:
    """Push another image than `web`, for both architectures, and return its reference."""
    made = []
    for machine in ("amd64", "arm64"):
        files = layer({"app": elf(machine), "change": b"repaired"})
        entry = {"Entrypoint": ["/app"]}
        made.append(push.image("ordinary/web", "", f"linux/{machine}", layers=[files], config=entry))
    push.index("ordinary/web", "2.0.0", made)
    return shop.images["web"].replace(":1.0.0", ":2.0.0")


def test_a_canary_that_fails_holds_its_workload_until_its_image_changes(shop: Place, push: Pusher) -> None:
    """The update names the container and its words, and moves others. Then plan, status and report say so.

    With the other placement the workload stays held too. A destroy leaves no evidence.
    """
    namespace, cluster = shop.namespace, shop.cluster
    items = [shop.with_image(deployment(name, 8, namespace), "web") for name in ("bad", "good")]
    stack = begun(shop, failing(items[0]), items[1]).config({"arm_ratio": "0.5"})
    words = "container app: CrashLoopBackOff, exec /app: exec format error, exit code 1"
    step = stack.up()
    assert step.exit_code == 1
    assert (
        f"{namespace}/Deployment/bad: it failed on Graviton ({words}); its pods are back on x86"
        in step.output
    )
    assert f"{namespace}/Deployment/good: " not in step.output
    assert cluster.graviton_counts(namespace) == {"Deployment/bad": 0, "Deployment/good": 4}
    page = stack.folder / "report.html"
    assert stack.archshift("report", "--html", str(page)).returncode == 0
    # Without a terminal, the tables have 80 columns.
    wide = {"COLUMNS": "300"}
    tables = [stack.archshift(command, environment=wide).stdout for command in ("plan", "status")]
    shown = [page.read_text(), *tables]
    for text in shown:
        assert f"failed on Graviton: {words}" in " ".join(text.split())
        assert "a new image lifts this" in " ".join(text.split())
    before = cluster.pod_names(namespace)
    went_well(stack.up())
    assert cluster.pod_names(namespace) == before
    went_well(stack.config({"placement": "patches"}).up())
    assert cluster.graviton_counts(namespace) == {"Deployment/bad": 0, "Deployment/good": 4}
    assert f"failed on Graviton: {words}" in " ".join(
        stack.archshift("plan", environment=wide).stdout.split()
    )
    cluster.apply(with_image(deployment("bad", 8, namespace), repaired(shop, push)))
    cluster.wait_until_settled(namespace)
    went_well(stack.up())
    assert cluster.graviton_counts(namespace) == {"Deployment/bad": 4, "Deployment/good": 4}
    targets = [f"--target=**{resource}**" for resource in ("WorkloadPatches", "FailedCanaries")]
    went_well(stack.destroy("--run-program", "--target-dependents", *targets))
    assert "archshift-canaries" not in cluster.lab.kubectl("get", "configmaps", f"--namespace={namespace}")


def test_a_new_workload_waits_for_its_proof_on_x86(shop: Place) -> None:
    """Between two updates it starts there, whatever its image is; without x86 nodes, on Graviton."""
    namespace, cluster = shop.namespace, shop.cluster
    stack = begun(shop, shop.with_image(deployment("web", 8, namespace), "web")).config({"arm_ratio": "1.0"})
    went_well(stack.up())
    new = [shop.with_image(deployment(name, 6, namespace), name) for name in ("legacy", "web")]
    new[1]["metadata"]["name"] = "fresh"
    cluster.apply(new)
    cluster.wait_until_settled(namespace)
    assert cluster.graviton_counts(namespace) == {
        "Deployment/web": 8,
        "Deployment/legacy": 0,
        "Deployment/fresh": 0,
    }
    went_well(stack.up())
    assert cluster.graviton_counts(namespace)["Deployment/legacy"] == 0
    assert cluster.graviton_counts(namespace)["Deployment/fresh"] == 6
    graviton = {"graviton": node_groups()["graviton"]}
    refused = stack.config({"node_groups": graviton}).up()
    assert not refused.succeeded
    assert f"x86 capacity stays: 1 workload needs x86: {namespace}/Deployment/legacy" in refused.output
    stack.config({"node_groups": node_groups()})
    cluster.lab.kubectl("delete", "deployment", "legacy", f"--namespace={namespace}")
    wait_for(lambda: "Deployment/legacy" not in cluster.pod_counts(namespace))
    drained = stack.archshift("drain")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert "until then, pods of new workloads stay pending" in " ".join(drained.stdout.split())
    went_well(stack.up())  # takes the protection from the x86 nodes
    went_well(stack.config({"node_groups": graviton}).up())
    cluster.apply(shop.with_image(deployment("late", 3, namespace), "web"))
    cluster.wait_until_settled(namespace)
    assert cluster.graviton_counts(namespace)["Deployment/late"] == 3


def documented_rights(stack: Stack) -> list[Manifest]:
    """What docs/permissions.md lists for placement at admission, without what it calls optional."""
    admission = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]
    evidence = {"resourceNames": [f"archshift-canaries-{stack.name}"]}
    rows: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("apps", ["deployments", "statefulsets", "daemonsets"], "get list patch", {}),
        ("batch", ["cronjobs"], "get list patch", {}),
        ("", ["pods", "limitranges", "persistentvolumeclaims", "persistentvolumes"], "list", {}),
        ("autoscaling", ["horizontalpodautoscalers"], "list", {}),
        ("node.k8s.io", ["runtimeclasses"], "list", {}),
        ("storage.k8s.io", ["storageclasses", "csidrivers"], "list", {}),
        ("", ["namespaces"], "list", {}),
        ("", ["namespaces"], "get", {"resourceNames": ["kube-system"]}),
        ("", ["pods/eviction", "configmaps"], "create", {}),
        ("", ["configmaps"], "get patch delete", evidence),
        ("admissionregistration.k8s.io", admission, "list get watch create patch delete", {}),
        # The lab's nodes are resources of the stack.
        ("", ["nodes"], "get list watch create patch delete", {}),
    ]
    return [
        {"apiGroups": [group], "resources": resources, "verbs": verbs.split(), **more}
        for group, resources, verbs, more in rows
    ]


def test_the_documented_rights_are_enough(
    shop: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For steps up and down, a canary that fails and its evidence; doctor finds no problem."""
    namespace, cluster, lab = shop.namespace, shop.cluster, shop.cluster.lab
    bad = failing(shop.with_image(deployment("bad", 4, namespace), "web"))
    others = [
        shop.with_image(deployment(name, size, namespace), "web") for name, size in (("one", 1), ("web", 8))
    ]
    stack = begun(shop, bad, *others)
    account = {"name": ACCOUNT, "namespace": "default"}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
            *role("ClusterRole", stack.name, None, documented_rights(stack)),
        ]
    )
    config = yaml.safe_load(lab.kubeconfig.read_text())
    token = lab.kubectl("create", "token", ACCOUNT, "--namespace=default").strip()
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    environment = {**lab.process_environment(), "KUBECONFIG": str(kubeconfig)}
    with monkeypatch.context() as patch:
        patch.setattr(lab, "process_environment", lambda: environment)
        step = stack.config({"arm_ratio": "1.0"}).up()
        assert "Deployment/bad: it failed on Graviton" in step.output
        assert "could not be kept" not in step.output
        went_well(stack.up())
        rights = json.loads(stack.archshift("doctor", "--json").stdout)["findings"]
        assert [one for one in rights if one["outcome"] == "problem"] == []
        assert {one["check"]: one["outcome"] for one in rights}["rights: failed canaries"] == "ok"
        assert cluster.graviton_counts(namespace) == {
            "Deployment/bad": 0,
            "Deployment/one": 1,
            "Deployment/web": 8,
        }
        went_well(stack.config({"arm_ratio": "0.5"}).up())
        targets = [f"--target=**{resource}**" for resource in ("PlacementPolicy", "FailedCanaries")]
        went_well(stack.destroy("--run-program", *targets))
    assert "archshift-canaries" not in lab.kubectl("get", "configmaps", f"--namespace={namespace}")
    lab.kubectl("delete", f"clusterrole/{stack.name}", f"clusterrolebinding/{stack.name}")
    lab.kubectl("delete", "serviceaccount", ACCOUNT, "--namespace=default")
