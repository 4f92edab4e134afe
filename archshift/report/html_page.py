"""The report as one self-contained HTML page: no network, no fonts, no foreign scripts."""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Final

import jinja2
from markupsafe import Markup

from archshift.common.architectures import ARM64, display
from archshift.common.text import counted, printable
from archshift.report.charts import BARS_WIDTH, HEIGHT, WIDTH, progress_chart, savings_chart
from archshift.report.report import STATES, Report, group_title, share_over_time

_FOLDER: Final = "html"


def page(report: Report) -> str:
    """Return the report as an HTML page.

    Names come from clusters and registries, so all text is escaped. The page's security policy allows only
    its own style and script, which it names by their hashes.
    """
    style, script = _own("page.css"), _own("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "counted": counted, "percent": _percent, "time": _time}
    fleet = report.fleet
    observed = fleet.graviton / fleet.pods if fleet.pods else None
    history = report.history
    return environment.get_template("page.html").render(
        report=report,
        observed=observed,
        wanted=fleet.wanted / fleet.pods if fleet.pods else None,
        states=STATES,
        progress=progress_chart(history.moves, history.coming, history.judgements, observed, report.at),
        savings=savings_chart(report.savings),
        width=WIDTH,
        height=HEIGHT,
        bars_width=BARS_WIDTH,
        side=lambda architecture: display(ARM64) if architecture == ARM64 else "x86",
        group_title=group_title,
        share_over_time=share_over_time,
        # Our own files, byte for byte as hashed.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _own(name: str) -> str:
    return (files("archshift.report") / _FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _printable(value: object) -> object:
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float | None, digits: int = 0) -> str:
    return "?" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value * 100:.{digits}f} %"


def _time(value: datetime | None) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if value else "?"
