"""The lab itself: what it protects, what it leaves alone, and that it comes back as it was."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from lab.control_plane import PROJECT, Lab, LabError
from lab.demo import cost_of, fleet_line, notes, restarts_line, step_table
from lab.sample import load_workloads, prepare_stack
from tests.lab.lab_helpers import Cluster, Manifest, daemon_set, deployment


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A second lab beside the first, in a folder whose name needs quoting."""
    lab = Lab(tmp_path_factory.mktemp("another lab's folder"))
    lab.start()
    yield lab
    lab.stop()


def test_every_server_runs(control_plane: Lab) -> None:
    control_plane.start()
    assert control_plane.is_running()
    assert control_plane.missing() == []


def test_privileged_pods_are_admitted_as_on_eks(control_plane: Lab) -> None:
    """The agents of nodes need them: CNI plugins, drivers of disks."""
    agent = daemon_set("agent")
    agent["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    text = yaml.safe_dump(agent)
    assert "created" in control_plane.kubectl("create", "--dry-run=server", "--filename=-", stdin=text)


# --- what it protects -----------------------------------------------------------------------


def _endpoint(lab: Lab) -> tuple[str, str]:
    content = yaml.safe_load(lab.kubeconfig.read_text())
    return content["clusters"][0]["cluster"]["server"], content["users"][0]["user"]["token"]


def _get(url: str, context: ssl.SSLContext, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the lab's own address
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_api_server_shows_a_certificate_that_only_the_labs_authority_vouches_for(
    control_plane: Lab,
) -> None:
    url, token = _endpoint(control_plane)
    trusting = ssl.create_default_context(cafile=str(control_plane.directory / "keys" / "ca.crt"))
    assert _get(url + "/version", trusting, token) == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        _get(url + "/version", ssl.create_default_context(), token)


def test_nobody_is_served_without_the_token(control_plane: Lab) -> None:
    url, _ = _endpoint(control_plane)
    trusting = ssl.create_default_context(cafile=str(control_plane.directory / "keys" / "ca.crt"))
    assert _get(url + "/api/v1/nodes", trusting) == 401
    assert _get(url + "/api/v1/nodes", trusting, "guessed") == 401


def test_etcd_serves_only_who_has_a_certificate_of_the_lab(control_plane: Lab) -> None:
    keys = control_plane.directory / "keys"
    port = json.loads((control_plane.directory / "run" / "ports.json").read_text())["etcd"]
    url = f"https://127.0.0.1:{port}/version"
    stranger = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        _get(url, stranger)
    known = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    known.load_cert_chain(keys / "etcd-client.crt", keys / "etcd-client.key")
    assert _get(url, known) == 200


def test_keys_and_tokens_are_readable_by_their_owner_only(control_plane: Lab) -> None:
    folder = control_plane.directory
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700
    for path in [*(folder / "keys").iterdir(), control_plane.kubeconfig]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_key_that_signs_certificates_is_not_kept(control_plane: Lab) -> None:
    assert not (control_plane.directory / "keys" / "ca.key").exists()


def test_each_lab_has_secrets_of_its_own(control_plane: Lab, another: Lab) -> None:
    for name in ("ca.crt", "api-server.key", "tokens.csv"):
        first, second = (lab.directory / "keys" / name for lab in (control_plane, another))
        assert first.read_bytes() != second.read_bytes()


def test_every_server_listens_on_loopback_only(control_plane: Lab) -> None:
    control_plane.start()
    listening = {}
    for name in control_plane.servers:
        process = control_plane.servers[name].process()
        assert process is not None
        sockets = process.net_connections(kind="inet")
        listening[name] = {
            item.laddr.ip for item in sockets if item.status == psutil.CONN_LISTEN or not item.raddr
        }
    assert set().union(*listening.values()) == {"127.0.0.1"}
    # The others have nobody to answer to.
    assert {name for name, addresses in listening.items() if addresses} == {
        "registry",
        "etcd",
        "kube-apiserver",
    }


# --- what it leaves alone, and how it comes back ---------------------------------------------


def test_two_labs_run_side_by_side_and_stopping_one_leaves_the_other(
    control_plane: Lab, another: Lab
) -> None:
    control_plane.start()
    before = {name: server.process() for name, server in control_plane.servers.items()}
    another.stop()
    assert another.missing() == list(another.servers)
    assert {name: server.process() for name, server in control_plane.servers.items()} == before
    another.start()


def test_it_comes_back_with_its_objects_its_address_and_its_token(another: Lab) -> None:
    another.start()
    another.kubectl("create", "namespace", "kept")
    before = another.kubeconfig.read_bytes()
    another.stop()
    another.start()
    assert "namespace/kept" in another.kubectl("get", "namespaces", "--output=name")
    assert another.kubeconfig.read_bytes() == before


def test_another_command_finds_what_this_one_started(another: Lab) -> None:
    another.start()
    assert Lab(another.directory).is_running()


def test_the_next_start_brings_a_killed_server_back(another: Lab) -> None:
    """With its data, and with clients that do not wait for the one that is gone."""
    another.start()
    before = {name: server.process() for name, server in another.servers.items()}
    another.kill("kube-apiserver")
    # The controllers may give up without an API server, and are brought back then.
    assert {"kube-apiserver"} <= {*another.missing()} <= {"kube-apiserver", "kube-controller-manager"}
    another.start()
    after = {name: server.process() for name, server in another.servers.items()}
    assert after["etcd"] == before["etcd"]
    assert after["kube-apiserver"] != before["kube-apiserver"]
    for client in ("kube-controller-manager", "kube-scheduler", "kwok"):
        assert after[client] != before[client]
    assert None not in after.values()
    assert "default" in another.kubectl("get", "namespaces", "--output=name")


def test_no_connection_gets_a_port_of_the_lab_while_a_server_is_away(control_plane: Lab) -> None:
    ports = json.loads((control_plane.directory / "run" / "ports.json").read_text()).values()
    # Linux gives connections those from 32768, unless told otherwise, and macOS those from 49152.
    assert [port for port in ports if not 1024 <= port < 32768] == []
    assert len(set(ports)) == len(ports) == 4


def test_a_port_that_somebody_took_meanwhile_is_left_to_them(another: Lab) -> None:
    another.start()
    url, token = _endpoint(another)
    another.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        taken.listen()
        another.start()
    moved, same_token = _endpoint(another)
    assert moved != url
    assert same_token == token
    assert "default" in another.kubectl("get", "namespaces", "--output=name")


def test_a_pid_that_now_belongs_to_somebody_else_is_not_touched(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    (lab.directory / "run").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (lab.directory / "run" / "etcd.pid").write_text(f"{stranger.pid}\n")
        lab.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    (lab.directory / "etcd").mkdir(parents=True)
    (lab.directory / "etcd" / "member").write_text("not a folder")
    with pytest.raises(LabError) as failure:
        lab.start()
    said = str(failure.value)
    assert said.startswith("etcd stopped while waiting for the API server to answer. The log of etcd (")
    assert str(lab.directory / "logs" / "etcd.log") in said
    assert "not a directory" in said
    assert lab.missing() == list(lab.servers), "nothing of it goes on"


# --- using it -------------------------------------------------------------------------------


def _lab_command(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", f"--directory={lab.directory}", *arguments],
        cwd=PROJECT,
        env={**os.environ, "VIRTUAL_ENV": "/somewhere/else"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_its_environment_is_export_lines_with_which_kubectl_and_pulumi_work(another: Lab) -> None:
    another.start()
    printed = _lab_command(another, "env")
    assert printed.returncode == 0
    assert all(line.startswith("export ") for line in printed.stdout.splitlines())
    script = (
        f"{printed.stdout}\nset -e\nkubectl get namespaces --output=name\n"
        'pulumi whoami --verbose\necho "[$VIRTUAL_ENV]"'
    )
    used = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert used.returncode == 0, used.stderr
    assert "namespace/kube-system" in used.stdout
    assert str(another.directory / "state") in used.stdout
    assert "[]" in used.stdout


def test_what_programs_leave_behind_is_in_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    left = Path(Lab(tmp_path / "lab").process_environment()["TMPDIR"])
    assert left.is_relative_to(tmp_path / "lab")
    assert left.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("TMPDIR", "/somewhere/else")
    assert Lab(tmp_path / "lab").process_environment()["TMPDIR"] == "/somewhere/else", "the user's choice"


def test_a_shell_has_its_environment(another: Lab) -> None:
    another.start()
    command = [sys.executable, "-m", "lab", f"--directory={another.directory}", "shell"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "SHELL": "/bin/sh"},
        input="kubectl config current-context; exit 7\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "archshift-lab" in done.stdout
    assert "Leave with exit" in done.stdout
    assert done.returncode == 7


@pytest.mark.parametrize("command", ["env", "shell", "load"])
def test_without_a_lab_one_sentence_says_how_to_start_it(tmp_path: Path, command: str) -> None:
    done = _lab_command(Lab(tmp_path / "none"), command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "There is no lab yet; run make lab-up.\n"


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    done = _lab_command(Lab(tmp_path / "none"), "down")
    assert (done.returncode, done.stdout) == (0, "The lab was not running.\n")


def test_its_stack_is_made_once_and_the_tracked_configuration_stays(another: Lab) -> None:
    another.start()
    tracked = (PROJECT / "Pulumi.lab.yaml").read_bytes()
    said: list[str] = []
    prepare_stack(another, said.append)
    prepare_stack(another, said.append)
    assert said == ["creating the stack lab"]
    listed = another.run("pulumi", "stack", "ls", "--json")
    assert [stack["name"] for stack in json.loads(listed.stdout)] == ["lab"]
    assert (PROJECT / "Pulumi.lab.yaml").read_bytes() == tracked


# --- the cluster that it is ------------------------------------------------------------------


def test_the_sample_shop_is_loaded_once_and_runs_when_there_are_nodes(
    control_plane: Lab, cluster: Cluster
) -> None:
    said: list[str] = []
    load_workloads(control_plane, said.append, again=True)
    cluster.scale("deployment", "search", "shop", 9)
    load_workloads(control_plane, said.append)
    assert said == ["loading the sample workloads"]
    assert cluster.get("deployment", "search", "shop")["spec"]["replicas"] == 9, "a user's change stays"

    cluster.nodes("amd64", 6)
    cluster.nodes("arm64", 6)
    # Full nodes take it too; and its own count of nodes may lag behind at first.
    _wait(lambda: cluster.pod_counts("platform").get("DaemonSet/log-agent") == 12, 60)
    cluster.wait_until_settled("shop")
    cluster.wait_until_settled("platform")
    counts = {**cluster.pod_counts("shop"), **cluster.pod_counts("platform")}
    assert len(counts) >= 14
    assert 80 <= sum(counts.values()) - counts["DaemonSet/log-agent"] <= 100
    assert cluster.graviton_counts("shop")["Deployment/invoices"] == 0, "it pins amd64 itself"

    fields = cluster.get("deployment", "payments", "shop")["metadata"]["managedFields"]
    owners = {entry["manager"] for entry in fields if "nodeAffinity" in json.dumps(entry["fieldsV1"])}
    assert owners == {"helm"}


def test_nodes_stay_alive_and_pods_become_ready_again(
    control_plane: Lab, cluster: Cluster, namespace: str
) -> None:
    (node,) = cluster.nodes("arm64", 1)
    cluster.apply(deployment("api", 1, namespace))
    cluster.wait_until_settled(namespace)
    first = _heartbeat(cluster, node)
    # What the node lifecycle controller does to the pods of a node that was late.
    (pod,) = cluster.pod_names(namespace)
    not_ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    where = ["pod", pod, f"--namespace={namespace}", "--subresource=status"]
    control_plane.kubectl("patch", *where, f"--patch={json.dumps(not_ready)}")
    _wait(lambda: _is_ready(cluster.get("pod", pod, namespace)), 20)
    # Without a sign of life for 40 s the node would not be ready, and nothing would run on it.
    _wait(lambda: _heartbeat(cluster, node) != first, 35)


def test_pods_run_again_at_once_when_the_simulated_kubelets_come_back(
    control_plane: Lab, cluster: Cluster, namespace: str
) -> None:
    cluster.nodes("arm64", 2)
    cluster.apply(daemon_set("agent", namespace))
    cluster.wait_until_settled(namespace)
    control_plane.kill("kwok")
    cluster.apply(deployment("api", 4, namespace))
    control_plane.start()
    cluster.wait_until_settled(namespace, timeout=15)


def _wait(condition: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def _heartbeat(cluster: Cluster, node: str) -> object:
    conditions = cluster.get("node", node)["status"]["conditions"]
    return next(item["lastHeartbeatTime"] for item in conditions if item["type"] == "Ready")


def _is_ready(pod: Manifest) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"]["conditions"])


# --- the demo's words ------------------------------------------------------------------------


def test_the_demos_table_shows_what_is_wanted_and_what_is() -> None:
    report = {
        "fleet": {"pods": 12, "wanted": 6, "graviton": 5, "all_pods": 14},
        "workloads": [
            _row("shop/Deployment/storefront", 10, 5, 4, exact=False),
            _row("shop/StatefulSet/cart", 2, 1, 1, exact=True),
            _row("shop/Deployment/invoices", 2, None, 0, exact=True, reason="left alone: pins amd64"),
        ],
    }
    before = {
        "shop/Deployment/storefront": {"a": "amd64", "b": "amd64", "c": "arm64", "d": ""},
        "shop/StatefulSet/cart": {"e": "amd64", "f": "arm64"},
        "shop/Deployment/invoices": {"g": "amd64"},
        "shop/Job/not-in-the-fleet": {"h": "amd64"},
    }
    after = {
        "shop/Deployment/storefront": {"a": "amd64", "i": "arm64"},
        "shop/StatefulSet/cart": {"e": "amd64", "f": "arm64"},
        "shop/Deployment/invoices": {"j": "amd64"},
    }
    assert step_table(report, {"shop/Deployment/storefront": 4.25}, before, after).splitlines() == [
        "workload         kind         replicas  wanted  observed  exact  had to move  restarted  rollout s",
        "shop/storefront  Deployment         10       5         4     NO            4          3        4.2",
        "shop/cart        StatefulSet         2       1         1    yes            0          0          -",
        "shop/invoices    Deployment          2       -         0    yes            0          1          -",
    ]
    assert restarts_line(*cost_of(report, before, after)) == (
        "4 pods had to move; the step restarted 4 pods, 1.0 for each of them"
    )
    assert restarts_line(*cost_of(report, after, after)) == (
        "4 pods had to move; the step restarted 0 pods, 0.0 for each of them"
    )
    assert notes(report) == ["shop/Deployment/invoices: left alone: pins amd64"]
    assert fleet_line(report, "0.5", 12.34) == (
        "fleet at 0.5: 5 of 12 movable pods on Graviton (41.7%), 6 wanted; 14 pods in all; "
        "pulumi up took 12.3 s"
    )


def _row(
    workload: str, replicas: int, wanted: int | None, graviton: int, *, exact: bool, reason: str = ""
) -> dict[str, object]:
    return {
        "workload": workload,
        "replicas": replicas,
        "wanted": wanted,
        "graviton": graviton,
        "exact": exact,
        "near": False,
        "reason": reason,
    }
