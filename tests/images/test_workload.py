"""A workload runs where all its containers run. Pure."""

from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.images.contents.command import Command, read_command
from archshift.images.verdict import ImageVerdict, Verdict
from archshift.images.workload import ImageUse, containers_of, judge_workload, why_not, with_pods

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
D1, D2, D3 = (f"sha256:{character * 64}" for character in "123")


def verdict(image: str, value: Verdict, digest: str = D1, reason: str = "", **more: Any) -> ImageVerdict:
    """Return a verdict on made-up evidence."""
    platforms = {"multi-arch": ("linux/amd64", "linux/arm64"), "amd64-only": ("linux/amd64",)}.get(value, ())
    return ImageVerdict(image, value, platforms, digest, reason, WHEN, **more)


def spec(*images: str, init: tuple[str, ...] = (), sidecars: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a pod spec; containers are named after their images."""
    return {
        "containers": [{"name": image, "image": image} for image in images],
        "initContainers": [
            *({"name": image, "image": image} for image in init),
            *({"name": image, "image": image, "restartPolicy": "Always"} for image in sidecars),
        ],
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("multi-arch", "multi-arch"), "multi-arch"),
        (("multi-arch", "amd64-only"), "amd64-only"),
        (("multi-arch", "arm64-only"), "arm64-only"),
        (("amd64-only", "arm64-only"), "other"),
        (("multi-arch", "other"), "other"),
        (("multi-arch", "unknown"), "unknown"),
        (("arm64-only", "unknown"), "unknown"),
        (("amd64-only", "unknown"), "amd64-only"),
        (("unknown",), "unknown"),
    ],
)
@pytest.mark.parametrize("place", ["containers", "init", "sidecars"])
def test_the_verdict_is_the_intersection(values: tuple[Verdict, ...], expected: Verdict, place: str) -> None:
    """One image that does not run there, or is unknown, decides, wherever it is (noe let it pass)."""
    names = [f"image{number}" for number in range(len(values))]
    pod = spec(*names) if place == "containers" else spec(names[0], **{place: tuple(names[1:])})
    verdicts = {ImageUse(name): verdict(name, value) for name, value in zip(names, values, strict=True)}
    found = judge_workload("ns/Deployment/w", containers_of(pod), verdicts)
    assert found.verdict == expected
    blocked = {
        name for name, value in zip(names, values, strict=True) if value not in ("multi-arch", "arm64-only")
    }
    assert {one.container for one in found.blocking} == blocked
    assert found.runs_on_arm64 == (not blocked)


def test_a_blocking_container_says_why() -> None:
    """The reason names the container, its role and what its image has, or why that is not known."""
    pod = spec("app", init=("setup",), sidecars=("proxy",))
    verdicts = {
        ImageUse("app"): verdict("app", "multi-arch"),
        ImageUse("setup"): verdict("setup", "amd64-only"),
        ImageUse("proxy"): verdict("proxy", "unknown", "", "r requires a login (401)"),
    }
    found = judge_workload("ns/Deployment/w", containers_of(pod), verdicts)
    assert [(one.container, one.verdict, one.reason) for one in found.blocking] == [
        ("setup", "amd64-only", "init setup: its image has linux/amd64"),
        ("proxy", "unknown", "sidecar proxy: r requires a login (401)"),
    ]
    assert [one.image for one in found.images] == ["app", "setup", "proxy"]


def test_an_image_that_was_not_audited_is_unknown() -> None:
    """A hole in the evidence is never a yes, and neither is a workload of nothing."""
    found = judge_workload("w", containers_of(spec("app")), {})
    assert (found.verdict, found.blocking[0].reason) == ("unknown", "archshift did not audit it")
    found = judge_workload("w", (), {})
    assert (found.verdict, found.blocking[0].reason) == ("unknown", "the workload has no containers")


def pod(pod_spec: dict[str, Any], **image_ids: str) -> dict[str, Any]:
    """Return a running pod with the image ids of its containers."""
    statuses = [{"name": name, "imageID": value} for name, value in image_ids.items()]
    return {"spec": pod_spec, "status": {"containerStatuses": statuses}}


def test_injected_containers_come_from_the_pods() -> None:
    """A mesh's proxy is in no template, and still has to run where the pod does."""
    template = containers_of(spec("app"))
    containers = with_pods(template, [pod(spec("app", "mesh")), pod(spec("app", "mesh"))])
    assert [(one.name, one.role) for one in containers] == [("app", "container"), ("mesh", "injected")]
    verdicts = {
        ImageUse("app"): verdict("app", "multi-arch"),
        ImageUse("mesh"): verdict("mesh", "amd64-only"),
    }
    found = judge_workload("w", containers, verdicts)
    assert (found.verdict, found.blocking[0].reason) == (
        "amd64-only",
        "injected mesh: its image has linux/amd64",
    )


def test_an_image_rewritten_by_a_webhook_counts_too() -> None:
    """What a pod really pulls is the mirror's image, not the template's."""
    mirrored = {"containers": [{"name": "app", "image": "mirror.example/app"}]}
    containers = with_pods(containers_of(spec("app")), [pod(mirrored)])
    assert [(one.role, one.use.image) for one in containers] == [
        ("container", "app"),
        ("injected", "mirror.example/app"),
    ]


def rewritten(image: str, name: str = "app") -> dict[str, Any]:
    """Return a pod whose container runs an image that its template does not name."""
    return pod({"containers": [{"name": name, "image": image}]})


@pytest.mark.parametrize(
    ("template", "pods", "values", "expected"),
    [
        # A mesh writes the image of its gateways.
        ("auto", ["mesh:1", "mesh:1"], {"mesh:1": "multi-arch"}, "multi-arch"),
        ("auto", ["mesh:1"], {"mesh:1": "amd64-only"}, "amd64-only"),
        # What runs decides against the template, in both directions.
        ("app", ["mirror/app"], {"mirror/app": "multi-arch", "app": "amd64-only"}, "multi-arch"),
        ("app", ["mirror/app"], {"mirror/app": "amd64-only", "app": "multi-arch"}, "amd64-only"),
        # A proxy on the node cannot be reached from here; its upstream can.
        ("app", ["localhost:7439/app"], {"app": "multi-arch"}, "multi-arch"),
        ("app", ["localhost:7439/app"], {"app": "amd64-only"}, "amd64-only"),
        ("app", ["localhost:7439/app"], {}, "unknown"),
        # Pods that disagree, as in the middle of a change of the webhook: all images count.
        ("auto", ["mesh:1", "mesh:2"], {"mesh:1": "multi-arch", "mesh:2": "multi-arch"}, "unknown"),
        ("app", ["app", "mirror/app"], {"app": "multi-arch", "mirror/app": "amd64-only"}, "amd64-only"),
        # No pod shows what admission does.
        ("auto", [], {"mesh:1": "multi-arch"}, "unknown"),
    ],
)
def test_an_image_that_admission_replaces_counts_instead(
    template: str, pods: list[str], values: dict[str, Verdict], expected: str
) -> None:
    shown = {"containers": [{"name": "app", "image": template}]}
    containers = with_pods(containers_of(shown), map(rewritten, pods), of_template=True)
    verdicts = {
        use: verdict(use.image, values.get(use.image, "unknown"), reason="no answer")
        for container in containers
        for use in container.uses
    }
    found = judge_workload("w", containers, verdicts)
    assert found.verdict == expected
    assert all(image.verdict == expected for image in found.images) or len(set(pods)) > 1
    agreed = len(set(pods)) == 1 and (pods[0] in values or template not in values)
    assert dict(found.replaced) == ({template: pods[0]} if agreed else {})


def test_pods_of_another_revision_do_not_replace_an_image() -> None:
    """While it is not known that all pods are of this template, the template's image counts too."""
    containers = with_pods(containers_of(spec("new")), [rewritten("old", "new")])
    assert [one.use.image for one in containers] == ["new", "old"]


def test_what_is_proven_not_to_run_is_named_before_what_is_unknown() -> None:
    verdicts = {
        ImageUse("a"): verdict("a", "unknown", "", "r does not answer: no answer in time", away="r"),
        ImageUse("b"): verdict("b", "amd64-only"),
    }
    found = judge_workload("w", containers_of(spec("a", "b")), verdicts)
    assert why_not(found) == "b is amd64-only: container b: its image has linux/amd64 (and 1 more)"
    assert [(one.cause, one.away) for one in found.blocking] == [
        ("r does not answer: no answer in time", "r"),
        ("an image has no arm64", ""),
    ]


def test_ephemeral_containers_do_not_hold_a_workload_back() -> None:
    """A debug shell ends with its pod."""
    debugged = {**spec("app"), "ephemeralContainers": [{"name": "debug", "image": "shell"}]}
    containers = with_pods(containers_of(spec("app")), [pod(debugged)])
    assert [one.role for one in containers] == ["container", "ephemeral"]
    verdicts = {
        ImageUse("app"): verdict("app", "multi-arch"),
        ImageUse("shell"): verdict("shell", "amd64-only"),
    }
    assert judge_workload("w", containers, verdicts).verdict == "multi-arch"


@pytest.mark.parametrize(
    ("image", "image_id", "moved"),
    [
        ("r.example/app:1", f"r.example/app@{D1}", False),
        ("r.example/app:1", f"r.example/app@{D2}", False),
        ("r.example/app:1", f"r.example/app@{D3}", True),
        ("r.example/app:1", f"docker-pullable://r.example/app@{D3}", True),
        ("r.example/app:1", D3, False),
        ("r.example/app:1", "", False),
        (f"r.example/app@{D1}", f"r.example/app@{D3}", False),
    ],
)
def test_a_tag_that_moved_is_said(image: str, image_id: str, moved: bool) -> None:
    """The verdict is about the tag now; where pods run something else, a note says so."""
    template = {"containers": [{"name": "app", "image": image}]}
    containers = with_pods(containers_of(template), [pod(template, app=image_id)])
    value = verdict(image, "multi-arch", D1, manifests=(("linux/amd64", D2),))
    found = judge_workload("w", containers, {ImageUse(image): value})
    note = f"app: the tag of {image} has moved: pods run {D3}, but the tag is now {D1}"
    assert found.notes == ((note,) if moved else ())


def test_the_command_of_a_container_is_read() -> None:
    """Command, args, working folder, PATH and mounts change what an image starts."""
    container = {
        "name": "app",
        "image": "app",
        "command": ["$(HOME_DIR)/run", "$$(HOME_DIR)", "$(SECRET)"],
        "workingDir": "/srv",
        "env": [
            {"name": "HOME_DIR", "value": "/opt"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {}}},
            {"name": "PATH", "value": "/opt/bin"},
        ],
        "volumeMounts": [{"mountPath": "/data"}, {"mountPath": "/cfg"}],
    }
    assert read_command(container) == Command(
        ("/opt/run", "$(HOME_DIR)", "$(SECRET)"), None, "/srv", "/opt/bin", ("/cfg", "/data")
    )
    assert read_command({"name": "a"}) == Command()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Command(), ("entry", "cmd")),
        (Command(command=("run",)), ("run",)),
        (Command(args=("x",)), ("entry", "x")),
        (Command(command=("run",), args=("x",)), ("run", "x")),
    ],
)
def test_command_and_args_replace_what_the_image_says(command: Command, expected: tuple[str, ...]) -> None:
    """Kubernetes' table of four."""
    assert command.argv(("entry",), ("cmd",)) == expected
