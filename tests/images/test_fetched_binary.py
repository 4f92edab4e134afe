"""A fetched binary as it is configured, and the pieces of a pod that come of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.common.errors import ArchshiftError
from archshift.images.building.fetched_binary import SCRIPT, FetchedBinary, Source, fetched_programs
from archshift.images.contents.command import Command, read_command
from archshift.images.workload import containers_of
from tests.programs import debian_program

AMD64 = Source(url="https://releases.example/agent-amd64", sha256="a" * 64)
ARM64 = Source(url="https://releases.example/agent-arm64", sha256="b" * 64)
AGENT = FetchedBinary(
    name="agent", sources={"amd64": AMD64, "arm64": ARM64}, fetch_image="registry.example/curl:8"
)

Change = dict[str, Any]


def pod(binary: FetchedBinary = AGENT, *, init: Change | None = None, mount: Change | None = None) -> Change:
    """A pod with an agent that an init container fetches, and what is changed of it."""
    container = {
        "name": "agent",
        "image": "registry.example/static:1",
        "command": [binary.path],
        "volumeMounts": [{**binary.volume_mount(), **(mount or {})}],
    }
    return {"initContainers": [{**binary.init_container(), **(init or {})}], "containers": [container]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sources": {"amd64": AMD64}},
            "agent: sources: arm64 is missing; give a url and its sha256 for amd64 and for arm64",
        ),
        (
            {"sources": {"arm64": ARM64}},
            "agent: sources: amd64 is missing; give a url and its sha256 for amd64 and for arm64",
        ),
        (
            {"sources": {"amd64": AMD64, "arm64": ARM64, "x86_64": AMD64}},
            "agent: sources: 'x86_64' is not an architecture; give a url and its sha256 for amd64 and for "
            "arm64",
        ),
        (
            {"sources": {"amd64": AMD64, "arm64": replace(ARM64, url="http://releases.example/a")}},
            "agent: sources.arm64.url: 'http://releases.example/a' is plain http; use https (allow_http is "
            "for servers on the node itself)",
        ),
        (
            {
                "sources": {
                    "amd64": AMD64,
                    "arm64": replace(ARM64, url="https://me:pw@releases.example/a"),
                }
            },
            "agent: sources.arm64.url: 'https://...@releases.example/a' is not a valid https address; "
            "use an address with a path, without a user, '#', '$' and spaces",
        ),
        (
            {"sources": {"amd64": AMD64, "arm64": replace(ARM64, sha256="B" * 64)}},
            f"agent: sources.arm64.sha256: '{'B' * 64}' is not 64 hexadecimal digits in lower case; "
            "use the output of sha256sum",
        ),
        (
            {"name": "../agent"},
            "name: '../agent' is not a valid file name; use at most 57 lower-case letters, digits, '.', '_' "
            "and '-'",
        ),
        (
            {"folder": "/opt/../bin"},
            "agent: folder: '/opt/../bin' is not a valid absolute path; use names of letters, "
            "digits, '.', '_' and '-', such as /opt/fetched",
        ),
        (
            {"folder": "opt"},
            "agent: folder: 'opt' is not a valid absolute path; use names of letters, "
            "digits, '.', '_' and '-', such as /opt/fetched",
        ),
        ({"largest_mib": 0}, "agent: largest_mib: 0 is invalid; use a whole number of 1 or more"),
        ({"longest_seconds": -1}, "agent: longest_seconds: -1 is invalid; use a whole number of 1 or more"),
        (
            {"fetch_image": "a.example/B"},
            "agent: fetch_image: 'a.example/B': 'B' is not a valid repository name",
        ),
    ],
)
def test_what_does_not_do_is_said_in_a_sentence(change: Change, message: str) -> None:
    """Nothing is rendered that would fail on the node, and no password is repeated."""
    with pytest.raises(ArchshiftError) as caught:
        replace(AGENT, **change)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https:///path",
        "https://example.org/a b",
        "https://example.org/a\nb",
        "https://example.org/$(HOSTNAME)",
        "https://example.org/a#b",
        "https://user@example.org/a",
        "ftp://example.org/a",
        "file:///bin/sh",
        "-o/etc/passwd",
    ],
)
def test_what_is_no_plain_https_address_is_refused(url: str) -> None:
    """Nothing that a shell, curl or Kubernetes would read as anything but an address."""
    with pytest.raises(ArchshiftError, match="is not a valid https address"):
        replace(AGENT, sources={"amd64": AMD64, "arm64": replace(ARM64, url=url)})


@given(st.text(max_size=40))
def test_an_accepted_address_reaches_the_script_as_it_is(path: str) -> None:
    """Of all addresses that are accepted, Kubernetes expands nothing before the script sees them."""
    url = f"https://releases.example/{path}"
    try:
        binary = replace(AGENT, sources={"amd64": AMD64, "arm64": Source(url=url, sha256="b" * 64)})
    except ArchshiftError:
        return
    container = binary.init_container()
    environment = {one["name"]: one["value"] for one in container["env"]}
    expanded = read_command({**container, "command": [environment["URL_ARM64"]]}).command
    assert expanded == (url,)
    assert url.isascii()
    assert url.isprintable()


def test_kubernetes_leaves_the_script_as_it_is() -> None:
    """Its own $(...) is none of Kubernetes' variables."""
    assert read_command(AGENT.init_container()).command == ("/bin/sh", "-c", SCRIPT)


def test_the_script_is_portable(tmp_path: Any) -> None:
    """Nothing in it is of one shell alone."""
    import subprocess

    script = tmp_path / "script.sh"
    script.write_text(SCRIPT)
    checked = subprocess.run(
        [debian_program("shellcheck"), "--shell=sh", str(script)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_a_name_with_dots_makes_valid_names() -> None:
    """Kubernetes' names have no dots and underscores; the file keeps them."""
    binary = replace(AGENT, name="node_agent.bin")
    assert binary.path == "/opt/fetched/node_agent.bin"
    assert binary.init_container()["name"] == "fetch-node-agent-bin"
    assert binary.volume()["name"] == binary.volume_mount()["name"] == "node-agent-bin"


def test_the_deep_check_knows_a_fetched_program() -> None:
    """A program from the volume counts as proven, because without it the pod does not start."""
    assert fetched_programs(pod()) == {"agent": frozenset({"agent"})}
    (container, _) = containers_of(pod())
    assert container.use.command == Command(
        command=("/opt/fetched/agent",), mounts=("/opt/fetched",), fetched=("/opt/fetched/agent",)
    )


@pytest.mark.parametrize(
    "changed",
    [
        lambda: pod(init={"command": ["/bin/sh", "-c", f"{SCRIPT}\ntrue"]}),
        lambda: pod(init={"command": ["/bin/bash", "-c", SCRIPT]}),
        lambda: pod(init={"args": ["something"]}),
        lambda: pod(
            init={"env": [{"name": "NAME", "value": "agent"}, {"name": "FOLDER", "value": "/other"}]}
        ),
        lambda: pod(init={"volumeMounts": []}),
        lambda: pod(mount={"readOnly": False}),
        lambda: pod(mount={"subPath": "deeper"}),
        lambda: pod(mount={"name": "another"}),
        lambda: {**pod(), "initContainers": []},
        lambda: {
            **pod(),
            "initContainers": [*pod()["initContainers"], {**AGENT.init_container(), "command": ["x"]}],
        },
    ],
)
def test_what_is_not_our_script_is_not_known(changed: Callable[[], Change]) -> None:
    """Another script, another folder, a volume that the agent can write to: not proven."""
    main = next(one for one in containers_of(changed()) if one.name == "agent")
    assert main.use.command.fetched == ()
