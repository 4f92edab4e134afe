"""User data as EKS accepts it for the operating system of the nodes."""

import email
import re

import pytest

from archshift.nodes.user_data import as_user_data, names_amd64

NODE_CONFIG = (
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n    config: {maxPods: 58}\n"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NODE_CONFIG, "application/node.eks.aws"),
        ("#!/bin/sh\nsysctl -w vm.max_map_count=1\n", "text/x-shellscript"),
    ],
)
def test_a_single_part_becomes_mime(text: str, kind: str) -> None:
    """EKS puts its own part beside it, which needs MIME."""
    packed = email.message_from_string(as_user_data(text, "AL2023"))
    assert packed.is_multipart()
    (part,) = (one for one in packed.walk() if not one.is_multipart())
    assert part.get_content_type() == kind
    assert str(part.get_payload()).strip() == text.strip()


def test_mime_and_toml_stay_as_they_are() -> None:
    mime = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="//"\n\n--//--\n'
    assert as_user_data(mime, "AL2023") == mime
    toml = "[settings.kubernetes]\nmax-pods = 58\n"
    assert as_user_data(toml, "Bottlerocket") == toml


@pytest.mark.parametrize(
    ("text", "family", "words"),
    [
        (
            "yum install -y htop",
            "AL2023",
            "for AL2023 a NodeConfig (apiVersion: node.eks.aws/v1alpha1), a script",
        ),
        ("#!/bin/sh\n", "Bottlerocket", "TOML for Bottlerocket, with tables such as [settings.kubernetes]"),
        ("max-pods: 58\n", "Bottlerocket", "TOML for Bottlerocket (Expected '=' after a key"),
        ("#!/bin/sh\n" + "x" * 17000, "AL2023", "at most 16384 bytes"),
    ],
)
def test_other_texts_are_refused(text: str, family: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        as_user_data(text, family)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("curl https://x.example/agent-linux-amd64.tgz", True),
        ("curl https://x.example/agent_x86_64.rpm", True),
        ("rpm -i agent.x86-64.rpm", True),
        ("node-v22-linux-x64.tar.gz", True),
        ("curl https://x.example/agent-$(uname -m).rpm", False),
        ("max-pods = 58", False),
    ],
)
def test_programs_for_x86_are_seen(text: str, named: bool) -> None:
    assert names_amd64(text) is named
