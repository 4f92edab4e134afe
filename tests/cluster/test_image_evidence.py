"""Evidence for a cluster: what is asked of the registries, as whom, and what an answer is about."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.cluster.image_evidence import ClusterEvidence, audit_options, read_evidence, read_pull_secrets
from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Discovery, Inventory
from archshift.images import audit
from archshift.images.cache import cache_folder
from archshift.images.contents.command import Command
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.images.verdict import (
    AMD64_ONLY,
    MULTI_ARCH,
    UNKNOWN,
    ImageVerdict,
    Verdict,
)
from archshift.images.workload import ImageUse
from tests.build import MANAGER, Json, pod, workload
from tests.fakes import FakeCluster

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
PASSWORD = "hunter2-very-secret"
LABELS = {"pod-template-hash": "5d4f"}


class Registries:
    """Stands in for ``audit_uses``: answers by image, and remembers what it was asked."""

    def __init__(self, **verdicts: Verdict) -> None:
        """Answer these by the image's last part; everything else is multi-arch."""
        self.verdicts = verdicts
        self.uses: list[ImageUse] = []
        self.options: audit.AuditOptions | None = None
        self.calls = 0

    def __call__(
        self, uses: Iterable[ImageUse], options: audit.AuditOptions | None = None
    ) -> dict[ImageUse, ImageVerdict]:
        self.calls += 1
        self.uses, self.options = list(uses), options
        return {use: self.verdict(use.image) for use in self.uses}

    def verdict(self, image: str) -> ImageVerdict:
        name = image.rpartition("/")[2].partition(":")[0]
        value = self.verdicts.get(name, MULTI_ARCH)
        platforms = {AMD64_ONLY: ("linux/amd64",), UNKNOWN: ()}.get(value, ("linux/amd64", "linux/arm64"))
        reason = "HTTP 503 from registry.example" if value == UNKNOWN else ""
        return ImageVerdict(image, value, platforms, DIGEST, reason, NOW)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Registries:
    """Registries in which every image is multi-arch, unless the test says otherwise."""
    found = Registries()
    monkeypatch.setattr(audit, "audit_uses", found)
    return found


def secret_cluster(
    objects: Mapping[str, Sequence[Json]] | None = None,
    secrets: Mapping[str, Json | str] | None = None,
    refused: Iterable[str] = (),
) -> FakeCluster:
    """A cluster with secrets: ``namespace/name`` to the Secret, or to the words of its refusal."""
    fake = FakeCluster(objects)
    fake.refused = {path: f"https://cluster.example: not allowed: {path} is forbidden" for path in refused}
    for key, secret in (secrets or {}).items():
        namespace, name = key.split("/")
        path = f"/api/v1/namespaces/{namespace}/secrets"
        if isinstance(secret, str):
            fake.refused[f"{path}/{name}"] = secret
        else:
            fake.objects[path] = [*fake.objects.get(path, ()), secret]
    return fake


def pull_secret(namespace: str, name: str, host: str = "registry.example") -> Json:
    """A pull secret as the API returns it."""
    auth = base64.b64encode(f"robot:{PASSWORD}".encode()).decode()
    return secret(namespace, name, json.dumps({"auths": {host: {"auth": auth}}}))


def secret(namespace: str, name: str, config: str) -> Json:
    """A Secret with this Docker config."""
    return {
        "metadata": {"namespace": namespace, "name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }


def account(name: str, *secrets: str, namespace: str = "shop") -> Json:
    """A ServiceAccount with pull secrets."""
    return {
        "metadata": {"namespace": namespace, "name": name},
        "imagePullSecrets": [{"name": one} for one in secrets],
    }


def container(name: str, image: str, **more: Any) -> Json:
    """A container of a pod spec."""
    return {"name": name, "image": f"registry.example/{image}", **more}


def cart_pod(name: str = "cart-0", *containers: Json, **more: Any) -> Json:
    """A pod of the Deployment ``cart``, with these containers beside its own."""
    found = pod(name, "x86", owner=("ReplicaSet", "cart-5d4f"), labels=LABELS)
    found["spec"]["containers"] = [container("cart", "app:1"), *containers]
    found["spec"].update(more)
    return found


def carts(**pod_spec: Any) -> Json:
    return workload(name="cart", pod_spec=pod_spec)


def look(cluster: FakeCluster) -> Inventory:
    """The inventory of a cluster."""
    return read_inventory(cluster, Discovery(), MANAGER)


def evidence(deployments: Iterable[Json] = (), pods: Iterable[Json] = ()) -> ClusterEvidence:
    cluster = secret_cluster({"/apis/apps/v1/deployments": list(deployments), "/api/v1/pods": list(pods)})
    return read_evidence(cluster, look(cluster), ImageRules())


def secrets_of(cluster: FakeCluster) -> tuple[list[set[str]], tuple[str, ...]]:
    """The hosts of each pull secret that is read, and the notes."""
    files, notes = read_pull_secrets(cluster, look(cluster))
    return [set(file.auths) for file in files], notes


def test_every_container_is_asked_for_with_its_command(registries: Registries) -> None:
    """A deep audit needs to know what is started: init containers, sidecars and commands all reach it."""
    deployment = carts(
        containers=[
            container("cart", "app:1"),
            container("worker", "app:1", command=["/bin/worker"], args=["--fast"]),
        ],
        initContainers=[
            container("migrate", "migrate:3"),
            container("mesh", "mesh:2", restartPolicy="Always"),
        ],
    )
    found = evidence([deployment])
    assert registries.calls == 1
    worker = registries.uses[1].command
    assert worker != Command()
    assert set(registries.uses) == {
        ImageUse("registry.example/app:1"),
        ImageUse("registry.example/app:1", worker),
        ImageUse("registry.example/migrate:3"),
        ImageUse("registry.example/mesh:2"),
    }
    assert found.notes == ()
    assert found.verdicts["shop/Deployment/cart"].verdict == MULTI_ARCH


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", "/apis/apps/v1/deployments"),
        ("StatefulSet", "/apis/apps/v1/statefulsets"),
        ("DaemonSet", "/apis/apps/v1/daemonsets"),
        ("CronJob", "/apis/batch/v1/cronjobs"),
    ],
)
def test_templates_without_pods_are_evidence(registries: Registries, kind: str, path: str) -> None:
    """Scaled to zero, or between two runs: what would start next is judged all the same."""
    registries.verdicts["app"] = AMD64_ONLY
    cluster = secret_cluster({path: [workload(kind, "report", replicas=0)]})
    found = read_evidence(cluster, look(cluster), ImageRules()).verdicts
    assert list(found) == [f"shop/{kind}/report"]
    (blocking,) = found[f"shop/{kind}/report"].blocking
    assert (blocking.container, blocking.reason) == (
        "report",
        "container report: its image has linux/amd64",
    )


def test_the_options_carry_the_rules() -> None:
    """What the config says of registries, depth and age is what the audit does."""
    hosts = {"registry.lab:5000": RegistryHost(plain_http=True)}
    options = audit_options(ImageRules(deep=True, max_age_days=0.5, registries=hosts))
    assert (options.hosts, options.deep, options.evidence_seconds) == (hosts, True, 43200)
    assert options.pull_secrets == ()
    assert audit_options(ImageRules()) == replace(audit.AuditOptions(), evidence_seconds=7 * 86400)


def test_rules_and_pull_secrets_reach_the_audit(registries: Registries) -> None:
    """One call, with the cluster's credentials beside the config's rules."""
    cluster = secret_cluster(
        {"/apis/apps/v1/deployments": [carts(imagePullSecrets=[{"name": "robot"}])]},
        {"shop/robot": pull_secret("shop", "robot")},
    )
    read_evidence(cluster, look(cluster), ImageRules(deep=True, max_age_days=2))
    assert registries.options is not None
    (file,) = registries.options.pull_secrets
    assert file.auths["registry.example"].password == PASSWORD
    assert (registries.options.deep, registries.options.evidence_seconds) == (True, 172800)


def test_an_unknown_image_is_an_answer_and_not_an_error(registries: Registries) -> None:
    """The run goes on; the workload is unknown with the registry's words."""
    registries.verdicts["app"] = UNKNOWN
    found = evidence([carts()]).verdicts["shop/Deployment/cart"]
    assert (found.verdict, found.runs_on_arm64) == (UNKNOWN, False)
    assert found.blocking[0].reason == "container cart: HTTP 503 from registry.example"


def test_an_injected_sidecar_counts(registries: Registries) -> None:
    """A webhook added it: the template is clean, and the pod would still not start on Graviton."""
    registries.verdicts["proxy"] = AMD64_ONLY
    found = evidence([carts()], [cart_pod("cart-0", container("proxy", "proxy:1"))])
    verdict = found.verdicts["shop/Deployment/cart"]
    assert verdict.verdict == AMD64_ONLY
    (blocking,) = verdict.blocking
    assert (blocking.container, blocking.image, blocking.reason) == (
        "proxy",
        "registry.example/proxy:1",
        "injected proxy: its image has linux/amd64",
    )


def test_pods_alike_are_asked_for_once(registries: Registries) -> None:
    """A thousand pods of one template are two uses, not two thousand."""
    pods = [cart_pod(f"cart-{index}", container("proxy", "proxy:1")) for index in range(50)]
    evidence([carts()], pods)
    assert registries.uses == [ImageUse("registry.example/app:1"), ImageUse("registry.example/proxy:1")]


def test_one_image_of_two_workloads_is_judged_for_both(registries: Registries) -> None:
    """The verdict on the image reaches every workload that runs it."""
    registries.verdicts["app"] = AMD64_ONLY
    found = evidence([carts(), workload(name="pay")]).verdicts
    assert {key: one.verdict for key, one in found.items()} == {
        "shop/Deployment/cart": AMD64_ONLY,
        "shop/Deployment/pay": AMD64_ONLY,
    }
    assert set(registries.uses) == {ImageUse("registry.example/app:1")}


def test_a_tag_that_moved_since_is_said(registries: Registries) -> None:
    """What runs is another image than what the tag stands for now."""
    running = cart_pod()
    running["status"]["containerStatuses"] = [
        {"name": "cart", "imageID": f"registry.example/app@{OTHER_DIGEST}"}
    ]
    (note,) = evidence([carts()], [running]).verdicts["shop/Deployment/cart"].notes
    assert note == (
        f"cart: the tag of registry.example/app:1 has moved: pods run {OTHER_DIGEST}, but the tag is now "
        f"{DIGEST}"
    )
    assert registries.calls == 1


def test_a_debug_container_does_not_hold_its_workload(registries: Registries) -> None:
    """kubectl debug leaves an ephemeral container in one pod; no new pod gets it."""
    registries.verdicts["busybox"] = AMD64_ONLY
    debugged = cart_pod(ephemeralContainers=[container("debugger", "busybox:1")])
    assert evidence([carts()], [debugged]).verdicts["shop/Deployment/cart"].verdict == MULTI_ARCH


def test_pods_that_nobody_steers_are_in_the_evidence(registries: Registries) -> None:
    """Bare pods and strange controllers are not moved; the report knows what they would need."""
    registries.verdicts["debug"] = AMD64_ONLY
    bare = pod("debug", "x86")
    bare["spec"]["containers"] = [container("main", "debug:1")]
    rollout = pod("canary-1", "x86", owner=("Rollout", "canary"))
    found = evidence([], [bare, rollout, pod("dns", "x86", namespace="kube-system")]).verdicts
    assert {key: one.verdict for key, one in found.items()} == {
        "shop/Pod/debug": AMD64_ONLY,
        "shop/Rollout/canary": MULTI_ARCH,
    }


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_ended_are_no_evidence(registries: Registries, phase: str) -> None:
    """What ran once says nothing of what runs."""
    assert evidence([], [pod("done", "x86", phase=phase)]).verdicts == {}
    assert registries.uses == []


def test_pull_secrets_of_templates_and_pods_are_read_once_each() -> None:
    """The secrets that the kubelet would use, those of injected pods included."""
    cluster = secret_cluster(
        {
            "/apis/apps/v1/deployments": [
                carts(imagePullSecrets=[{"name": "robot"}, {}]),
                workload(name="pay", pod_spec={"imagePullSecrets": [{"name": "robot"}]}),
            ],
            "/api/v1/pods": [cart_pod(imagePullSecrets=[{"name": "robot"}, {"name": "injected"}])],
        },
        {
            "shop/robot": pull_secret("shop", "robot"),
            "shop/injected": pull_secret("shop", "injected", "mesh.example"),
        },
    )
    assert secrets_of(cluster) == ([{"mesh.example"}, {"registry.example"}], ())
    assert sorted(path for path in cluster.gets if path != "/apis") == [
        "/api/v1/namespaces/shop/secrets/injected",
        "/api/v1/namespaces/shop/secrets/robot",
    ]
    # Nobody falls back on a ServiceAccount here, so the permission to list them is not needed.
    assert "/api/v1/serviceaccounts" not in [path for path, _ in cluster.lists]


def test_the_service_accounts_secrets_count_where_the_pod_names_none() -> None:
    """As the API server has it: by namespace and account, and ``default`` where none is named."""
    cluster = secret_cluster(
        {
            "/apis/apps/v1/deployments": [
                carts(),
                workload(name="pay", pod_spec={"serviceAccountName": "payments"}),
                workload(
                    name="own",
                    pod_spec={"serviceAccountName": "overruled", "imagePullSecrets": [{"name": "own"}]},
                ),
            ],
            "/api/v1/serviceaccounts": [
                account("default", "by-default"),
                account("payments", "by-account"),
                account("overruled", "never"),
                account("unused", "never-either"),
                account("default", "elsewhere", namespace="blog"),
                {"metadata": {"namespace": "shop", "name": "bare"}},
            ],
        },
        {f"shop/{name}": pull_secret("shop", name, name) for name in ("by-default", "by-account", "own")},
    )
    assert secrets_of(cluster) == ([{"by-account"}, {"by-default"}, {"own"}], ())


def test_a_secret_serves_the_images_of_the_pods_that_name_it() -> None:
    """By repository: not all images of its namespace, and no image of another namespace."""
    other = workload(
        name="pay",
        namespace="blog",
        pod_spec={"containers": [container("main", "pay:1")], "imagePullSecrets": [{"name": "robot"}]},
    )
    public = workload(name="web", pod_spec={"containers": [container("main", "web:1")]})
    cluster = secret_cluster(
        {"/apis/apps/v1/deployments": [carts(imagePullSecrets=[{"name": "robot"}]), other, public]},
        {"shop/robot": pull_secret("shop", "robot"), "blog/robot": pull_secret("blog", "robot")},
    )
    files, _ = read_pull_secrets(cluster, look(cluster))
    assert {file.namespace: sorted(file.images or ()) for file in files} == {
        "shop": ["registry.example/app"],
        "blog": ["registry.example/pay"],
    }


def test_secrets_of_pods_that_nobody_steers_are_read() -> None:
    """A bare pod's image is in the evidence, so its credentials are needed too."""
    bare = pod("debug", "x86")
    bare["spec"]["imagePullSecrets"] = [{"name": "robot"}]
    cluster = secret_cluster({"/api/v1/pods": [bare]}, {"shop/robot": pull_secret("shop", "robot")})
    assert secrets_of(cluster) == ([{"registry.example"}], ())


FORBIDDEN = 'https://cluster.example: not allowed: secrets "robot" is forbidden'


def test_a_secret_that_may_not_be_read_is_a_note(registries: Registries) -> None:
    """The run goes on with the others; the note says which, and what to allow."""
    names = [{"name": "good"}, {"name": "robot"}, {"name": "gone"}]
    cluster = secret_cluster(
        {"/apis/apps/v1/deployments": [carts(imagePullSecrets=names)]},
        {"shop/good": pull_secret("shop", "good"), "shop/robot": FORBIDDEN},
    )
    found = read_evidence(cluster, look(cluster), ImageRules())
    assert found.notes == (
        "pull secret shop/gone was not used: https://cluster.example: "
        "/api/v1/namespaces/shop/secrets/gone: not found",
        f"pull secret shop/robot was not used: {FORBIDDEN}",
    )
    assert found.verdicts["shop/Deployment/cart"].verdict == MULTI_ARCH
    assert registries.options is not None
    assert len(registries.options.pull_secrets) == 1


def test_service_accounts_that_may_not_be_read_are_a_note() -> None:
    """Only what they would have added is lost: a pod's own secrets are still read."""
    cluster = secret_cluster(
        {
            "/apis/apps/v1/deployments": [
                carts(),
                workload(name="own", pod_spec={"imagePullSecrets": [{"name": "own"}]}),
            ]
        },
        {"shop/own": pull_secret("shop", "own")},
        refused=["/api/v1/serviceaccounts"],
    )
    assert secrets_of(cluster) == (
        [{"registry.example"}],
        (
            "pull secrets of ServiceAccounts were not used: https://cluster.example: not allowed: "
            "/api/v1/serviceaccounts is forbidden",
        ),
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            secret("shop", "robot", f'{{"auths": {{"registry.example": {{"password": "{PASSWORD}"'),
            "the pull secret shop/robot is invalid: its content is not a Docker config; create it again with "
            "kubectl create secret docker-registry",
        ),
        (
            secret("shop", "robot", json.dumps({"auths": {PASSWORD: PASSWORD}})),
            "the pull secret shop/robot is invalid: its content is not a Docker config; create it again with "
            "kubectl create secret docker-registry",
        ),
        (
            {"metadata": {"namespace": "shop", "name": "robot"}, "data": {".dockerconfigjson": PASSWORD}},
            "the pull secret shop/robot is invalid: its content is not a Docker config; create it again with "
            "kubectl create secret docker-registry",
        ),
        (
            {"metadata": {"namespace": "shop", "name": "robot"}, "data": {"token": PASSWORD}},
            "the Secret shop/robot is not a pull secret: it has neither .dockerconfigjson nor .dockercfg; "
            "create it again with kubectl create secret docker-registry",
        ),
    ],
    ids=["truncated", "shape", "base64", "type"],
)
def test_what_a_secret_holds_is_never_said(
    registries: Registries, broken: Json, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Notes are printed and logged: they name the secret and the trouble, nothing of its content."""
    cluster = secret_cluster(
        {"/apis/apps/v1/deployments": [carts(imagePullSecrets=[{"name": "robot"}])]}, {"shop/robot": broken}
    )
    found = read_evidence(cluster, look(cluster), ImageRules())
    assert found.notes == (f"pull secret shop/robot was not used: {why}",)
    assert PASSWORD not in repr((found, registries.options)) + "".join(capfd.readouterr())


def test_credentials_do_not_show_in_what_is_passed_on(registries: Registries) -> None:
    """A traceback or a log of the options has no password in it."""
    cluster = secret_cluster(
        {"/apis/apps/v1/deployments": [carts(imagePullSecrets=[{"name": "robot"}])]},
        {"shop/robot": pull_secret("shop", "robot")},
    )
    found = read_evidence(cluster, look(cluster), ImageRules())
    assert PASSWORD not in repr(found)
    assert "robot" in repr(registries.options)
    assert PASSWORD not in repr(registries.options)


def test_an_empty_cluster_asks_nothing(registries: Registries) -> None:
    """No workload, no evidence, no note."""
    assert evidence() == ClusterEvidence()
    assert registries.uses == []


def test_evidence_of_earlier_runs_is_not_used_where_it_is_not_wanted(registries: Registries) -> None:
    """Before something is taken away, kept evidence, which anybody could have forged, counts for nothing."""
    cluster = secret_cluster({"/apis/apps/v1/deployments": [carts()]})
    rules = ImageRules(deep=True)
    read_evidence(cluster, look(cluster), rules, keep=False)
    assert registries.options == audit_options(rules, keep=False)
    assert registries.options == replace(audit_options(rules), cache=None)
    assert audit_options(rules).cache == cache_folder()


def test_what_is_beyond_the_discovery_is_in_the_evidence(registries: Registries) -> None:
    """With its own pull secrets: kube-system's images need x86 as much as a shop's."""
    registries.verdicts["agent"] = AMD64_ONLY
    agent = workload(
        "DaemonSet",
        "agent",
        namespace="kube-system",
        pod_spec={
            "containers": [container("agent", "agent:1")],
            "imagePullSecrets": [{"name": "robot"}],
        },
    )
    bare = pod("dns", "x86", namespace="kube-system")
    cluster = secret_cluster(
        {
            "/apis/apps/v1/deployments": [carts()],
            "/apis/apps/v1/daemonsets": [agent],
            "/api/v1/pods": [bare],
        },
        {"kube-system/robot": pull_secret("kube-system", "robot")},
    )
    inventory = read_inventory(cluster, Discovery(), MANAGER, with_unsteered=True)
    found = read_evidence(cluster, inventory, ImageRules())
    assert {key: one.verdict for key, one in found.verdicts.items()} == {
        "kube-system/DaemonSet/agent": AMD64_ONLY,
        "kube-system/Pod/dns": MULTI_ARCH,
        "shop/Deployment/cart": MULTI_ARCH,
    }
    assert registries.calls == 1
    assert len(found.pull_secrets) == 1


def test_the_last_revision_is_judged_by_its_own_images(registries: Registries) -> None:
    """The new template is proven, and what its rollout has not replaced yet is not."""
    registries.verdicts["old"] = AMD64_ONLY
    old = cart_pod(containers=[container("cart", "old:1")])
    cluster = secret_cluster(
        {
            "/apis/apps/v1/deployments": [workload(name="cart", settled=False)],
            "/api/v1/pods": [old],
        }
    )
    inventory = read_inventory(cluster, Discovery(), MANAGER, with_unsteered=True)
    found = read_evidence(cluster, inventory, ImageRules()).verdicts
    assert {key: one.verdict for key, one in found.items()} == {
        "shop/Deployment/cart": MULTI_ARCH,
        "shop/Deployment/cart (last revision)": AMD64_ONLY,
    }
