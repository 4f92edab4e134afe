"""The entries by which the API server places new pods: one for each workload.

Each steered namespace has a MutatingAdmissionPolicy (archshift/plan/admission.py), which the API server
evaluates when a pod is created. It holds the entries as a text, a line each. Keys are ``<Kind>.<name>``; keys
in lower case are archshift's own, because kinds begin with a capital.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from archshift.common.architectures import AMD64, ARM64, Architecture

PLACED_ANNOTATION: Final = "archshift/placement"
"""On a pod: the entry by which it was placed when it was created."""

OTHERS: Final = "others"
"""The key for pods without an entry of their own: the side where they start."""

NO_ZONES: Final = "no-zones"
"""The key that is present if no node has a zone: then pods get no default spread over zones."""

GRAVITON_LABELS: Final = "graviton-labels"
"""The key for node labels that only Graviton nodes have: ``key=value`` pairs, separated by spaces.

Whoever selects one of them has chosen Graviton, so ``others`` leaves such pods alone.
"""

LEFT_ALONE: Final = "left alone"
"""The entry of a workload that archshift does not place."""

_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_VALUE: Final = re.compile(r"[-._/= a-zA-Z0-9]*")
_QUOTES: Final = "'''"

PIN: Final = re.compile(r"all on (amd64|arm64)")
"""The entry that keeps all pods on one side; the API server's expression reads it too."""

_SCALES: Final = (
    "within ([1-9][0-9]{0,8}) spread ([1-9][0-9]{0,8}) prefer (amd64|arm64) (100|[1-9]?[0-9])"
    "(?: tolerate (amd64|arm64))?"
)
SHARE: Final = re.compile(rf"([0-9]{{1,9}}) of ([0-9]{{1,9}}) on arm64(?: prefer (amd64|arm64)| {_SCALES})?")
"""The entry of a share; the API server's expression reads it too."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the pods of an autoscaled workload share the sides at any number of pods (``placement.place``).

    Attributes:
        within: The hard bound: how many more pods than the other a side may have, 1 or more.
        spread: The ``maxSkew`` of the soft spread over architectures, 1 or more.
        side: The side that the pods prefer.
        weight: How much they prefer it, 0 to 100.
        tolerates: The side whose soft taint they tolerate, which is a preference of 300 points more.
    """

    within: int
    spread: int
    side: Architecture
    weight: int
    tolerates: Architecture | None = None

    def __str__(self) -> str:
        text = f"within {self.within} spread {self.spread} prefer {self.side} {self.weight}"
        return f"{text} tolerate {self.tolerates}" if self.tolerates else text


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the pods of a workload belong.

    Attributes:
        graviton: How many of them belong on Graviton, 0 to ``replicas``.
        replicas: The number of its pods, 1 or more.
        prefer: The side that the pods prefer without a limit (``placement.place``); None for the limit.
        scaling: How an autoscaled workload keeps the share; None to be exact at ``replicas`` only.
    """

    graviton: int
    replicas: int
    prefer: Architecture | None = None
    scaling: Scaling | None = None

    @property
    def side(self) -> Architecture | None:
        """The side where all pods belong; None if some belong on each, or may at another number of pods."""
        if self.scaling or 0 < self.graviton < self.replicas:
            return None
        return ARM64 if self.graviton else AMD64

    def __str__(self) -> str:
        if self.side:
            return f"all on {self.side}"
        share = f"{self.graviton} of {self.replicas} on {ARM64}"
        if self.scaling:
            return f"{share} {self.scaling}"
        return f"{share} prefer {self.prefer}" if self.prefer else share

    @classmethod
    def parse(cls, text: str) -> "Entry | None":
        """Read an entry; None if it is ``LEFT_ALONE`` or invalid. A pin has one pod."""
        if pin := PIN.fullmatch(text):
            return cls(int(pin[1] == ARM64), 1)
        share = SHARE.fullmatch(text)
        if not share:
            return None
        graviton, replicas = int(share[1]), int(share[2])
        if share[4]:
            side = _side(share[6]) or ARM64
            scaling = Scaling(int(share[4]), int(share[5]), side, int(share[7]), _side(share[8]))
            return cls(graviton, replicas, scaling=scaling) if graviton <= replicas >= 1 else None
        return cls(graviton, replicas, _side(share[3])) if 0 < graviton < replicas else None


def _side(text: str | None) -> Architecture | None:
    if not text:
        return None
    return ARM64 if text == ARM64 else AMD64


ALL_ON_X86: Final = Entry(0, 1)
"""The entry of a workload whose pods all belong on x86."""


def policy_name(stack_label: str, namespace: str) -> str:
    """Return the name of a stack's policy for a namespace, and of its binding."""
    return f"archshift-placement-{stack_label}.{namespace}"


def as_text(data: Mapping[str, str]) -> str:
    """Return entries as a literal of CEL with a line for each. Whoever reads a policy can read it.

    Raises:
        ValueError: A key or a value has other characters than entries have, so that it could end the literal.
    """
    for key, value in data.items():
        if not is_key(key) or not _VALUE.fullmatch(value):
            raise ValueError(f"{key}: {value}")
    lines = "".join(f"{key}: {value}\n" for key, value in sorted(data.items()))
    return f"{_QUOTES}\n{lines}{_QUOTES}"


def from_text(text: str) -> dict[str, str]:
    """Return the entries in what ``as_text`` returned. Lines that it would not write are left out."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {key: value for key, colon, value in pairs if colon and is_key(key) and _VALUE.fullmatch(value)}


def entry_key(kind: str, name: str) -> str:
    """Return the key of a workload's entry."""
    return f"{kind}.{name}"


def is_key(text: str) -> bool:
    """Return whether a text can be the key of an entry."""
    return _KEY.fullmatch(text) is not None
