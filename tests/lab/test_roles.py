"""The roles that `archshift rbac` prints, on the real API server: what they allow, and what not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.cluster.client import APPLY, MERGE, RefusedError, connect
from archshift.cluster.client import Cluster as Client
from archshift.cluster.lease import lease_name
from lab.control_plane import CONTEXT, Lab
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups
from tests.lab.ordinary import went_well

pytestmark = pytest.mark.timeout(900)

USERS = ("looking", "deploying", "rebalancing")


@pytest.fixture
def users(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A kubeconfig for each role. All ServiceAccounts of a namespace are one group."""
    files = {}
    for name in USERS:
        space = cluster.namespace(f"user-{name}")
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "me", "namespace": space},
        }
        cluster.apply(account)
        token = cluster.lab.kubectl("create", "token", "me", f"--namespace={space}").strip()
        config = yaml.safe_load(cluster.lab.kubeconfig.read_text())
        config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
        files[name] = tmp_path / name
        files[name].write_text(yaml.safe_dump(config))
    yield files
    cluster.lab.kubectl(
        "delete",
        "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings",
        "--selector=archshift-test=roles",
    )


@pytest.fixture
def become(
    cluster: Cluster, users: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """Runs the engine and archshift as one of the users from now on; empty for the administrator."""
    lab: Lab = cluster.lab
    usual = lab.process_environment()
    with monkeypatch.context() as patch:

        def use(name: str) -> None:
            more = {"KUBECONFIG": str(users[name])} if name else {}
            patch.setattr(lab, "process_environment", lambda: {**usual, **more})

        yield use


def grant(cluster: Cluster, stack: Stack) -> None:
    """Applies what `archshift rbac` prints."""
    groups = [f"--{name}-group=system:serviceaccounts:user-{name}" for name in USERS]
    printed = stack.archshift("rbac", *groups)
    assert printed.returncode == 0, printed.stderr
    manifests = [*yaml.safe_load_all(printed.stdout)]
    for manifest in manifests:
        manifest["metadata"]["labels"] = {"archshift-test": "roles"}
    cluster.apply(manifests)


def refusal(ask: Callable[[], Any]) -> str:
    with pytest.raises(RefusedError) as error:
        ask()
    assert error.value.status == 403
    return error.value.words


def test_one_role_looks_one_deploys_and_one_rebalances(
    cluster: Cluster,
    stack: Stack,
    namespace: str,
    users: dict[str, Path],
    become: Callable[[str], None],
) -> None:
    """With patches and with placement at admission: `up` as the one, preview, plan and status as the other.
    The looking one changes nothing, whatever it tries, and reads only the pull secret that a pod names.
    """
    web = deployment("web", 4, namespace, imagePullSecrets=[{"name": "pull"}])
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
        for name in ("pull", "other")
    ]
    cluster.apply([*secrets, web, deployment("api", 2, namespace)])
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.0"})
    # The names of pull secrets are needed where images are checked; here their registries do not exist.
    stack.config({"images": None})
    grant(cluster, stack)
    stack.config({"images": {"check": False}})
    become("deploying")
    went_well(stack.up())
    cluster.wait_until_settled(namespace)
    went_well(stack.config({"arm_ratio": "0.5"}).up())
    assert sum(cluster.graviton_counts(namespace).values()) == 3
    become("rebalancing")
    rebalance(cluster, stack, namespace)
    become("looking")
    look(cluster, stack.config({"arm_ratio": "1.0"}), namespace)
    changed = stack.up()
    assert not changed.succeeded
    assert "dry run" in changed.output or "forbidden" in changed.output
    assert sum(cluster.graviton_counts(namespace).values()) == 3
    with connect(CONTEXT, users["looking"]) as client:
        nothing_changes(cluster, client, namespace)
        assert client.get(f"/api/v1/namespaces/{namespace}/secrets/pull")["metadata"]["name"] == "pull"
        assert 'secrets "other" is forbidden' in refusal(
            lambda: client.get(f"/api/v1/namespaces/{namespace}/secrets/other")
        )
        assert "secrets is forbidden" in refusal(lambda: [*client.list("/api/v1/secrets")])
    become("")
    grant(cluster, stack.config({"placement": "admission", "arm_ratio": "0.5"}))
    become("deploying")
    went_well(stack.up())
    become("rebalancing")
    rebalance(cluster, stack, namespace, placement="admission")
    become("looking")
    look(cluster, stack.config({"arm_ratio": "1.0"}), namespace)
    become("deploying")
    went_well(stack.up())
    assert sum(cluster.graviton_counts(namespace).values()) == 6
    went_well(stack.destroy("--run-program"))


def rebalance(cluster: Cluster, stack: Stack, namespace: str, placement: str = "patches") -> None:
    """The role may evict and hold the Lease, and gives it back. At admission, it may change no workload."""
    done = stack.archshift("rebalance")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every workload is exact" in done.stdout
    assert "forbidden" not in done.stdout + done.stderr
    lease = cluster.get("lease", lease_name(stack.name), "default")
    assert "holderIdentity" not in lease["spec"]
    where = f"--namespace={namespace}"
    may = {
        words: cluster.lab.run("kubectl", "auth", "can-i", *words.split(), where).returncode == 0
        for words in ("create pods --subresource=eviction", "patch deployments", "create jobs", "delete pods")
    }
    assert may == {
        "create pods --subresource=eviction": True,
        "patch deployments": placement == "patches",
        "create jobs": False,
        "delete pods": False,
    }


def look(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Preview, plan and status work, and change nothing."""
    before = cluster.pod_names(namespace)
    preview = stack.preview()
    went_well(preview)
    assert "forbidden" not in preview.output
    assert "this user may not" not in preview.output
    for command in ("plan", "status"):
        done = stack.archshift(command)
        assert done.returncode in (0, 3), done.stderr
        assert "this user may not" not in done.stdout
    doctor = stack.archshift("doctor").stdout
    assert "plan and status" in doctor
    assert cluster.pod_names(namespace) == before


def nothing_changes(cluster: Cluster, client: Client, namespace: str) -> None:
    """Of what a role with the right to patch could be used for."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}}
    live = cluster.get("deployment", "web", namespace)["metadata"]["generation"]
    dry = {**body, "metadata": {"name": "web"}}
    assert client.apply(path, dry, "looking", force=True, dry_run=True)["spec"]["replicas"] == 0
    tries = "may only try a change (dry run)"
    assert tries in refusal(lambda: client.apply(path, dry, "looking", force=True))
    assert tries in refusal(lambda: client.patch(path, {"spec": {"replicas": 0}}, MERGE, "looking"))
    # Server-side apply of an object that does not exist would create it.
    new = deployment("new", 1, namespace)
    assert "forbidden" in refusal(lambda: client.patch(path.replace("/web", "/new"), new, APPLY, "looking"))
    pod = next(iter(cluster.pod_names(namespace)))
    assert 'cannot create resource "pods/eviction"' in refusal(partial(client.evict, namespace, pod))
    collections = {
        "jobs": f"/apis/batch/v1/namespaces/{namespace}/jobs",
        "nodepools": "/apis/karpenter.sh/v1/nodepools",
        "configmaps": f"/api/v1/namespaces/{namespace}/configmaps",
    }
    for kind, collection in collections.items():
        create = partial(client.create, collection, {"metadata": {"name": "x"}})
        assert f'cannot create resource "{kind}"' in refusal(create)
    assert cluster.get("deployment", "web", namespace)["metadata"]["generation"] == live
