"""Exceptions that the configuration makes, in the stack's state: policies and reports read them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pulumi

from archshift.plan.exceptions import BreakGlass, Override


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesArgs:
    """Arguments of ``Overrides``.

    Attributes:
        override: An exception from one rule of the policy pack.
        break_glass: x86 may go although something needs it.
    """

    override: Override | None
    break_glass: BreakGlass | None


class Overrides(pulumi.ComponentResource):
    """Whatever is set aside just now, with who wants it until when."""

    TYPE: Final = "archshift:index:Overrides"

    def __init__(self, name: str, args: OverridesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        override, break_glass = args.override, args.break_glass
        values: dict[str, Any] = {"overrides": [], "breakGlass": None}
        if override:
            until = _text(override.until)
            values["overrides"] = [{"rule": override.rule, "reason": override.reason, "until": until}]
        if break_glass:
            values["breakGlass"] = {
                "until": _text(break_glass.until),
                "reason": break_glass.reason,
                "ticket": break_glass.ticket,
            }
        self.register_outputs(values)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
