"""Where everything is proven x86 goes without friction; what appears at the last moment still stops it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab.control_plane import PROJECT, Lab
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import (
    NO_CAPACITY,
    NO_CHECK,
    NO_PROTECT,
    Guarded,
    changed,
    edited,
    guarded_cluster,
    legacy,
    with_image,
)
from tests.lab.lab_helpers import Manifest, daemon_set, deployment, persistent_volume

pytestmark = pytest.mark.timeout(900)

NO_X86: dict[str, Any] = {"x86": None}


@pytest.fixture(scope="module")
def proven(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The cluster and its stack, up: web on Graviton, three empty x86 nodes."""
    with guarded_cluster(control_plane, registry, push, tmp_path_factory.mktemp("proven")) as guarded:
        guarded.up()
        yield guarded


@pytest.fixture(autouse=True)
def from_the_start(proven: Guarded) -> Iterator[None]:
    """Bring the stack back to where every test starts."""
    proven.restore()
    yield
    proven.door.clear()


def remove_x86(proven: Guarded) -> None:
    """Take the group out of the config."""
    proven.stack.config({"node_groups": changed(proven, NO_X86)})


def gone(proven: Guarded, kind: str, name: str) -> None:
    """Delete a workload and wait until its pods are gone."""
    lab = proven.cluster.lab
    where = f"--namespace={proven.namespace}"
    lab.kubectl("delete", kind, name, where)
    # At once: the simulated kubelet that would see a pod off may have gone with its node.
    pods = ["delete", "pods", f"--selector=app.kubernetes.io/name={name}", where]
    lab.kubectl(*pods, "--force", "--grace-period=0", "--wait=false")
    deadline = time.monotonic() + 60
    while any(pod["metadata"]["name"].startswith(name) for pod in proven.cluster.all_of("pods")):
        assert time.monotonic() < deadline, f"pods of {name} stay"
        time.sleep(0.3)


def bare_pod(proven: Guarded) -> Manifest:
    """A pod that nobody owns."""
    container = {"name": "app", "image": "to be set"}
    metadata = {"name": "late", "namespace": proven.namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def cron_job(proven: Guarded) -> Manifest:
    """A CronJob that runs once a year."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "to be set"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "late", "namespace": proven.namespace},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    }


def with_init(proven: Guarded, **options: Any) -> Manifest:
    """A proven Deployment with one more init container, which is not."""
    made = with_image(deployment("late", 1, proven.namespace), proven.images["web"])
    init = {"name": "setup", "image": proven.images["legacy"], **options}
    made["spec"]["template"]["spec"]["initContainers"] = [init]
    return made


USERS: dict[str, Callable[[Guarded], Manifest]] = {
    "a bare pod": lambda proven: with_image(bare_pod(proven), proven.images["legacy"]),
    "a CronJob that is not running": lambda proven: with_image(cron_job(proven), proven.images["legacy"]),
    "a Deployment scaled to zero": lambda proven: with_image(
        deployment("late", 0, proven.namespace), proven.images["legacy"]
    ),
    "a DaemonSet": lambda proven: with_image(
        daemon_set("late", proven.namespace, nodeSelector={"pool": "main"}), proven.images["legacy"]
    ),
    "an init container": with_init,
    "a sidecar": lambda proven: with_init(proven, restartPolicy="Always"),
}


@pytest.mark.parametrize("user", USERS)
def test_the_only_amd64_only_user(proven: Guarded, user: str) -> None:
    """Each of them alone keeps x86, although nothing of it may be running now."""
    manifest = USERS[user](proven)
    proven.cluster.apply(manifest)
    try:
        remove_x86(proven)
        run = proven.stack.preview()
        proven.record(f"{user} is the only user of an amd64-only image", run)
        assert f"{proven.namespace}/{manifest['kind']}/late (" in run.output
    finally:
        gone(proven, manifest["kind"].lower(), "late")


RUNTIME_CLASS = "guard-x86"
VOLUME = "guard-x86"


def parked(proven: Guarded, name: str, **pod_spec: Any) -> Manifest:
    """A Deployment of 0 replicas whose image is proven."""
    return with_image(deployment(name, 0, proven.namespace, **pod_spec), proven.images["web"])


def only_on_x86(proven: Guarded) -> dict[str, Manifest]:
    """Workloads with a proven image that no Graviton node can run, by what is in the way. None has a pod."""
    selector = {"node.kubernetes.io/instance-type": "m6i.xlarge"}
    monthly = cron_job(proven)
    monthly["metadata"]["name"] = "selected"
    monthly["spec"]["jobTemplate"]["spec"]["template"]["spec"]["nodeSelector"] = selector
    device = parked(proven, "device")
    resources = {"limits": {"example.com/gpu": 1}, "requests": {"example.com/gpu": 1}}
    device["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": VOLUME}}
    return {
        "an instance type in a CronJob's node selector": with_image(monthly, proven.images["web"]),
        "a RuntimeClass": parked(proven, "sandboxed", runtimeClassName=RUNTIME_CLASS),
        "a device": device,
        "a volume": parked(proven, "bound", volumes=[claim]),
        "a node name": parked(proven, "named", nodeName="x86-0"),
    }


def what_they_need(proven: Guarded) -> list[Manifest]:
    """The RuntimeClass, and a claim whose volume is on the disk of an x86 node."""
    where = ("kubernetes.io/hostname", "x86-0")
    claim = {"namespace": proven.namespace, "name": VOLUME}
    return [
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": RUNTIME_CLASS},
            "handler": "runsc",
            "scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64"}},
        },
        persistent_volume(VOLUME, VOLUME, where, claimRef=claim, local={"path": "/mnt/ssd"}),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": claim,
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": VOLUME,
                "volumeName": VOLUME,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ]


def test_what_only_x86_nodes_can_run(proven: Guarded) -> None:
    """Their images are proven and nothing of them runs, but without x86 they never could again."""
    lab = proven.cluster.lab
    gpus = [
        {"op": "add", "path": f"/status/{part}/example.com~1gpu", "value": "1"}
        for part in ("capacity", "allocatable")
    ]
    patch = ["patch", "node", "x86-0", "--subresource=status", "--type=json"]
    needing = only_on_x86(proven)
    lab.kubectl(*patch, f"--patch={json.dumps(gpus)}")
    proven.cluster.apply([*what_they_need(proven), *needing.values()])
    try:
        remove_x86(proven)
        run = proven.stack.preview()
        # A refusal names the first five.
        for what, manifest in needing.items():
            proven.record(f"{what} is the only reason for x86", run)
            key = f"{proven.namespace}/{manifest['kind']}/{manifest['metadata']['name']}"
            assert f"{key} (no Graviton node " in run.output, run.output
    finally:
        for manifest in needing.values():
            gone(proven, manifest["kind"].lower(), manifest["metadata"]["name"])
        undone = [{**change, "op": "remove"} for change in gpus]
        lab.kubectl(*patch, f"--patch={json.dumps(undone)}")
        lab.kubectl("delete", "pvc", VOLUME, f"--namespace={proven.namespace}", "--wait=false")
        lab.kubectl("delete", "pv", VOLUME, "--wait=false")
        lab.kubectl("delete", "runtimeclass", RUNTIME_CLASS)


def test_a_workload_that_is_another_stacks(proven: Guarded) -> None:
    """Two stacks on one cluster: this one's x86 nodes carry a workload that it does not steer."""
    other = proven.cluster.namespace(f"{proven.namespace}-other")
    late = with_image(deployment("late", 1, other), proven.images["legacy"])
    proven.cluster.apply(late)
    try:
        remove_x86(proven)
        run = proven.stack.preview()
        proven.record("a workload outside archshift:workloads needs it (two stacks on one cluster)", run)
        assert f"{other}/Deployment/late (" in run.output
    finally:
        proven.cluster.lab.kubectl("delete", "namespace", other)


def test_an_image_that_appears_between_preview_and_up(proven: Guarded) -> None:
    """The preview was fine; the update looks again."""
    remove_x86(proven)
    preview = proven.stack.preview()
    assert preview.succeeded, preview.output
    assert preview.changes == {"delete": 3}
    proven.cluster.apply(legacy(proven))
    proven.cluster.wait_until_settled(proven.namespace)
    before = proven.alive()
    try:
        proven.record("an amd64-only image appears between preview and up", proven.stack.up())
        assert proven.alive() == before
    finally:
        gone(proven, "deployment", "legacy")


def test_the_registry_is_down(proven: Guarded) -> None:
    """What was proven yesterday is not proven now: the last question is asked of the registry itself."""
    remove_x86(proven)
    before = proven.alive()
    proven.door.answer(".*", 503)
    proven.record("the registry is down during the check", proven.stack.up())
    assert proven.alive() == before


def test_the_cluster_is_down(proven: Guarded) -> None:
    """A cluster that cannot be read stops the run before anything is deleted."""
    remove_x86(proven)
    before = proven.alive()
    proven.cluster.lab.kill("kube-apiserver")
    run = proven.stack.up()
    proven.cluster.lab.start()
    assert "the cluster cannot be reached" in run.output
    proven.record("the cluster is unreachable during the check", run)
    assert proven.alive() == before


def database(proven: Guarded) -> sqlite3.Connection:
    """The evidence that is kept between runs."""
    return sqlite3.connect(proven.cache / "archshift" / "images-1.sqlite")


def forge(proven: Guarded) -> None:
    """Make the kept evidence say of every image what it says of the proven one."""
    with closing(database(proven)) as kept, kept:
        (good,) = kept.execute(
            "SELECT value FROM evidence WHERE kind LIKE 'image-%' AND key LIKE '%/guard/web@%'"
        ).fetchone()
        changed_rows = kept.execute(
            "UPDATE evidence SET value = ? WHERE kind LIKE 'image-%' AND key LIKE '%/guard/legacy@%'", (good,)
        ).rowcount
        assert changed_rows == 1


def age(proven: Guarded) -> None:
    """Make the kept evidence a year old."""
    with closing(database(proven)) as kept, kept:
        assert kept.execute("UPDATE evidence SET checked_at = checked_at - 31536000").rowcount


def truncate(proven: Guarded) -> None:
    """Cut the file of the kept evidence in half."""
    path = proven.cache / "archshift" / "images-1.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TAMPERED: dict[str, Callable[[Guarded], object]] = {
    "deleted": lambda proven: shutil.rmtree(proven.cache / "archshift"),
    "aged": age,
    "truncated": truncate,
    "forged": forge,
}


def test_evidence_that_somebody_has_been_at(proven: Guarded) -> None:
    """Kept evidence only saves work. Forged, it fools the program's check and lifts the protection, and
    the hook asks the registry (the check of the capacity, which would stop it too, is edited away).
    """
    credulous = f"--cwd={edited(proven, NO_CAPACITY)}"
    unselective = legacy(proven)
    # Its selector alone would keep x86, whatever the evidence says.
    del unselective["spec"]["template"]["spec"]["nodeSelector"]
    proven.cluster.apply(unselective)
    proven.cluster.wait_until_settled(proven.namespace)
    proven.up()
    try:
        for attempt, tamper in TAMPERED.items():
            proven.restore()
            tamper(proven)
            if attempt == "forged":
                lifted = proven.up()
                assert "nothing needs x86 any more" in lifted.output
            before = proven.alive()
            remove_x86(proven)
            run = proven.stack.up(*([credulous] if attempt == "forged" else []))
            proven.record(f"kept evidence is {attempt}", run)
            assert proven.alive() == before
    finally:
        shutil.rmtree(proven.cache / "archshift", ignore_errors=True)
        gone(proven, "deployment", "legacy")


def glass(until: datetime) -> dict[str, str]:
    return {"until": until.isoformat(), "reason": "region is lost", "ticket": "OPS-7"}


def test_break_glass(proven: Guarded) -> None:
    """Ended or too far ahead it has no effect and says so; in force, it lets x86 go, loudly, and the state
    keeps who wanted it until when.
    """
    now = datetime.now(UTC)
    proven.cluster.apply(legacy(proven))
    proven.cluster.wait_until_settled(proven.namespace)
    proven.up()
    before = proven.alive()
    remove_x86(proven)
    ended = proven.stack.config({"break_glass": glass(now - timedelta(minutes=1))}).up()
    proven.record("break-glass that has ended", ended)
    assert "ended, so it has no effect; remove it or set a new time" in ended.output
    ahead = proven.stack.config({"break_glass": glass(now + timedelta(hours=25))}).up()
    proven.record("break-glass for more than 24 hours", ahead)
    assert "is more than 24 hours ahead, so it has no effect" in ahead.output
    assert proven.alive() == before

    proven.restore()
    in_force = glass(datetime.now(UTC) + timedelta(hours=1))
    lifted = proven.stack.config({"break_glass": in_force}).up()
    assert lifted.succeeded, lifted.output
    assert "BREAK GLASS until" in lifted.output
    assert "x86 is not guarded. Reason: region is lost; ticket OPS-7" in lifted.output
    remove_x86(proven)
    removed = proven.stack.up()
    assert removed.succeeded, removed.output
    assert proven.alive()["nodes"] == {}
    (kept,) = [one for one in proven.stack.resources() if one["type"] == "archshift:index:Exceptions"]
    assert kept["outputs"]["breakGlass"]["ticket"] == "OPS-7"
    gone(proven, "deployment", "legacy")
    proven.restore()
    proven.up()


def test_what_is_proven_goes_without_friction(proven: Guarded) -> None:
    """The last amd64-only workload goes: one update lifts the protection and says so, the next removes
    x86.
    """
    proven.cluster.apply(legacy(proven))
    proven.cluster.wait_until_settled(proven.namespace)
    proven.up()
    assert protected(proven) == {"x86-0", "x86-1"}
    gone(proven, "deployment", "legacy")
    lifted = proven.up()
    assert "nothing needs x86 any more: this update unprotects the x86 nodes" in lifted.output
    assert protected(proven) == set()
    remove_x86(proven)
    preview = proven.stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {"delete": 3}), preview.output
    # As a pull request's pipeline runs it.
    checked = proven.stack.preview(f"--policy-pack={PROJECT / 'policies'}")
    assert (checked.exit_code, checked.changes) == (0, {"delete": 3}), checked.output
    removed = proven.up()
    assert removed.changes == {"delete": 3}
    assert proven.alive()["nodes"] == {}
    assert proven.cluster.graviton_counts(proven.namespace) == {"Deployment/web": 4}
    proven.restore()
    proven.up()


def protected(proven: Guarded) -> set[str]:
    """Names of the protected resources."""
    return {one["urn"].rsplit("::", 1)[1] for one in proven.stack.resources() if one.get("protect")}


def test_an_edited_program_at_the_last_moment(proven: Guarded) -> None:
    """No check, no protection, no pack: the hook alone stops a real update that would delete the nodes."""
    proven.cluster.apply(legacy(proven))
    proven.cluster.wait_until_settled(proven.namespace)
    program = edited(proven, NO_CHECK, NO_CAPACITY, NO_PROTECT)
    done = proven.stack.up(f"--cwd={program}")
    assert done.succeeded, done.output
    assert protected(proven) == set()
    before = proven.alive()
    try:
        remove_x86(proven)
        run = proven.stack.up(f"--cwd={program}")
        proven.record("edit the program: no check and no protection, then remove it", run)
        assert proven.alive() == before
    finally:
        gone(proven, "deployment", "legacy")
