"""A Kubernetes control plane on this machine: etcd, API server, scheduler, controllers, kwok.

The lab also has an image registry and, on request, Karpenter. Everything is in one folder. The servers
listen on 127.0.0.1 only, except Karpenter's two ports for metrics and health. They verify each other's
certificates, and they keep running after the command that started them.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from lab import karpenter
from lab.arguments import server_arguments
from lab.certificates import ensure_certificates, write_private
from lab.processes import Server, free_port, is_free
from tools.bootstrap import (
    KARPENTER,
    KARPENTER_CRDS,
    KUBERNETES_PLUGIN,
    LAB,
    BootstrapError,
    find_programs,
    kubernetes_plugin_folder,
)
from tools.python_env import find_uv

PROJECT = Path(__file__).resolve().parent.parent
CONTEXT = "archshift-lab"

# The host of the lab's registry in image names, because a tracked file cannot know the port. The lab
# writes a file that tells archshift the real address.
REGISTRY_HOST = "registry.shop.example"

# The servers start in this order and stop in the opposite order.
_SERVING = ("registry", "etcd", "kube-apiserver")
_CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok")

_READY_TIMEOUT = 180.0
# Seconds that a server has for its own shutdown. The API server waits up to a minute for open watches,
# but it keeps no data that etcd lacks, so the lab does not wait for it.
_GRACE = {"kube-apiserver": 2.0, "etcd": 15.0}
# Port to the server that listens on it.
_PORTS = {
    "etcd": "etcd",
    "etcd-peer": "etcd",
    "kube-apiserver": "kube-apiserver",
    "registry": "registry",
    "karpenter-health": KARPENTER,
    "karpenter-metrics": KARPENTER,
}

# Each client has its own user, with the rights that Kubernetes gives to that user by default.
_ADMINISTRATORS = "system:masters"
_USERS = {
    "admin": ("archshift-lab", _ADMINISTRATORS),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kwok": ("kwok", _ADMINISTRATORS),
    KARPENTER: (KARPENTER, _ADMINISTRATORS),
}

Say = Callable[[str], None]


class LabError(Exception):
    """A problem of the lab, in a sentence for the user."""


def _quiet(_: str) -> None:
    """Ignores the progress."""


class Lab:
    """A lab in its folder.

    With `karpenter`, Karpenter creates the nodes, and not the stack. Each kind of lab needs its own folder.
    """

    def __init__(self, directory: Path, *, karpenter: bool = False) -> None:
        self.directory = directory.resolve()
        self.kubeconfig = self.directory / "kubeconfig"
        self.stack = "lab-karpenter" if karpenter else "lab"
        self._clients = (*_CLIENTS, KARPENTER) if karpenter else _CLIENTS
        self.servers = {name: Server(name, self.directory) for name in (*_SERVING, *self._clients)}
        self._ports_file = self.directory / "run" / "ports.json"
        self._registries = self.directory / "registries.yaml"

    # --- start and stop ---------------------------------------------------------------------------

    def start(self, say: Say = _quiet) -> None:
        """Starts the servers that do not run, and returns when they answer.

        Raises:
            LabError: A server does not start. Then the servers that this call started are stopped again.
        """
        self._make_folders()
        with self._locked():
            stopped = self.missing()
            # A link is broken if somebody deleted the cache while the lab ran.
            linked = [link.exists() for link in (self.directory / "bin").iterdir()]
            if not stopped and linked and all(linked):
                return
            self._link_programs(stopped)
            ports = self._ports(stopped)
            ensure_certificates(self.directory / "keys")
            self._write_kubeconfigs(ports["kube-apiserver"])
            self._write_registry_files(ports["registry"])
            begun: list[str] = []
            try:
                self._start_servers(ports, begun, say)
            except BaseException:
                self._stop_servers(begun)
                raise

    def stop(self) -> None:
        """Stops the lab's servers, and no other process. The data stays."""
        if not self.directory.exists():
            return
        with self._locked():
            self._stop_servers(tuple(self.servers))

    def kill(self, name: str) -> None:
        """Kills a server, as a crash would; `start` starts it again."""
        self.servers[name].kill()

    def is_running(self) -> bool:
        """Whether all servers run."""
        return not self.missing()

    def missing(self) -> list[str]:
        """The servers that do not run."""
        return [name for name, server in self.servers.items() if server.process() is None]

    # --- use ---------------------------------------------------------------------------

    @property
    def registry(self) -> str:
        """The registry's host and port, for plain http."""
        return f"127.0.0.1:{json.loads(self._ports_file.read_text())['registry']}"

    @property
    def database(self) -> str:
        """The address of etcd, which requires a client certificate."""
        return f"https://127.0.0.1:{json.loads(self._ports_file.read_text())['etcd']}"

    def environment(self) -> dict[str, str]:
        """The variables that make kubectl and pulumi work on this lab."""
        first = [str(self.directory / "bin"), str(PROJECT / ".venv" / "bin")]
        rest = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if entry not in first]
        return {
            "PATH": os.pathsep.join([*first, *rest]),
            "KUBECONFIG": str(self.kubeconfig),
            # Without metadata in files of their own: an engine that is killed while it writes one leaves an
            # empty file, and then it cannot load its checkpoint.
            "PULUMI_BACKEND_URL": f"file://{self.directory / 'state'}?metadata=skip",
            # The lab's stack has no secret: everybody with access to the cluster can read all its values.
            "PULUMI_CONFIG_PASSPHRASE": "",
            # A separate home, so that the lab and the user's own logins and plugins never mix.
            "PULUMI_HOME": str(self.directory / "pulumi"),
            # Otherwise the engine would download the plugins of all installed SDKs, including 0.5 GiB for
            # AWS. With this setting it downloads only the plugins that the lab's program uses.
            "PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_STACK": self.stack,
            "ARCHSHIFT_REGISTRIES": str(self._registries),
        }

    def process_environment(self) -> dict[str, str]:
        """The complete environment for a program that works on this lab."""
        # Another project's active virtual environment must not replace this project's.
        inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        # The engine's plugin for Kubernetes writes the kubeconfig, with the lab's key, to a temporary file at
        # each run, and leaves it there. In the lab's directory it goes with the lab.
        temporary = self.directory / "tmp"
        temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {"TMPDIR": str(temporary), **inherited, **self.environment()}

    def export_lines(self) -> str:
        """The same environment as export lines for a shell."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()]
        if os.environ.get("VIRTUAL_ENV"):
            lines.append("export VIRTUAL_ENV=")
        return "\n".join(lines)

    def run(
        self,
        program: str,
        *arguments: str,
        stdin: str | None = None,
        timeout: float = 120,
        cwd: Path = PROJECT,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the lab (kubectl, pulumi) in the lab's environment and waits for its end."""
        path = self.directory / "bin" / program
        return subprocess.run(
            [str(path), *arguments],
            cwd=cwd,
            env={**self.process_environment(), **(environment or {})},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Runs kubectl and returns its output.

        Raises:
            LabError: kubectl failed; the message has its error output.
        """
        done = self.run("kubectl", *arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout

    # --- parts --------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for folder in ("", "bin", "keys", "logs", "run", "etcd", "registry", "state", "pulumi"):
            path = self.directory / folder
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lets only one command at a time start or stop this lab."""
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _link_programs(self, stopped: Sequence[str]) -> None:
        try:
            paths = find_programs(*LAB, *((KARPENTER,) if KARPENTER in self.servers else ())).paths
            uv = find_uv(install=False)
            # The engine's Python language host runs both.
            paths |= {"uv": uv, "uvx": uv.with_name("uvx")}
        except BootstrapError as error:
            raise LabError(str(error)) from error
        for name, path in paths.items():
            link = self._link(name)
            # In the lab's own shell, the bootstrap finds this very link on PATH. A running server keeps its
            # link, because the link identifies its process.
            if path == link or (name in self.servers and name not in stopped):
                continue
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path)

    def _link(self, name: str) -> Path:
        if name == KUBERNETES_PLUGIN:
            # The engine's own folder for plugins, because the engine warns about plugins on PATH.
            return self.directory / "pulumi" / "plugins" / kubernetes_plugin_folder() / name
        return self.directory / "bin" / name

    def _ports(self, stopped: Sequence[str]) -> dict[str, int]:
        """Chooses the ports once, and a new port only if another program now uses the old one."""
        file = self._ports_file
        ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        for name, server in _PORTS.items():
            if server not in self.servers:
                continue
            in_use_by_us = server not in stopped
            if not in_use_by_us and (name not in ports or not is_free(ports[name])):
                ports[name] = free_port(ports.values())
        write_private(file, json.dumps(ports).encode())
        return ports

    def _write_kubeconfigs(self, port: int) -> None:
        file = self.directory / "keys" / "tokens.json"
        tokens: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        for client in _USERS:
            tokens.setdefault(client, secrets.token_urlsafe(32))
        write_private(file, json.dumps(tokens).encode())
        lines = [f'{tokens[client]},{user},{user},"{group}"\n' for client, (user, group) in _USERS.items()]
        write_private(self.directory / "keys" / "tokens.csv", "".join(lines).encode())
        for client in _USERS:
            path = self.kubeconfig if client == "admin" else self._kubeconfig_of(client)
            write_private(path, self._kubeconfig(port, tokens[client]))

    def _kubeconfig_of(self, client: str) -> Path:
        return self.directory / "keys" / f"{client}.kubeconfig"

    def _kubeconfig(self, port: int, token: str) -> bytes:
        authority = base64.b64encode((self.directory / "keys" / "ca.crt").read_bytes()).decode()
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        }
        return yaml.safe_dump(content, sort_keys=False).encode()

    def _write_registry_files(self, port: int) -> None:
        """Writes the registry's configuration, and the file that tells archshift the registry's address."""
        address = f"127.0.0.1:{port}"
        configuration = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "registry")},
                "delete": {"enabled": True},
            },
            "http": {"addr": address},
        }
        file = self.directory / "keys" / "registry.yaml"
        write_private(file, yaml.safe_dump(configuration, sort_keys=False).encode())
        registries = {REGISTRY_HOST: {"mirrors": [address]}, address: {"plain_http": True}}
        write_private(self._registries, yaml.safe_dump(registries, sort_keys=False).encode())

    def _start_servers(self, ports: Mapping[str, int], begun: list[str], say: Say) -> None:
        started = time.monotonic()
        arguments = server_arguments(self.directory, ports)
        environments = {KARPENTER: self._karpenter_environment(ports)} if KARPENTER in self.servers else {}

        def begin(names: Sequence[str]) -> None:
            for name in names:
                if self.servers[name].process() is None:
                    environment = {**self._server_environment(), **environments.get(name, {})}
                    self.servers[name].start(arguments[name], environment)
                    begun.append(name)

        begin(_SERVING)
        # The clients stop without an API server, so they start after it.
        self._wait("the registry to answer", self._registry_answers, ("registry",), say, "registry")
        self._wait("the API server to answer", self._answers("/readyz"), _SERVING, say)
        if KARPENTER in self.servers:
            self._define_karpenter()
        if "kube-apiserver" in begun:
            # Restart all clients that survived a killed API server. A client may be about to stop, or may
            # wait up to a minute between two attempts. And kwok never repeats a lost patch of a pod, so a
            # rollout would never end.
            self._stop_servers(self._clients)
        # A controller creates this account. When it exists again, the controllers work.
        self.kubectl("delete", "serviceaccount", "default", "--namespace=default", "--ignore-not-found")
        begin(self._clients)
        account = self._answers("/api/v1/namespaces/default/serviceaccounts/default")
        self._wait("the controllers to work", account, tuple(self.servers), say)
        if KARPENTER in self.servers:
            health = ports["karpenter-health"]
            self._wait("Karpenter to watch", lambda: karpenter.is_ready(health), (KARPENTER,), say, KARPENTER)
        say(f"the control plane is up after {time.monotonic() - started:.1f} s")

    def _define_karpenter(self) -> None:
        """Creates Karpenter's resource definitions, and the node class that the NodePools use."""
        self.kubectl("apply", "--server-side", f"--filename={self.directory / 'bin' / KARPENTER_CRDS}")
        definitions = [f"customresourcedefinition/{name}" for name in karpenter.CRDS]
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *definitions)
        self.kubectl("apply", "--filename=-", stdin=json.dumps(karpenter.NODE_CLASS))

    def _karpenter_environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        types = self.directory / "run" / "instance-types.json"
        types.write_text(karpenter.instance_types())
        kubeconfig = self._kubeconfig_of(KARPENTER)
        return karpenter.environment(kubeconfig, ports["karpenter-metrics"], ports["karpenter-health"], types)

    def _server_environment(self) -> dict[str, str]:
        # The user's shell must not change the servers (with ETCD_*, GODEBUG, proxies for loopback, …).
        # GOGC is for this lab as much as for the shell's other programs: less work for more memory.
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "GOGC")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        # Otherwise the registry looks for a trace collector on this machine.
        return {**inherited, "OTEL_TRACES_EXPORTER": "none"}

    def _stop_servers(self, names: Sequence[str]) -> None:
        # Stop the clients first, because the API server stops sooner without watches. Stop etcd last and
        # cleanly, because only etcd has data to lose.
        for name in self._clients:
            if name in names:
                self.servers[name].ask_to_stop()
        for name in reversed(self.servers):
            if name in names:
                self.servers[name].stop(_GRACE.get(name, 3.0))

    def _wait(
        self,
        what: str,
        is_done: Callable[[], bool],
        watched: Sequence[str],
        say: Say,
        blamed: str = "kube-apiserver",
    ) -> None:
        """Waits until the condition is true.

        Raises:
            LabError: A watched server stopped, or the wait took too long.
        """
        started = reported = time.monotonic()
        say(f"waiting for {what}")
        while not is_done():
            now = time.monotonic()
            if now - reported > 10:
                reported = now
                say(f"still waiting for {what} after {now - started:.0f} s")
            for name in watched:
                if self.servers[name].process() is None:
                    raise LabError(self._failure(f"{name} stopped while waiting for {what}", name))
            if now - started > _READY_TIMEOUT:
                sentence = f"Waited {_READY_TIMEOUT:.0f} s for {what}"
                raise LabError(self._failure(sentence, blamed))
            time.sleep(0.05)

    def _failure(self, sentence: str, name: str) -> str:
        server = self.servers[name]
        quoted = "\n".join(f"    {line}" for line in server.last_words().splitlines())
        return f"{sentence}. The log of {server.name} ({server.log}) ends with:\n{quoted}"

    def _answers(self, path: str) -> Callable[[], bool]:
        admin = yaml.safe_load(self.kubeconfig.read_text())
        cluster = admin["clusters"][0]["cluster"]
        trust = ssl.create_default_context(cafile=str(self.directory / "keys" / "ca.crt"))
        request = urllib.request.Request(  # noqa: S310 - the lab's own https address
            cluster["server"] + path,
            headers={"Authorization": "Bearer " + admin["users"][0]["user"]["token"]},
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )

        def answers() -> bool:
            try:
                with opener.open(request, timeout=5) as response:
                    return bool(response.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        return answers

    def _registry_answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self.registry}/v2/", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def user_shell() -> str:
    """The user's shell, for `lab shell`."""
    return os.environ.get("SHELL") or shutil.which("bash") or "/bin/sh"


def print_progress(text: str) -> None:
    """Prints a line of progress to standard error, separate from the output."""
    print(text, file=sys.stderr, flush=True)
