"""The component that builds an image: what it asks Docker's plugin for, and what it proves of the result."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from archshift.images.building.image_build import ImageBuild
from archshift.images.registry.hosts import ImageRules, RegistryHost
from components.multiarch_image import MultiarchImage, MultiarchImageArgs
from tests.components.recorder import Monitor, Recorder, record
from tests.documents import example
from tests.images.build import Pushed, Pusher, elf, layer
from tests.images.servers import Registry

IMAGE = "docker-build:index:Image"
ENTRY = {"Entrypoint": ["/app"]}


def image(push: Pusher, repository: str, machine: str) -> Pushed:
    """An index whose arm64 image has a program for a machine."""
    built = [
        push.image(
            repository, platform=f"linux/{architecture}", layers=[layer({"app": elf(program)})], config=ENTRY
        )
        for architecture, program in (("amd64", "amd64"), ("arm64", machine))
    ]
    return push.index(repository, "1.4.0", built)


def built(program: Callable[[], object], ref: str) -> Monitor:
    """Runs a program whose image Docker pushed under a name and digest."""

    def outputs(_: pulumi.runtime.MockResourceArgs) -> dict[str, Any]:
        return {"ref": ref, "digest": ref.partition("@")[2]}

    return record(program, Recorder({IMAGE: outputs}))


def rules(registry: Registry) -> ImageRules:
    """How the tests' registry is reached."""
    return ImageRules(registries={registry.host: RegistryHost(plain_http=True)})


def test_the_exact_build(registry: Registry, push: Pusher) -> None:
    """Both platforms, pushed, never in a preview, with what the build says and no login."""
    digest = image(push, "app", "arm64").digest
    tags = [f"{registry.host}/app:1.4.0", f"{registry.host}/app:latest"]
    build = ImageBuild(tags=tags, context="app", target="release", build_args={"VERSION": "1.4.0"})
    args = MultiarchImageArgs(build=build, builder="multiarch", rules=rules(registry))
    ref = f"{registry.host}/app:1.4.0@{digest}"
    done = built(lambda: MultiarchImage("app", args), ref)
    (asked,) = done.of(IMAGE)
    assert asked.parent == "app"
    assert asked.inputs == {
        "buildArgs": {"VERSION": "1.4.0"},
        "buildOnPreview": False,
        "builder": {"name": "multiarch"},
        "context": {"location": "app"},
        "dockerfile": {"location": "app/Dockerfile"},
        "network": "default",
        "platforms": ["linux/amd64", "linux/arm64"],
        "push": True,
        "tags": tags,
        "target": "release",
    }
    assert done.outputs["app"] == {"ref": ref}


def test_a_lie_never_becomes_a_reference(registry: Registry, push: Pusher) -> None:
    """An arm64 entry that holds the builder's own binary fails the update with what was found, and
    nothing that waits for the reference goes on.
    """
    digest = image(push, "liar", "amd64").digest
    ref = f"{registry.host}/liar:1.4.0@{digest}"
    args = MultiarchImageArgs(build=ImageBuild(tags=[f"{registry.host}/liar:1.4.0"]), rules=rules(registry))
    used: list[str] = []
    with pytest.raises(pulumi.RunError) as caught:
        built(lambda: MultiarchImage("liar", args).ref.apply(used.append), ref)
    assert str(caught.value) == (
        f"{ref}: the build was for linux/amd64 and linux/arm64, but the image is amd64-only: it claims "
        f"linux/arm64, but "
        "/app is a binary for x86-64; its Dockerfile must build the program for TARGETARCH"
    )
    assert used == []


def test_an_image_that_cannot_be_read_is_no_proof(registry: Registry) -> None:
    """Unknown is not yes: a digest that the registry does not have."""
    ref = f"{registry.host}/absent:1.4.0@sha256:{'0' * 64}"
    args = MultiarchImageArgs(build=ImageBuild(tags=[f"{registry.host}/absent:1.4.0"]), rules=rules(registry))
    with pytest.raises(pulumi.RunError, match="but the image is unknown: "):
        built(lambda: MultiarchImage("absent", args), ref)


def test_the_documented_program(
    registry: Registry, push: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the documentation runs as it stands, and exports what was proven."""
    digest = image(push, "app", "arm64").digest
    file, machine = tmp_path / "program.py", tmp_path / "registries.yaml"
    file.write_text(example("images.md", "python").replace("registry.example", registry.host))
    machine.write_text(f"{registry.host}: {{plain_http: true}}\n")
    monkeypatch.setenv("ARCHSHIFT_REGISTRIES", str(machine))
    ref = f"{registry.host}/app:1.4.0@{digest}"
    done = built(lambda: runpy.run_path(str(file)), ref)
    assert done.exports == {"image": ref}
    (asked,) = done.of(IMAGE)
    assert asked.inputs["dockerfile"] == {"location": "docs/examples/go/Dockerfile"}
