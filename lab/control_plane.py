"""A Kubernetes control plane of this machine's own: etcd, API server, scheduler, controllers, kwok.

An image registry is beside it, and Karpenter where it is asked for. Everything is in one folder. The
servers listen on 127.0.0.1 only, but for Karpenter's two ports of figures and health; they verify each
other's certificates, and go on after the command that started them.
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
from lab.certificates import ensure_certificates, write_private
from lab.processes import Server, free_port, is_free
from tools.bootstrap import (
    KARPENTER,
    KARPENTER_CRDS,
    KUBERNETES_PLUGIN,
    KWOK_STAGES,
    LAB,
    BootstrapError,
    find_programs,
    kubernetes_plugin_folder,
)
from tools.python_env import find_uv

PROJECT = Path(__file__).resolve().parent.parent
CONTEXT = "archshift-lab"

# What image names call the lab's registry: a tracked file cannot know its port. archshift learns
# where it is from a file that the lab writes.
REGISTRY_HOST = "registry.shop.example"

# In the order they start; they stop in the opposite one.
_SERVING = ("registry", "etcd", "kube-apiserver")
_CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok")

_READY_TIMEOUT = 60.0
# How long each may take to end by itself. The API server waits up to a minute for watches that
# clients hold open and keeps nothing that etcd does not have, so it is not waited for.
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

# Each client has a user of its own, with the rights Kubernetes gives to that user by default.
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
    """Something about the lab that the user has to know, in a sentence."""


def _quiet(_: str) -> None:
    """Says nothing."""


class Lab:
    """One lab, in its folder.

    With `karpenter` its nodes are Karpenter's and not the stack's; the two kinds of lab do not share a
    folder.
    """

    def __init__(self, directory: Path, *, karpenter: bool = False) -> None:
        self.directory = directory.resolve()
        self.kubeconfig = self.directory / "kubeconfig"
        self.stack = "lab-karpenter" if karpenter else "lab"
        self._clients = (*_CLIENTS, KARPENTER) if karpenter else _CLIENTS
        self.servers = {name: Server(name, self.directory) for name in (*_SERVING, *self._clients)}
        self._ports_file = self.directory / "run" / "ports.json"
        self._registries = self.directory / "registries.yaml"

    # --- its life ---------------------------------------------------------------------------

    def start(self, say: Say = _quiet) -> None:
        """Starts whatever of it does not run, and returns when it answers.

        Raises:
            LabError: if a server does not come up; then those started are stopped again.
        """
        self._make_folders()
        with self._locked():
            stopped = self.missing()
            # A link that leads nowhere: the cache was cleaned up while the lab ran.
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
        """Stops what runs of it, and nothing else. Its data stays."""
        if not self.directory.exists():
            return
        with self._locked():
            self._stop_servers(tuple(self.servers))

    def kill(self, name: str) -> None:
        """Ends one server as a crash would; `start` brings it back."""
        self.servers[name].kill()

    def is_running(self) -> bool:
        """Whether all of its servers run."""
        return not self.missing()

    def missing(self) -> list[str]:
        """The servers that do not run."""
        return [name for name, server in self.servers.items() if server.process() is None]

    # --- using it ---------------------------------------------------------------------------

    @property
    def registry(self) -> str:
        """The registry's host and port; it speaks plain http."""
        return f"127.0.0.1:{json.loads(self._ports_file.read_text())['registry']}"

    @property
    def database(self) -> str:
        """Where etcd listens; it asks for a certificate."""
        return f"https://127.0.0.1:{json.loads(self._ports_file.read_text())['etcd']}"

    def environment(self) -> dict[str, str]:
        """The variables with which plain kubectl and pulumi work on this lab."""
        first = [str(self.directory / "bin"), str(PROJECT / ".venv" / "bin")]
        rest = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if entry not in first]
        return {
            "PATH": os.pathsep.join([*first, *rest]),
            "KUBECONFIG": str(self.kubeconfig),
            "PULUMI_BACKEND_URL": f"file://{self.directory / 'state'}",
            # The lab's stack holds no secret: everything in it can be read off the cluster.
            "PULUMI_CONFIG_PASSPHRASE": "",
            # The user's own logins and plugins stay out of this, and this out of them.
            "PULUMI_HOME": str(self.directory / "pulumi"),
            # The engine would download a plugin for every SDK that is installed, the AWS one of half
            # a GiB too; this way it gets those that the lab's program asks for.
            "PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_STACK": self.stack,
            "ARCHSHIFT_REGISTRIES": str(self._registries),
        }

    def process_environment(self) -> dict[str, str]:
        """The whole environment for a program that works on this lab."""
        # Another project's active virtual environment would be taken for this one's.
        inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        return {**inherited, **self.environment()}

    def export_lines(self) -> str:
        """The same environment for a shell to read."""
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
        """Runs one of the lab's programs (kubectl, pulumi) in its environment and waits for it."""
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
        """What kubectl prints.

        Raises:
            LabError: with kubectl's own words, if it fails.
        """
        done = self.run("kubectl", *arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout

    # --- its parts --------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for folder in ("", "bin", "keys", "logs", "run", "etcd", "registry", "state", "pulumi"):
            path = self.directory / folder
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time starts or stops this lab."""
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _link_programs(self, stopped: Sequence[str]) -> None:
        try:
            paths = find_programs(*LAB, *((KARPENTER,) if KARPENTER in self.servers else ())).paths
            uv = find_uv(install=False)
            # The engine's Python host runs both.
            paths |= {"uv": uv, "uvx": uv.with_name("uvx")}
        except BootstrapError as error:
            raise LabError(str(error)) from error
        for name, path in paths.items():
            link = self._link(name)
            # In the lab's own shell a program is found through the link that is already here.
            # A running server keeps its link: that is how it is recognised.
            if path == link or (name in self.servers and name not in stopped):
                continue
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path)

    def _link(self, name: str) -> Path:
        if name == KUBERNETES_PLUGIN:
            # Where the engine keeps plugins: it warns about those that it finds on PATH.
            return self.directory / "pulumi" / "plugins" / kubernetes_plugin_folder() / name
        return self.directory / "bin" / name

    def _ports(self, stopped: Sequence[str]) -> dict[str, int]:
        """Chosen once, and again only when somebody else has taken one in the meantime."""
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
        """The registry's own configuration, and the file from which archshift learns where it is."""
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
        arguments = self._arguments(ports)
        environments = {KARPENTER: self._karpenter_environment(ports)} if KARPENTER in self.servers else {}

        def begin(names: Sequence[str]) -> None:
            for name in names:
                if self.servers[name].process() is None:
                    environment = {**self._server_environment(), **environments.get(name, {})}
                    self.servers[name].start(arguments[name], environment)
                    begun.append(name)

        begin(_SERVING)
        # The others give up when there is nobody to talk to, so they wait for it.
        self._wait("the registry to answer", self._registry_answers, ("registry",), say, "registry")
        self._wait("the API server to answer", self._answers("/readyz"), _SERVING, say)
        if KARPENTER in self.servers:
            self._define_karpenter()
        if "kube-apiserver" in begun:
            # What outlived an API server that was killed may be giving up just now, waits for up to a
            # minute between two tries, or, as kwok does, never comes back to a pod whose patch was
            # lost on the way: a rollout then does not end.
            self._stop_servers(self._clients)
        # Made by a controller, so when it is there again the controllers work.
        self.kubectl("delete", "serviceaccount", "default", "--namespace=default", "--ignore-not-found")
        begin(self._clients)
        account = self._answers("/api/v1/namespaces/default/serviceaccounts/default")
        self._wait("the controllers to work", account, tuple(self.servers), say)
        if KARPENTER in self.servers:
            health = ports["karpenter-health"]
            self._wait("Karpenter to watch", lambda: karpenter.is_ready(health), (KARPENTER,), say, KARPENTER)
        say(f"the control plane is up after {time.monotonic() - started:.1f} s")

    def _define_karpenter(self) -> None:
        """The kinds of objects that Karpenter works on, and the node class that the pools refer to."""
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
        # Nothing of the user's shell steers these (ETCD_*, GODEBUG, proxies for loopback, …).
        kept = ("PATH", "HOME", "TMPDIR", "LANG")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        # Otherwise the registry looks for a collector of traces on this machine.
        return {**inherited, "OTEL_TRACES_EXPORTER": "none"}

    def _stop_servers(self, names: Sequence[str]) -> None:
        # The clients first: the API server ends sooner when nobody watches, and etcd ends last
        # and cleanly, since it has all there is to lose.
        for name in self._clients:
            if name in names:
                self.servers[name].ask_to_stop()
        for name in reversed(self.servers):
            if name in names:
                self.servers[name].stop(_GRACE.get(name, 3.0))

    def _wait(
        self,
        what: str,
        is_so: Callable[[], bool],
        watched: Sequence[str],
        say: Say,
        blamed: str = "kube-apiserver",
    ) -> None:
        """Waits until it is so, unless one of the watched servers ends before."""
        started = said = time.monotonic()
        say(f"waiting for {what}")
        while not is_so():
            now = time.monotonic()
            if now - said > 10:
                said = now
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

    def _arguments(self, ports: Mapping[str, int]) -> dict[str, list[str]]:
        keys = self.directory / "keys"
        etcd = f"https://127.0.0.1:{ports['etcd']}"
        peer = f"https://127.0.0.1:{ports['etcd-peer']}"
        client = ["--leader-elect=false", "--secure-port=0"]  # alone, and nobody asks them anything
        return {
            "registry": ["serve", str(keys / "registry.yaml")],
            "etcd": [
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                f"--cert-file={keys / 'etcd.crt'}",
                f"--key-file={keys / 'etcd.key'}",
                f"--trusted-ca-file={keys / 'ca.crt'}",
                "--client-cert-auth",
                f"--peer-cert-file={keys / 'etcd.crt'}",
                f"--peer-key-file={keys / 'etcd.key'}",
                f"--peer-trusted-ca-file={keys / 'ca.crt'}",
                "--peer-client-cert-auth",
                # A lab may lose its last second when the machine loses its power.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            "kube-apiserver": [
                "--bind-address=127.0.0.1",
                f"--secure-port={ports['kube-apiserver']}",
                f"--etcd-servers={etcd}",
                f"--etcd-cafile={keys / 'ca.crt'}",
                f"--etcd-certfile={keys / 'etcd-client.crt'}",
                f"--etcd-keyfile={keys / 'etcd-client.key'}",
                f"--tls-cert-file={keys / 'api-server.crt'}",
                f"--tls-private-key-file={keys / 'api-server.key'}",
                f"--cert-dir={keys}",
                f"--token-auth-file={keys / 'tokens.csv'}",
                "--anonymous-auth=false",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={keys / 'service-account.pub'}",
                f"--service-account-signing-key-file={keys / 'service-account.key'}",
                # Simulated pods have no use for a token, and would wait for their account.
                "--disable-admission-plugins=ServiceAccount",
                "--service-cluster-ip-range=10.96.0.0/16",
                # Nothing in the lab reaches the API server through a Service.
                "--endpoint-reconciler-type=none",
                "--advertise-address=127.0.0.1",
                "--profiling=false",
            ],
            "kube-controller-manager": [
                *client,
                f"--kubeconfig={self._kubeconfig_of('kube-controller-manager')}",
                # Each controller with its own account and rights, as installers set it up.
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={keys / 'service-account.key'}",
                # There is no cloud to ask for addresses, balancers and routes. Node lifecycle
                # stays: without it new nodes keep their not-ready taint.
                "--controllers=*,-node-ipam-controller,-service-lb-controller,-node-route-controller",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            "kube-scheduler": [
                *client,
                # The stock profile: what archshift relies on is what every cluster has.
                f"--kubeconfig={self._kubeconfig_of('kube-scheduler')}",
            ],
            "kwok": [
                f"--kubeconfig={self._kubeconfig_of('kwok')}",
                f"--config={self.directory / 'bin' / KWOK_STAGES}",
                f"--config={Path(__file__).resolve().parent / 'stages.yaml'}",
                "--manage-all-nodes=true",
                # 0: no leases, nodes are kept alive by their heartbeats. With leases kwok takes
                # the nodes of its predecessor only when those expire, 40 s after a restart, and
                # overlooks pods that reach a new node before the lease reaches its cache.
                "--node-lease-duration-seconds=0",
                # 0: no kubelet port. It would listen on every address.
                "--node-port=0",
            ],
            KARPENTER: [],  # all of its settings are in its environment
        }


def user_shell() -> str:
    """The user's shell, for `lab shell`."""
    return os.environ.get("SHELL") or shutil.which("bash") or "/bin/sh"


def print_progress(text: str) -> None:
    """Says one line of progress where it does not mix with output."""
    print(text, file=sys.stderr, flush=True)
