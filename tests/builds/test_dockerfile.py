"""The documented Dockerfile, down to what BuildKit would run for it; it cannot run here without an engine."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.documents import DOCS
from tools.bootstrap import find_programs

DOCKERFILE = DOCS / "examples" / "go" / "Dockerfile"


def steps(file: Path, target: str, build: str) -> dict[str, Any]:
    """What BuildKit's own reader makes of a Dockerfile for one platform, on a builder of another."""
    program = find_programs("dockerfile-steps").paths["dockerfile-steps"]
    done = subprocess.run(
        [str(program), str(file), target, build], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("build", ["linux/amd64", "linux/arm64"])
@pytest.mark.parametrize("target", ["amd64", "arm64"])
def test_it_compiles_for_the_target_on_the_builder(build: str, target: str) -> None:
    """Each program that runs does so on the builder's own architecture, and is told the other; the
    image that comes of it is the target's, starts the binary, and not as root.
    """
    found = steps(DOCKERFILE, f"linux/{target}", build)
    runs = [step for step in found["steps"] if step.get("run")]
    (compiles,) = runs
    assert compiles["platform"] == build
    assert {f"TARGETARCH={target}", "TARGETOS=linux"} <= set(compiles["env"])
    assert "GOARCH=$TARGETARCH go build -trimpath" in compiles["run"][-1]
    platforms = {step["source"]: step["platform"] for step in found["steps"] if step.get("source")}
    assert platforms["docker-image://docker.io/library/golang:1.26"] == build
    assert platforms["docker-image://gcr.io/distroless/static-debian12:nonroot"] == f"linux/{target}"
    assert found["config"]["Entrypoint"] == ["/app"]
    assert found["config"]["User"] == "65532:65532"


def test_a_dockerfile_that_does_not_name_the_builder_would_emulate(tmp_path: Path) -> None:
    """That the check above can fail: without --platform the compiler itself is the other machine's."""
    file = tmp_path / "Dockerfile"
    file.write_text(DOCKERFILE.read_text().replace("--platform=$BUILDPLATFORM ", ""))
    found = steps(file, "linux/arm64", "linux/amd64")
    (compiles,) = [step for step in found["steps"] if step.get("run")]
    assert compiles["platform"] == "linux/arm64"
