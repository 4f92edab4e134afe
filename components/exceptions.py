"""The configured exceptions in the stack's state, for policies and reports."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pulumi

from archshift.plan.exceptions import BreakGlass, PolicyException
from components import engine_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionsArgs:
    """Arguments of ``Exceptions``."""

    policy_exception: PolicyException | None
    break_glass: BreakGlass | None


class Exceptions(pulumi.ComponentResource):
    """The policy exception and break-glass, each with its reason and its end."""

    TYPE: Final = "archshift:index:Exceptions"

    def __init__(self, name: str, args: ExceptionsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        policy_exception, break_glass = args.policy_exception, args.break_glass
        values: dict[str, Any] = {"policyExceptions": [], "breakGlass": None}
        if policy_exception:
            until = _text(policy_exception.until)
            values["policyExceptions"] = [
                {"rule": policy_exception.rule, "reason": policy_exception.reason, "until": until}
            ]
        if break_glass:
            values["breakGlass"] = {
                "until": _text(break_glass.until),
                "reason": break_glass.reason,
                "ticket": break_glass.ticket,
            }
        self.register_outputs(engine_text.outputs(values))


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
