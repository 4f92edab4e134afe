"""The entries by which the API server places new pods: one for each workload.

They are in a ConfigMap of the workload's namespace. Its data has ``<Kind>.<name>`` as keys. Keys in lower
case are archshift's own, because kinds begin with a capital. A MutatingAdmissionPolicy reads the entries when
a pod is created (archshift/plan/admission.py).
"""

import re
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

PIN: Final = re.compile(r"all on (amd64|arm64)")
"""The entry that keeps all pods on one side; the API server's expression reads it too."""

SHARE: Final = re.compile(r"([0-9]{1,9}) of ([0-9]{1,9}) on arm64(?: prefer (amd64|arm64))?")
"""The entry of a share; the API server's expression reads it too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the pods of a workload belong.

    Attributes:
        graviton: How many of them belong on Graviton, 0 to ``replicas``.
        replicas: The number of its pods, 1 or more.
        prefer: The side that the pods prefer without a limit (``placement.place``); None for the limit.
    """

    graviton: int
    replicas: int
    prefer: Architecture | None = None

    @property
    def side(self) -> Architecture | None:
        """The side where all pods belong; None if some belong on each."""
        if 0 < self.graviton < self.replicas:
            return None
        return ARM64 if self.graviton else AMD64

    def __str__(self) -> str:
        if self.side:
            return f"all on {self.side}"
        share = f"{self.graviton} of {self.replicas} on {ARM64}"
        return f"{share} prefer {self.prefer}" if self.prefer else share

    @classmethod
    def parse(cls, text: str) -> "Entry | None":
        """Read an entry; None if it is ``LEFT_ALONE`` or invalid. A pin has one pod."""
        if pin := PIN.fullmatch(text):
            return cls(int(pin[1] == ARM64), 1)
        share = SHARE.fullmatch(text)
        if not share or not 0 < int(share[1]) < int(share[2]):
            return None
        prefer: Architecture | None = None
        if share[3]:
            prefer = ARM64 if share[3] == ARM64 else AMD64
        return cls(int(share[1]), int(share[2]), prefer)


ALL_ON_X86: Final = Entry(0, 1)
"""The entry of a workload whose pods all belong on x86."""


def config_map_name(stack_label: str) -> str:
    """Return the name of a stack's policy, of its binding and of its ConfigMaps."""
    return f"archshift-placement-{stack_label}"


def entry_key(kind: str, name: str) -> str:
    """Return the key of a workload's entry."""
    return f"{kind}.{name}"


def is_key(text: str) -> bool:
    """Return whether the API server accepts a key in a ConfigMap."""
    return _KEY.fullmatch(text) is not None
