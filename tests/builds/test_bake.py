"""Bake files as the real buildx reads them."""

import json
import posixpath
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.cli.main import main
from archshift.common.errors import ArchshiftError
from archshift.images.building.image_build import ImageBuild, bake_file
from tools.bootstrap import find_programs

TAG = "registry.example/shop/app:1.4.0"


def as_buildx_reads(file: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The definition that buildx would build, variables and defaults filled in."""
    path = folder / "docker-bake.json"
    path.write_text(json.dumps(file))
    buildx = find_programs("buildx").paths["buildx"]
    done = subprocess.run(
        [str(buildx), "bake", "--print", "--file", str(path)],
        cwd=folder,
        env={"HOME": str(folder), "DOCKER_CONFIG": str(folder / "docker")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    definition: dict[str, Any] = json.loads(done.stdout)
    return definition


def test_the_command_writes_what_buildx_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to the exact definition: both platforms, every tag, pushed as one."""
    latest = "registry.example/shop/app:latest"
    arguments = ["--context", "app", "--dockerfile", "build/Dockerfile", "--target", "release"]
    assert main(["bake", TAG, latest, *arguments, "--build-arg", "VERSION=1.4.0", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert as_buildx_reads(json.loads(printed.out), tmp_path) == {
        "group": {"default": {"targets": ["app"]}},
        "target": {
            "app": {
                "context": "app",
                "dockerfile": "build/Dockerfile",
                "args": {"VERSION": "1.4.0"},
                "target": "release",
                "tags": [TAG, latest],
                "platforms": ["linux/amd64", "linux/arm64"],
                "output": [{"type": "registry"}],
            }
        },
    }


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    | st.sampled_from(["${A}", "%{a}", "$${A}", "$$", "%%{b}", "$$${c}", "%{ if true }x%{ endif }"])
)
@settings(max_examples=40, deadline=None)
def test_values_reach_the_build_as_they_are(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """Nothing in a value is taken for one of bake's own variables or directives."""
    build = ImageBuild(tags=[TAG], context=value, target=value, build_args={"VALUE": value})
    read = as_buildx_reads(bake_file([build]), tmp_path_factory.mktemp("bake"))["target"]["app"]
    # buildx reads every text in the normal form C of Unicode.
    value = unicodedata.normalize("NFC", value)
    assert read["target"] == value
    # buildx cleans a path, so that 0/ becomes 0.
    assert read["context"] in (value, posixpath.normpath(value))
    # buildx prints arguments so that it could read them again.
    assert read["args"]["VALUE"].replace("$${", "${").replace("%%{", "%{") == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["registry.example/app"], "tags: 'registry.example/app' is not a name with a tag"),
        ([f"registry.example/app@sha256:{'a' * 64}"], "is not a name with a tag"),
        ([f"registry.example/app:1@sha256:{'a' * 64}"], "is not a name with a tag"),
        (["registry.example/App:1"], "'registry.example/App:1': 'App' is not a valid repository name"),
        ([TAG, "--build-arg", "VERSION"], "--build-arg: 'VERSION' is invalid; use NAME=VALUE"),
        ([TAG, "--build-arg", "A B=1"], "build_args: 'A B' is not a valid name of an ARG"),
    ],
)
def test_what_does_not_do_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence, and no file."""
    assert main(["bake", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


def test_no_tag_and_two_of_one_name() -> None:
    """What no command line leads to, but a program may ask for."""
    with pytest.raises(ArchshiftError, match="tags: the list is empty; add the image's name"):
        ImageBuild(tags=[])
    with pytest.raises(
        ArchshiftError, match="b/app:1: another image also has the name 'app'; build it separately"
    ):
        bake_file([ImageBuild(tags=["a.example/a/app:1"]), ImageBuild(tags=["a.example/b/app:1"])])
