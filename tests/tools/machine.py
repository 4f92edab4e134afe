"""A machine with nothing on it but stand-ins for Go and for the programs, Go's builds included."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tools import bootstrap

# Stands in for Go: writes its output twice, with a pause between when it is asked for one, so
# that a build can be interrupted when half of its product is there.
GO = """#!/bin/sh
case "$1" in
  env) echo "${FAKE_GO_VERSION:-go1.26.8}" ;;
  mod) echo "{\\"Dir\\": \\"$FAKE_MODULE\\"}" ;;
  build)
    echo "$@" >> "$FAKE_GO_LOG"
    while [ $# -gt 1 ]; do [ "$1" = -o ] && product=$2; shift; done
    if [ "$FAKE_GO_FAILS" = "$1" ]; then echo "cannot find package"; exit 1; fi
    echo '#!/bin/sh' > "$product"
    [ -z "$FAKE_GO_PAUSE" ] || /bin/sleep "$FAKE_GO_PAUSE"
    echo 'echo built' >> "$product"
    /bin/chmod 755 "$product"
    ;;
esac
"""


def copy_of_the_pins(project: Path) -> None:
    """The pins and the bootstrap in a folder, so that a test may change them."""
    shutil.copytree(bootstrap.TOOLS, project / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bootstrap.PROJECT / "pyproject.toml", project)


class Machine:
    """A machine on which nothing is installed but what a test puts there."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.assets = root / "assets"
        self.cache = root / "cache"
        self.log = root / "go.log"
        self.module = root / "module"
        self.home = root / "home"
        self.project = root / "project"
        for folder in (self.bin, self.assets, self.home):
            folder.mkdir(parents=True)
        scripts = {"cmd": bootstrap.LANGUAGE_HOST_EXECUTOR, "dist": bootstrap.DYNAMIC_PROVIDER}
        for name, script in scripts.items():
            (self.module / "python" / name).mkdir(parents=True)
            (self.module / "python" / name / script).write_text("#!/usr/bin/env python\n")
        for stage in ("node/fast", "node/heartbeat", "pod/fast"):
            folder = self.module / "kustomize" / "stage" / stage
            folder.mkdir(parents=True)
            (folder / "stage.yaml").write_text(f"kind: Stage\nname: {stage}\n")
            (folder / "kustomization.yaml").write_text("kind: Kustomization\n")
        copy_of_the_pins(self.project)
        # No test asks the hosts of the real table.
        self.releases = self.project / "tools" / "releases.toml"
        self.releases.write_text("")
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "FAKE_GO_LOG": str(self.log),
            "FAKE_MODULE": str(self.module),
        }

    def install(self, name: str, script: str, folder: Path | None = None) -> None:
        path = (folder or self.bin) / name
        path.write_text(script)
        path.chmod(0o755)

    def says(self, name: str, answer: str, folder: Path | None = None) -> None:
        self.install(name, f"#!/bin/sh\necho '{answer}'\n", folder)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        script = self.project / "tools" / "bootstrap.py"
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, dict[str, dict[str, str]], str]:
        """Exit code, what was found, and what was said."""
        process = self.start("--json", *arguments)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, json.loads(stdout) if stdout else {}, stderr

    def built(self) -> list[str]:
        """The packages that were built, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[-1].rsplit("/", 1)[-1] for line in lines]

    def left_over(self) -> list[str]:
        """What is in the cache and not a complete program or file."""
        complete = {program.name for program in bootstrap.PROGRAMS} | {
            bootstrap.LANGUAGE_HOST_EXECUTOR,
            bootstrap.DYNAMIC_PROVIDER,
            bootstrap.KWOK_STAGES,
            ".lock",
        }
        return [
            str(path)
            for path in (self.cache / "archshift").rglob("*")
            if path.is_file() and path.name not in complete
        ]
