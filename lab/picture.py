"""Draws the output of the demo as an animated picture for the README: ``python -m lab.picture``.

Each part of the output, from one ``===`` to the next, is a frame. The SVG has no scripts and loads nothing
from a network. If the reader's system reduces motion, it shows only the last frame.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

_COLUMNS = 110
_ROWS = 27
_CHARACTER = 7.2  # advance of a monospaced glyph at 12 px, in px
_LINE = 16
_MARGIN = 16
_BAR = 34
_SECONDS = 4
"""How long each frame is visible."""

_FLEET = re.compile(r"fleet at (?P<ratio>\S+): (?P<there>\d+) of (?P<pods>\d+) ")
_AUDITED = re.compile(r"\d+ of \d+ images run on arm64")
_RESTARTS = re.compile(r"\d+ pods had to move; ")

_STYLE = """
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
  text { fill: #d8dee6; white-space: pre; }
  .title { font-weight: bold; fill: #ffffff; }
  .command { fill: #8cc8ff; }
  .x86 { fill: #ffb86b; }
  .yes { fill: #8be28b; }
  .no { fill: #ff8080; font-weight: bold; }
"""


class PictureError(Exception):
    """The text is not a demo's output."""


@dataclass(frozen=True)
class Frame:
    """A part of the output: its lines, and after a step (pods on Graviton, movable pods) of the fleet."""

    lines: tuple[str, ...]
    fleet: tuple[int, int] | None


def frames(output: str) -> list[Frame]:
    """Splits a demo's output into frames, without notes and progress.

    Raises:
        PictureError: The text is not a demo's output.
    """
    drawn = []
    for part in re.split(r"^(?==== )", output, flags=re.MULTILINE)[1:]:
        lines: list[str] = []
        summary: list[str] = []
        fleet = None
        for line in part.splitlines():
            if match := _FLEET.match(line):
                fleet = (int(match["there"]), int(match["pods"]))
                summary.append(line)
            elif _AUDITED.match(line) or _RESTARTS.match(line):
                summary.append(line)
            elif line.strip() and not summary and not line.startswith("  "):
                lines.append(line.rstrip())
        if not summary:
            raise PictureError(f"{lines[0]!r} has no line about the fleet or the images")
        lines = lines[: _ROWS - 1 - len(summary)]
        drawn.append(Frame((*map(_cut, lines), "", *map(_cut, summary)), fleet))
    if not drawn:
        raise PictureError("no line begins with ===; is this the output of make demo?")
    return drawn


def draw(output: str) -> str:
    """Returns the picture of a demo's output, as the text of an SVG file."""
    parts = frames(output)
    width, height = round(_COLUMNS * _CHARACTER) + 2 * _MARGIN, _ROWS * _LINE + 2 * _MARGIN + _BAR
    share, whole = 100 / len(parts), _SECONDS * len(parts)
    # Each frame is visible for its share of the time, without fading.
    motion = (
        f"  .frame {{ visibility: hidden; animation: show {whole}s infinite; }}\n"
        f"  @keyframes show {{ 0%, {share - 0.01:.2f}% {{ visibility: visible; }}"
        f" {share:.2f}%, 100% {{ visibility: hidden; }} }}\n"
        + "".join(
            f"  .f{number} {{ animation-delay: {number * _SECONDS}s; }}\n" for number in range(len(parts))
        )
        + "  @media (prefers-reduced-motion: reduce) {\n"
        f"    .frame {{ animation: none; }} .f{len(parts) - 1} {{ visibility: visible; }}\n  }}\n"
    )
    body = "".join(_group(frame, number, width, height) for number, frame in enumerate(parts))
    # Not the last line: the fleet says in one line how the demo ended.
    last = escape(next((line for line in parts[-1].lines if _FLEET.match(line)), parts[-1].lines[-1]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>make demo: {last}</title>\n<style>{_STYLE}{motion}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#14181f"/>\n{body}</svg>\n'
    )


def _group(frame: Frame, number: int, width: int, height: int) -> str:
    lines = []
    for row, line in enumerate(frame.lines):
        if line:
            y = _MARGIN + (row + 1) * _LINE - 4
            lines.append(f'<text x="{_MARGIN}" y="{y}"{_class(line)}>{_marked(line)}</text>\n')
    if frame.fleet:
        there, pods = frame.fleet
        inner, y = width - 2 * _MARGIN, height - _MARGIN - 14
        part = inner * there / pods if pods else 0
        lines.append(
            f'<rect x="{_MARGIN}" y="{y}" width="{inner}" height="14" rx="3" fill="#8a5a1e"/>\n'
            f'<rect x="{_MARGIN}" y="{y}" width="{part:.1f}" height="14" rx="3" fill="#2f8f4e"/>\n'
            f'<text x="{_MARGIN + 6}" y="{y + 11}">Graviton {there}</text>\n'
            f'<text x="{width - _MARGIN - 6}" y="{y + 11}" text-anchor="end">x86 {pods - there}</text>\n'
        )
    return f'<g class="frame f{number}">\n{"".join(lines)}</g>\n'


def _class(line: str) -> str:
    if line.startswith("===") or any(kind.match(line) for kind in (_FLEET, _AUDITED, _RESTARTS)):
        return ' class="title"'
    return ' class="command"' if line.startswith("$") else ""


def _marked(line: str) -> str:
    text = escape(line)
    text = text.replace("amd64-only", '<tspan class="x86">amd64-only</tspan>')
    text = re.sub(r"\byes\b", '<tspan class="yes">yes</tspan>', text)
    return re.sub(r"\bNO\b", '<tspan class="no">NO</tspan>', text)


def _cut(line: str) -> str:
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}…"


def main() -> int:
    """Reads the output of the demo from stdin and writes the SVG file."""
    if len(sys.argv) != 2:
        print("usage: make demo | tee demo.log; python -m lab.picture FILE.svg < demo.log", file=sys.stderr)
        return 4
    try:
        Path(sys.argv[1]).write_text(draw(sys.stdin.read()))
    except PictureError as error:
        print(f"lab.picture: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
