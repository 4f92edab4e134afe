"""User data: what a node of a managed group reads at its first start, beside what EKS gives it.

https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html#launch-template-user-data
"""

import re
import tomllib
from typing import Final

from archshift.nodes.ami_types import AmiFamily

MOST_BYTES: Final = 16 * 1024
"""The most that EC2 accepts, before it is encoded."""

_BOUNDARY: Final = "archshift"

_NAMES_AMD64: Final = re.compile(r"amd64|x86[_-]64|linux-x64|\bx64\b", re.IGNORECASE)


def as_user_data(text: str, family: AmiFamily) -> str:
    """Return a text as EKS accepts it for an operating system; a single part of AL2023 is packed into MIME.

    Raises:
        ValueError: The text is invalid. Its words say what is valid.
    """
    if family == "Bottlerocket":
        try:
            settings = tomllib.loads(text).get("settings")
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"TOML for Bottlerocket ({error})") from None
        if not settings:
            raise ValueError("TOML for Bottlerocket, with tables such as [settings.kubernetes]")
        whole = text
    elif re.match(r"(MIME-Version|Content-Type):", text, re.IGNORECASE):
        whole = text
    elif text.startswith("#!"):
        whole = _mime("text/x-shellscript", text)
    elif re.search(r"^apiVersion: *node\.eks\.aws/", text, re.MULTILINE):
        whole = _mime("application/node.eks.aws", text)
    else:
        raise ValueError(
            "for AL2023 a NodeConfig (apiVersion: node.eks.aws/v1alpha1), a script that begins with #!, or a "
            "MIME multi-part text"
        )
    if len(whole.encode()) > MOST_BYTES:
        raise ValueError(f"at most {MOST_BYTES} bytes")
    return whole


def names_amd64(text: str) -> bool:
    """Return whether a text names programs or images for x86."""
    return bool(_NAMES_AMD64.search(text))


def _mime(kind: str, text: str) -> str:
    head = f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{_BOUNDARY}"\n\n'
    return f"{head}--{_BOUNDARY}\nContent-Type: {kind}\n\n{text.rstrip()}\n--{_BOUNDARY}--\n"
