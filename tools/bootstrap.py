#!/usr/bin/env python3
"""Finds the programs that the engine, the lab and the tests run, and gets the missing ones.

A program on PATH is used if its version is suitable. Otherwise the bootstrap downloads the official release
files that releases.toml pins by checksum. It builds all other programs from the Go modules that this folder
pins. A cache for the user keeps all downloads and builds.

This file uses only the standard library, because it runs before the project's Python environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
PROJECT = TOOLS.parent
if not __package__:  # this file runs as a program
    sys.path.insert(0, str(PROJECT))

from tools.downloads import (  # noqa: E402 - after the path
    DownloadError,
    Hosts,
    ReleaseFile,
    fetch,
    joined,
    release_files,
)

OLDEST_GO = (1, 26)
# Older servers (Debian has 3.4) do not answer the API server's requests for watch progress. Then a rollout
# takes 50 to 90 s instead of 2 to 3 s, and may never end.
OLDEST_ETCD = (3, 5, 13)
# Debian's version; nobody tested older versions.
OLDEST_PROMETHEUS = (2, 42)

LANGUAGE_HOST = "pulumi-language-python"
LANGUAGE_HOST_EXECUTOR = "pulumi-language-python-exec"
DYNAMIC_PROVIDER = "pulumi-resource-pulumi-python"
KUBERNETES_PLUGIN = "pulumi-resource-kubernetes"
KWOK_STAGES = "kwok-stages.yaml"
KARPENTER = "karpenter"
KARPENTER_CRDS = "karpenter-crds.yaml"

_PULUMI_SDK = "github.com/pulumi/pulumi/sdk/v3"
_KUBERNETES = "k8s.io/kubernetes"
_KWOK = "sigs.k8s.io/kwok"
_REGISTRY = "github.com/distribution/distribution/v3"
_BUILDX = "github.com/docker/buildx"
_BUILDKIT = "github.com/moby/buildkit"
_CRANE = "github.com/google/go-containerregistry"
_PROMETHEUS = "github.com/prometheus/prometheus"
_GH = "github.com/cli/cli/v2"
_ACTIONLINT = "github.com/rhysd/actionlint"
_KARPENTER = "sigs.k8s.io/karpenter"

# In this variable, `make test` passes the programs that it prepared (see tools/test_needs.py).
PREPARED = "ARCHSHIFT_PREPARED"

# The engine is first, because everything needs it and its build takes the longest.
_KITS = ("engine", "cluster", "registry")
# Further kits for the tests and some labs, only on request.
EXTRA_KITS: tuple[str, ...] = (KARPENTER, "monitoring", "pipelines", "builds")

Version = tuple[int, ...]


class BootstrapError(Exception):
    """A problem in one sentence for the user, sometimes followed by a compiler's output."""


# --- the programs ------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A program, and the package for its build if no suitable version is installed."""

    name: str
    module: str  # the folder of the Go module that pins it
    package: str
    pin: str  # the required module whose version is the program's
    minutes: float  # for a cold build on two cores
    kit: str = "cluster"  # the programs that share a folder of the cache
    version_command: tuple[str, ...] = ()
    # The condition of `serves`, for the message about an unsuitable installed version.
    wanted: str = ""
    serves: Callable[[Version, Version], bool] | None = None
    linker_variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()  # Go's build tags


def _within_one_minor(version: Version, pinned: Version) -> bool:
    # Kubernetes supports this difference between its own parts, in both directions.
    return version[0] == pinned[0] and abs(version[1] - pinned[1]) <= 1


def _same_or_newer_minor(version: Version, pinned: Version) -> bool:
    return version[0] == pinned[0] and version[1] >= pinned[1]


def _recent_etcd(version: Version, pinned: Version) -> bool:
    return version[0] == pinned[0] and version >= OLDEST_ETCD


def _recent_prometheus(version: Version, _: Version) -> bool:
    # Never compare with the pin, because the release 3.13.5 is the module's v0.313.5.
    return version[:2] >= OLDEST_PROMETHEUS


_KUBERNETES_VERSION_VARIABLES = tuple(
    f"{package}.{variable}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}")
)


def _kubernetes(name: str, minutes: float, version_command: tuple[str, ...] = ("--version",)) -> Program:
    return Program(
        name=name,
        module="cluster",
        package=f"{_KUBERNETES}/cmd/{name}",
        pin=_KUBERNETES,
        minutes=minutes,
        version_command=version_command,
        wanted="within one minor version of {pin}",
        serves=_within_one_minor,
        # Without these variables, the API server reports v0.0.0-master+$Format, which clients cannot parse.
        linker_variables=_KUBERNETES_VERSION_VARIABLES,
    )


def _prometheus(name: str, minutes: float) -> Program:
    return Program(
        name=name,
        module="monitoring",
        package=f"{_PROMETHEUS}/cmd/{name}",
        pin=_PROMETHEUS,
        minutes=minutes,
        kit="monitoring",
        version_command=("--version",),
        wanted="at least " + ".".join(map(str, OLDEST_PROMETHEUS)),
        serves=_recent_prometheus,
        linker_variables=("github.com/prometheus/common/version.Version={plain}",),
        # Without the service discoveries for clouds, which the tests never use, the build takes half the
        # time.
        tags=("remove_all_sd",),
    )


PROGRAMS: tuple[Program, ...] = (
    Program(
        name="pulumi",
        module="engine",
        package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        pin="github.com/pulumi/pulumi/pkg/v3",
        minutes=3,
        kit="engine",
        version_command=("version",),
        wanted="at least {pin}, with its Python language host beside it",
        serves=_same_or_newer_minor,
        linker_variables=("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={version}",),
    ),
    Program(
        name=LANGUAGE_HOST,
        module="python-host",
        package="github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3",
        pin="github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3",
        minutes=0.5,
        # The engine uses a language host from its own folder, but warns about one from another folder.
        kit="engine",
    ),
    Program(
        name=KUBERNETES_PLUGIN,
        module="engine",
        package="./pulumi-resource-kubernetes",
        pin="pulumi-kubernetes",
        minutes=2,
        kit="engine",
        linker_variables=("main.version={plain}",),
    ),
    # The first program compiles most of the code that the others share.
    _kubernetes("kube-apiserver", minutes=4),
    _kubernetes("kube-controller-manager", minutes=1),
    _kubernetes("kube-scheduler", minutes=0.3),
    _kubernetes("kubectl", minutes=0.5, version_command=("version", "--client")),
    Program(
        name="etcd",
        module="cluster",
        package="go.etcd.io/etcd/server/v3",
        pin="go.etcd.io/etcd/server/v3",
        minutes=0.3,
        version_command=("--version",),
        wanted="at least " + ".".join(map(str, OLDEST_ETCD)),
        serves=_recent_etcd,
    ),
    Program(
        name="kwok",
        module="cluster",
        package=f"{_KWOK}/cmd/kwok",
        pin=_KWOK,
        minutes=0.3,
        version_command=("--version",),
        wanted="at least {pin}",
        serves=_same_or_newer_minor,
    ),
    Program(
        # Never use a `registry` on PATH, because many programs have this name.
        name="registry",
        module="registry",
        package="./registry",
        pin=_REGISTRY,
        minutes=0.6,
        kit="registry",
        linker_variables=(f"{_REGISTRY}/version.version={{version}}",),
    ),
    Program(
        name="crane",
        module="registry",
        package=f"{_CRANE}/cmd/crane",
        pin=_CRANE,
        minutes=0.2,
        kit="registry",
        version_command=("version",),
        wanted="at least {pin}",
        serves=_same_or_newer_minor,
        linker_variables=(f"{_CRANE}/cmd/crane/cmd.Version={{version}}",),
    ),
    # The first program compiles most of the code that the second needs.
    _prometheus("promtool", minutes=2),
    _prometheus("prometheus", minutes=0.5),
    Program(
        name="gh",
        module="pipelines",
        package=f"{_GH}/cmd/gh",
        pin=_GH,
        minutes=1.5,
        kit="pipelines",
        version_command=("--version",),
        wanted="at least {pin}",
        serves=_same_or_newer_minor,
        linker_variables=(f"{_GH}/internal/build.Version={{plain}}",),
    ),
    Program(
        # An installed version may have other rules, but the workflows must pass the rules of this version.
        name="actionlint",
        module="pipelines",
        package=f"{_ACTIONLINT}/cmd/actionlint",
        pin=_ACTIONLINT,
        minutes=0.2,
        kit="pipelines",
        linker_variables=(f"{_ACTIONLINT}.version={{plain}}",),
    ),
    Program(
        name="buildx",
        module="builds",
        package=f"{_BUILDX}/cmd/buildx",
        pin=_BUILDX,
        minutes=1,
        kit="builds",
        version_command=("version",),
        wanted="at least {pin}",
        serves=_same_or_newer_minor,
        linker_variables=(f"{_BUILDX}/version.Version={{version}}",),
    ),
    Program(
        name="dockerfile-steps",
        module="builds",
        package="./dockerfile-steps",
        pin=_BUILDKIT,
        minutes=0.2,
        kit="builds",
    ),
    Program(
        # The real Karpenter with its kwok provider, which nobody has installed.
        name=KARPENTER,
        module="karpenter",
        package=f"{_KARPENTER}/kwok",
        pin=_KARPENTER,
        minutes=1.5,
        kit=KARPENTER,
        linker_variables=(f"{_KARPENTER}/pkg/operator.Version={{plain}}",),
    ),
)


LAB: tuple[str, ...] = tuple(program.name for program in PROGRAMS if program.kit in _KITS)
"""The programs of every lab."""

# The engine uses the language host and the script for Python's dynamic resources in its own folder, and the
# language host uses the executor in the same folder.
_BESIDE_PULUMI: tuple[str, ...] = (LANGUAGE_HOST, LANGUAGE_HOST_EXECUTOR, DYNAMIC_PROVIDER)

# The files that belong to a program.
_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "pulumi": _BESIDE_PULUMI,
    "kwok": (KWOK_STAGES,),
    KARPENTER: (KARPENTER_CRDS,),
}


@dataclass(frozen=True)
class Found:
    """A usable program (or file), and its origin."""

    name: str
    path: Path
    version: str
    origin: str  # "PATH", "KUBEBUILDER_ASSETS", "plugin", "release", "built" or "module"


@dataclass
class Programs:
    """Usable programs and files by name."""

    found: dict[str, Found] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, Path]:
        """Each program's (or file's) path, by its name."""
        return {name: entry.path for name, entry in self.found.items()}

    def __contains__(self, name: object) -> bool:
        return name in self.found

    def add(self, entry: Found) -> None:
        """Keep a program under its name."""
        self.found[entry.name] = entry


# --- the pins: go.mod and pyproject.toml are the only places that name a version ------------


def parse_version(text: str) -> Version | None:
    """The first dotted version in a program's output, as numbers."""
    match = re.search(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups(default="0")) if match else None


def pinned_version(pin: str, module: str) -> str:
    """The version that the module's go.mod (or pyproject.toml) pins, with a leading v."""
    if "/" not in pin:
        return "v" + _python_pin(pin)
    text = (TOOLS / module / "go.mod").read_text()
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(pin)}\s+(v\S+)", text, re.MULTILINE)
    if match is None:
        raise BootstrapError(f"tools/{module}/go.mod does not require {pin}.")
    return match.group(1)


def _python_pin(package: str) -> str:
    # go.mod pins the Kubernetes plugin by a commit. The version of its SDK in pyproject.toml is the release
    # of that commit.
    import tomllib  # not at the top, so that an older Python reaches the message about its version

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    for requirement in project["project"]["dependencies"]:
        name, _, version = requirement.partition("==")
        if name == package and version:
            return str(version)
    raise BootstrapError(f"pyproject.toml does not pin {package}.")


def _linker_flags(program: Program) -> str:
    version = pinned_version(program.pin, program.module)
    numbers = parse_version(version) or (0, 0, 0)
    values = {
        "version": version,
        "plain": version.removeprefix("v"),
        "major": numbers[0],
        "minor": numbers[1],
    }
    stamps = [f"-X {variable.format(**values)}" for variable in program.linker_variables]
    # Without symbol tables, which nobody needs here, the binaries are a third smaller.
    return " ".join(["-s", "-w", *stamps])


# --- the cache ------------------------------------------------------------------------------


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's folder for downloaded and built programs."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "archshift"


def go_platform() -> str:
    """This machine's platform in Go's spelling, for example linux/arm64; works without Go."""
    machine = platform.machine().lower()
    architecture = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    return f"{sys.platform}/{architecture.get(machine, machine)}"


def cache_key(kit: str) -> str:
    """A hash of everything that affects the kit's programs."""
    programs = [program for program in PROGRAMS if program.kit == kit]
    digest = hashlib.sha256()
    for module in sorted({program.module for program in programs}):
        folder = TOOLS / module
        for source in (folder / "go.mod", folder / "go.sum", *sorted(folder.rglob("*.go"))):
            content = source.read_bytes()
            digest.update(f"{source.relative_to(TOOLS)} {len(content)}\n".encode())
            digest.update(content)
    for program in programs:
        recipe = " ".join([program.name, program.package, _linker_flags(program), *program.tags])
        digest.update(f"{recipe}\n".encode())
    for file in (_EXECUTOR_FILE, _STAGES_FILE, _CRDS_FILE):
        if file.kit == kit:
            digest.update(f"{file.name} {file.sources}\n".encode())
    digest.update(f"{_BUILD_FLAGS} {go_platform()}".encode())
    return digest.hexdigest()[:16]


def cache_folder(kit: str) -> Path:
    """The folder of the kit's programs, which may not exist yet."""
    return cache_root() / "tools" / f"{kit}-{cache_key(kit)}"


@contextlib.contextmanager
def _locked(folder: Path, say: Progress) -> Iterator[None]:
    """Lets only one process at a time fill a folder, even with several checkouts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say.line(f"waiting for another process that fills {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- progress -----------------------------------------------------------------


class Progress:
    """Shows one line per program: updated on a terminal, otherwise repeated every half minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said = 0.0

    def line(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def begin(self, text: str) -> None:
        """Print what starts now."""
        self._said = time.monotonic()
        if not self._terminal:
            self.line(text)

    def tick(self, text: str, elapsed: float) -> None:
        """Show that the work continues."""
        if self._terminal:
            print(f"\r\033[K{text} … {elapsed:.0f} s", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said >= 30:
            self._said = time.monotonic()
            self.line(f"{text} … {elapsed:.0f} s")

    def end(self, text: str) -> None:
        """Replace the updated line by the result."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr)
        self.line(text)


# --- building -------------------------------------------------------------------------------

# The flags are the same on every machine, with any GOFLAGS, so that equal keys mean equal programs. The
# linker drops debug information anyway; without it, the compiler has a tenth less work.
_BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly", "-gcflags=all=-dwarf=false")
# With these stages, nodes become ready at once and send a heartbeat every 20 s, and pods run as soon as they
# are scheduled.
_STAGE_FILES = ("node/fast", "node/heartbeat", "pod/fast")
_BUILD_TIMEOUT = 3600.0


def _go_environment() -> dict[str, str]:
    return {**os.environ, "GOFLAGS": "", "GOWORK": "off"}


def find_go() -> Path:
    """The path of the Go toolchain.

    Raises:
        BootstrapError: Go is missing or too old; the message says what to install.
    """
    install = "install Go {}.{} or newer (https://go.dev/dl), or put the programs themselves on PATH.".format(
        *OLDEST_GO
    )
    go = shutil.which("go")
    if go is None:
        raise BootstrapError(f"Some programs must be built, but Go is missing: {install}")
    # Ask in the module's folder, because Go may switch to the toolchain of go.mod there.
    answer = _answer([go, "env", "GOVERSION"], cwd=TOOLS / "engine", environment=_go_environment())
    version = parse_version(answer.removeprefix("go")) if answer else None
    if version is None or version[:2] < OLDEST_GO:
        number = ".".join(map(str, version)) if version else "of an unknown version"
        raise BootstrapError(f"Some programs must be built, but Go {number} is too old: {install}")
    return Path(go)


def _build(programs: Sequence[Program], say: Progress) -> list[Found]:
    """Builds those of these programs, all of the same kit, that the cache lacks."""
    if all(_cached(program) for program in programs):
        return [_from_cache(program) for program in programs]
    folder = cache_folder(programs[0].kit)
    with _locked(folder, say):
        for abandoned in folder.glob(".building-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        for program in programs:
            if not _cached(program):
                _build_one(find_go(), program, folder, say)
    return [_from_cache(program) for program in programs]


def _build_one(go: Path, program: Program, folder: Path, say: Progress) -> None:
    version = pinned_version(program.pin, program.module)
    minutes = "half a minute" if program.minutes <= 0.5 else f"{program.minutes:.0f} min"
    text = f"building {program.name} {version} (about {minutes} the first time)"
    # Build inside the target folder, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder, ignore_cleanup_errors=True) as building:
        product = Path(building) / program.name
        command = [str(go), "build", *_BUILD_FLAGS, "-ldflags", _linker_flags(program)]
        if program.tags:
            command += ["-tags", ",".join(program.tags)]
        command += ["-o", str(product), program.package]
        seconds = _run_visibly(command, TOOLS / program.module, Path(building) / "output", text, say)
        product.replace(folder / program.name)
    say.end(f"built {program.name} {version} in {seconds:.0f} s")


def _run_visibly(command: list[str], cwd: Path, log: Path, text: str, say: Progress) -> float:
    started = time.monotonic()
    say.begin(text)
    with log.open("wb") as output:
        build = subprocess.Popen(
            command,
            cwd=cwd,
            env=_go_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its compilers can be stopped with it
        )
        try:
            while build.poll() is None:
                elapsed = time.monotonic() - started
                if elapsed > _BUILD_TIMEOUT:
                    raise BootstrapError(f"{text} did not end within {_BUILD_TIMEOUT / 60:.0f} minutes.")
                say.tick(text, elapsed)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    build.wait(0.2)
        finally:
            if build.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(build.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    build.wait(10)
    if build.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()[-15:]
        quoted = "\n".join(f"    {line}" for line in lines)
        say.end(f"failed: {text}")
        raise BootstrapError(f"{' '.join(command[:2])} {command[-1]} failed:\n{quoted}")
    return time.monotonic() - started


def _cached(program: Program) -> bool:
    return os.access(cache_folder(program.kit) / program.name, os.X_OK)


def _from_cache(program: Program) -> Found:
    path = cache_folder(program.kit) / program.name
    return Found(program.name, path, pinned_version(program.pin, program.module).removeprefix("v"), "built")


@dataclass(frozen=True)
class _ModuleFile:
    """A file of a pinned module that the cache keeps beside the programs.

    `sources` has the file itself, or folders whose YAML files are joined.
    """

    name: str
    kit: str  # also the module that pins it
    pin: str
    sources: tuple[str, ...]

    @property
    def path(self) -> Path:
        return cache_folder(self.kit) / self.name

    def find(self, say: Progress) -> Found:
        path = self.path
        if not path.exists():
            with _locked(path.parent, say):
                self._write(path)
        version = pinned_version(self.pin, self.kit).removeprefix("v")
        return Found(self.name, path, version, "module")

    def _write(self, path: Path) -> None:
        root = _module_source(self.pin, self.kit)
        sources = [root / source for source in self.sources]
        content = sources[0].read_text() if sources[0].is_file() else _joined(sources)
        partial = path.with_name(f".{self.name}.partial")
        partial.write_text(content)
        partial.chmod(0o755 if content.startswith("#!") else 0o644)
        partial.replace(path)


_EXECUTOR_FILE = _ModuleFile(
    LANGUAGE_HOST_EXECUTOR, "engine", _PULUMI_SDK, (f"python/cmd/{LANGUAGE_HOST_EXECUTOR}",)
)
# Not a part of the cache's key: go.mod, which is a part, pins its module.
_DYNAMIC_FILE = _ModuleFile(DYNAMIC_PROVIDER, "engine", _PULUMI_SDK, (f"python/dist/{DYNAMIC_PROVIDER}",))
_STAGES_FILE = _ModuleFile(
    KWOK_STAGES, "cluster", _KWOK, tuple(f"kustomize/stage/{stage}" for stage in _STAGE_FILES)
)
_CRDS_FILE = _ModuleFile(KARPENTER_CRDS, KARPENTER, _KARPENTER, ("pkg/apis/crds", "kwok/apis/crds"))


def _module_source(source_module: str, module: str) -> Path:
    # This downloads the module if necessary, and checks its content against go.sum.
    answer = _answer(
        [str(find_go()), "mod", "download", "-json", source_module],
        cwd=TOOLS / module,
        environment=_go_environment(),
        timeout=600,
    )
    source = json.loads(answer).get("Dir") if answer else None
    if not source:
        raise BootstrapError(f"Go could not download the module {source_module}.")
    return Path(source)


def _joined(folders: list[Path]) -> str:
    return joined(
        [
            file
            for folder in folders
            for file in sorted(folder.glob("*.yaml"))
            if file.name != "kustomization.yaml"
        ]
    )


# --- downloading ----------------------------------------------------------------------------


class _Releases:
    """The official release files for this machine whose versions the pins accept."""

    def __init__(self, say: Progress) -> None:
        self._say = say
        self._hosts = Hosts()
        self._files = [
            file for file in release_files(TOOLS / "releases.toml", go_platform()) if _accepted(file)
        ]

    def take(self, names: Sequence[str]) -> list[Found]:
        """Returns those of the programs that are in the cache or can be downloaded."""
        files = [file for file in self._files if set(names) & file.programs.keys()]
        return [entry for file in self._within_reach(files) for entry in self._take(file)]

    def take_joined(self, name: str) -> Found | None:
        """Returns a file that joins several release files, or None if any of them is missing."""
        parts = [file for file in self._files if name in file.programs]
        if not parts:
            return None
        digest = hashlib.sha256(" ".join(file.key for file in parts).encode()).hexdigest()[:16]
        whole = cache_root() / "releases" / digest / name
        if not whole.exists():
            taken = [entry.path for file in self._within_reach(parts) for entry in self._take(file)]
            if len(taken) < len(parts):
                return None
            with _locked(whole.parent, self._say):
                partial = whole.with_name(f".{name}.partial")
                partial.write_text(joined(taken))
                partial.replace(whole)
        return Found(name, whole, parts[0].version, "release")

    def _within_reach(self, files: Sequence[ReleaseFile]) -> list[ReleaseFile]:
        needed = {file.host for file in files if not _is_here(file)}
        silent = needed - self._hosts.reachable(needed)
        lacking = [file for file in files if file.host in silent and not _is_here(file)]
        if lacking:
            hosts = " and ".join(sorted(silent))
            names = ", ".join(dict.fromkeys(name for file in lacking for name in _spoken(file)))
            self._say.line(f"{hosts} cannot be reached, so these programs are not downloaded: {names}")
        return [file for file in files if file not in lacking]

    def _take(self, file: ReleaseFile) -> list[Found]:
        what = f"{' and '.join(_spoken(file))} {file.version}"
        text = f"downloading {what} from {file.host}"
        started = reported = time.monotonic()

        def report(have: int, total: int | None) -> None:
            nonlocal reported
            if time.monotonic() - reported >= 0.2:
                reported = time.monotonic()
                of = f" of {total / 1e6:.0f}" if total else ""
                self._say.tick(f"{text}: {have / 1e6:.0f}{of} MB", reported - started)

        folder = _release_folder(file)
        if _is_here(file):
            paths = {name: folder / name for name in file.programs}
        else:
            with _locked(folder, self._say):
                self._say.begin(text)
                try:
                    paths = fetch(file, folder, self._hosts, report)
                except DownloadError as error:
                    self._say.end(f"{what} is not downloaded: {error}.")
                    return []
            self._say.end(f"downloaded {what} in {time.monotonic() - started:.0f} s")
        return [Found(name, path, file.version, "release") for name, path in paths.items()]


def _spoken(file: ReleaseFile) -> list[str]:
    """The programs of a release file for a message, without the scripts, which nobody knows."""
    return [name for name in file.programs if name not in (LANGUAGE_HOST_EXECUTOR, DYNAMIC_PROVIDER)]


def _release_folder(file: ReleaseFile) -> Path:
    return cache_root() / "releases" / file.key


def _is_here(file: ReleaseFile) -> bool:
    return all((_release_folder(file) / name).exists() for name in file.programs)


def _accepted(file: ReleaseFile) -> bool:
    """Whether the pins accept a release; after a change of a pin, old release files no longer match."""
    version = parse_version(file.version)
    for program in PROGRAMS:
        # The language host has no release of its own; it is part of pulumi's release.
        if program.name in file.programs and program.name != LANGUAGE_HOST:
            pin = pinned_version(program.pin, program.module)
            pinned = parse_version(pin)
            if program.serves and version and pinned:
                if not program.serves(version, pinned):
                    return False
            elif file.version != pin.removeprefix("v"):
                return False
    if KWOK_STAGES in file.programs:
        return file.version == pinned_version(_KWOK, _STAGES_FILE.kit).removeprefix("v")
    return True


# --- finding --------------------------------------------------------------------------------


def _answer(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> str:
    """A command's output, or an empty text if the command fails in any way."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _installed(program: Program, refused: list[str]) -> Found | None:
    """The installed program, if its version is suitable."""
    places = [("PATH", os.environ.get("PATH", ""))]
    if program.pin in (_KUBERNETES, "go.etcd.io/etcd/server/v3"):
        places.insert(0, ("KUBEBUILDER_ASSETS", os.environ.get("KUBEBUILDER_ASSETS", "")))
    pin = pinned_version(program.pin, program.module)
    for origin, folders in places:
        path = shutil.which(program.name, path=folders) if folders else None
        # In a lab's shell, PATH has links to the cache, which is not an installation.
        if path is None or Path(path).resolve().is_relative_to(cache_root().resolve()):
            continue
        version = parse_version(_answer([path, *program.version_command]))
        pinned = parse_version(pin)
        if version and pinned and program.serves and program.serves(version, pinned):
            return Found(program.name, Path(path), ".".join(map(str, version)), origin)
        number = ".".join(map(str, version)) if version else "of an unknown version"
        refused.append(f"{path} is {number}; wanted: {program.wanted.format(pin=pin)}")
    return None


def _installed_engine(pulumi: Program, refused: list[str]) -> list[Found]:
    """The pulumi on PATH with the programs that belong beside it, or an empty list."""
    pulumi_here = _installed(pulumi, refused)
    if pulumi_here is None:
        return []
    engine = [pulumi_here]
    beside = os.pathsep.join([str(pulumi_here.path.resolve().parent), os.environ.get("PATH", "")])
    for name in _BESIDE_PULUMI:
        path = shutil.which(name, path=beside)
        if path is None:
            refused.append(f"{pulumi_here.path} has no {name} beside it")
            return []
        engine.append(Found(name, Path(path), pulumi_here.version, pulumi_here.origin))
    return engine


def kubernetes_plugin_folder() -> str:
    """The engine's name for the folder of the pinned plugin."""
    return f"resource-kubernetes-v{_python_pin('pulumi-kubernetes')}"


def _installed_plugin(version: str) -> Found | None:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    path = home / "plugins" / kubernetes_plugin_folder() / KUBERNETES_PLUGIN
    # In the lab's own shell, this is a link to the cache, which is not an installation.
    if path.resolve().is_relative_to(cache_root().resolve()):
        return None
    return Found(KUBERNETES_PLUGIN, path, version, "plugin") if os.access(path, os.X_OK) else None


def _plugin_by_pulumi(pulumi: Found, version: str, say: Progress) -> Found | None:
    """Lets an installed pulumi install the plugin; returns it, or None after a failure."""
    say.line(f"installing Pulumi's Kubernetes plugin {version}")
    install = ["plugin", "install", "resource", "kubernetes", version]
    _answer([pulumi.path, *install], timeout=300)
    return _installed_plugin(version)


def _outlook(cold: Sequence[Program]) -> str:
    """Return a line about the number of builds and their time, and how to save most of it."""
    total = sum(program.minutes for program in cold)
    engine = sum(program.minutes for program in cold if program.kit == "engine")
    text = f"programs to build: {len(cold)}, about {max(total, 1):.0f} min on 2 cores, once for this user"
    if engine >= 1:
        text += f" (pulumi on PATH would save {engine:.0f} min: https://www.pulumi.com/docs/install)"
    return text


def _all_wanted(names: Sequence[str]) -> set[str]:
    """The names, and the files that belong to each program."""
    known = {program.name for program in PROGRAMS}
    for name in names:
        if name not in known:
            raise BootstrapError(f"No program is called {name!r}; use {', '.join(sorted(known))}.")
    _check_prepared(names)
    return {*names, *(companion for name in names for companion in _COMPANIONS.get(name, ()))}


def _check_prepared(names: Sequence[str]) -> None:
    """Refuse a test any program that tools/test_needs.py does not list for it, even an installed one."""
    if (text := os.environ.get(PREPARED)) is None:
        return
    parts: dict[str, list[str]] = json.loads(text)
    # pytest names the running test in the environment: tests/lab/test_exact.py::test_ramp (setup).
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
    allowed = {
        program
        for part, programs in parts.items()
        if not test or test == part or test.startswith(f"{part}/")
        for program in programs
    }
    if lacking := sorted(set(names) - allowed):
        raise BootstrapError(
            f"{test or 'A test'} runs {', '.join(lacking)}, but tools/test_needs.py does not list that for "
            "it; add it there."
        )


def _missing_from_cache(programs: Sequence[Program]) -> list[Program]:
    cold = {program.name for program in programs if not _cached(program)}
    # These two belong together: a built engine must not run a released language host.
    pair = {"pulumi", LANGUAGE_HOST}
    if cold & pair:
        cold |= pair
    return [program for program in programs if program.name in cold]


def find_programs(*names: str, say: Progress | None = None) -> Programs:
    """Returns the named programs and the files that belong to them; downloads or builds missing ones.

    Args:
        names: Names from `PROGRAMS`; `LAB` has the programs of a lab.
        say: Shows the progress.

    Raises:
        BootstrapError: A missing program can be neither downloaded nor built.
    """
    say = say or Progress()
    wanted = _all_wanted(names)
    by_name = {program.name: program for program in PROGRAMS if program.name in wanted}
    refused: list[str] = []
    programs = Programs()

    def missing() -> list[Program]:
        return [program for name, program in by_name.items() if name not in programs]

    engine = _installed_engine(by_name["pulumi"], refused) if "pulumi" in by_name else []
    for entry in engine:
        programs.add(entry)
    for program in by_name.values():
        # The code above handles all programs of the engine together.
        if program.kit != "engine" and program.serves and (installed := _installed(program, refused)):
            programs.add(installed)
    plugin = _python_pin("pulumi-kubernetes")
    if engine and KUBERNETES_PLUGIN in by_name and (installed := _installed_plugin(plugin)):
        programs.add(installed)

    releases = _Releases(say)
    if cold := _missing_from_cache(missing()):
        for sentence in refused:
            say.line(f"not used: {sentence}")
        for entry in releases.take([program.name for program in cold]):
            if entry.name in wanted and entry.name not in programs:
                programs.add(entry)
        cold = [program for program in cold if program.name not in programs]
    if (
        engine
        and any(program.name == KUBERNETES_PLUGIN for program in cold)
        and (installed := _plugin_by_pulumi(engine[0], plugin, say))
    ):
        programs.add(installed)
    if to_build := [program for program in missing() if not _cached(program)]:
        say.line(_outlook(to_build))
    for kit in dict.fromkeys(program.kit for program in missing()):
        for entry in _build([program for program in missing() if program.kit == kit], say):
            programs.add(entry)

    for script in (_EXECUTOR_FILE, _DYNAMIC_FILE):
        if script.name in wanted and script.name not in programs:
            programs.add(script.find(say))
    if KWOK_STAGES in wanted:
        # If kwok was built, Go exists, and the stages come from the same module.
        by_hand = programs.found["kwok"].origin == "built" or _STAGES_FILE.path.exists()
        stages = None if by_hand else releases.take_joined(KWOK_STAGES)
        programs.add(stages or _STAGES_FILE.find(say))
    if KARPENTER_CRDS in wanted:
        programs.add(_CRDS_FILE.find(say))
    return programs


# --- the command ----------------------------------------------------------------------------


def _table(programs: Programs) -> str:
    rows = [("PROGRAM", "VERSION", "FROM", "PATH")]
    rows += [(entry.name, entry.version, entry.origin, str(entry.path)) for entry in programs.found.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds, downloads or builds programs and prints their paths."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--json", action="store_true", help="print names, versions, origins and paths as JSON"
    )
    parser.add_argument(
        "programs",
        nargs="*",
        metavar="PROGRAM",
        help="only these programs (default: all that the engine and the lab run)",
    )
    parser.add_argument(
        "--with",
        dest="extra",
        action="append",
        default=[],
        choices=(*EXTRA_KITS, "all"),
        metavar="KIT",
        help="also a kit that only some labs and tests need",
    )
    options = parser.parse_args(arguments)
    kits = EXTRA_KITS if "all" in options.extra else options.extra
    extra = [program.name for program in PROGRAMS if program.kit in kits]
    try:
        programs = find_programs(*dict.fromkeys([*(options.programs or LAB), *extra]))
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The next run continues from here.", file=sys.stderr)
        return 130
    if options.json:
        rows = {
            name: {"path": str(entry.path), "version": entry.version, "from": entry.origin}
            for name, entry in programs.found.items()
        }
        print(json.dumps(rows, indent=2))
    else:
        print(_table(programs))
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - the user's python3 may be older
        sys.exit("archshift needs Python 3.11 or newer; this is " + platform.python_version() + ".")
    sys.exit(main())
