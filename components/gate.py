"""The gate's evidence in the stack's state: the policy pack judges a step by it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pulumi

from archshift.ramp.gate_evidence import GateEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class GateArgs:
    """Arguments of ``Gate``.

    Attributes:
        required: Whether the stack has a gate; without one its evidence is shown and asks for nothing.
        evidence: What the gate found.
        file: The file that it is kept in.
        since: When arm_ratio was set; None where nobody wrote it down.
    """

    required: bool
    evidence: GateEvidence
    file: str
    since: datetime | None


class Gate(pulumi.ComponentResource):
    """What the gate found, of which stack at which ratio, and when."""

    TYPE: Final = "archshift:index:Gate"

    def __init__(self, name: str, args: GateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        evidence = args.evidence
        self.register_outputs(
            {
                "required": args.required,
                "stack": evidence.stack,
                "ratio": evidence.ratio,
                "verdict": evidence.verdict,
                "at": _text(evidence.at),
                "problem": evidence.problem,
                "file": args.file,
                "since": _text(args.since),
            }
        )


def _text(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time else None
