"""The file in which a run leaves its plan and the guard's refusals, for ``archshift preview``."""

import json
import os
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from archshift.plan.plan_json import PLAN_FILE, plan_json
from archshift.report.step_cost import step_cost
from archshift.survey import Survey

if TYPE_CHECKING:
    from archshift.settings.stack import Settings

_LOCK = threading.Lock()
"""The hooks of several nodes may refuse at the same time."""


def write_plan_file(
    survey: Survey, settings: "Settings", now: datetime, environment: Mapping[str, str] = os.environ
) -> None:
    """Write the plan, its cost and the exceptions into the file that ``archshift preview`` names.

    The preview then reports the plan of this very run, even if the run stops later. Without the
    variable ``PLAN_FILE``, nothing is written.
    """
    if PLAN_FILE in environment:
        content = {
            "plan": plan_json(survey.plan),
            "exceptions": exceptions(settings, now),
            "cost": step_cost(survey, settings),
            "refusals": [],
        }
        Path(environment[PLAN_FILE]).write_text(json.dumps(content))


def add_refusal(refusal: str, environment: Mapping[str, str] = os.environ) -> None:
    """Add a refusal of the guard to the plan file: the preview is then blocked, not failed."""
    if PLAN_FILE in environment:
        file = Path(environment[PLAN_FILE])
        with _LOCK:
            content = json.loads(file.read_text()) if file.exists() else {}
            content["refusals"] = [*content.get("refusals", ()), refusal]
            file.write_text(json.dumps(content))


def exceptions(settings: "Settings", now: datetime) -> list[str]:
    """Return the exceptions that the configuration makes, one sentence each."""
    sentences = []
    exception = settings.policy_exception
    if exception:
        in_force = now < exception.until
        state = "is set aside" if in_force else "is in force again: the policy exception ended"
        sentences.append(
            f"policy rule {exception.rule} {state}: {exception.reason} (until {exception.until})"
        )
    if settings.break_glass:
        sentences.append(settings.break_glass.describe(now))
    return sentences
