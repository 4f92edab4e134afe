"""The gate's evidence in the stack's state; the policy pack judges a step by it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pulumi

from archshift.ramp.gate_evidence import GateEvidence
from components import engine_text


@dataclass(frozen=True, slots=True, kw_only=True)
class GateArgs:
    """Arguments of ``Gate``.

    Attributes:
        required: Whether the stack has a gate. Without a gate the evidence is only shown.
        file: The file that stores the evidence.
        since: When arm_ratio was set; None if unknown.
    """

    required: bool
    evidence: GateEvidence
    file: str
    since: datetime | None


class Gate(pulumi.ComponentResource):
    """The gate's verdict, with its stack, its ratio and its time."""

    TYPE: Final = "archshift:index:Gate"

    def __init__(self, name: str, args: GateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        evidence = args.evidence
        self.register_outputs(
            engine_text.outputs(
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
        )


def _text(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time else None
