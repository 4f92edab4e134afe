"""All subcommands alike: options, exit codes, help, and how they end when they cannot go on."""

import importlib
import importlib.abc
import io
import json
import os
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from rich.table import Table

from archshift.cli import arguments as command_lines
from archshift.cli import commands as subcommands
from archshift.cli import entry
from archshift.cli.main import make_parser
from archshift.cli.parser import Parser
from archshift.cli.stack import busy
from archshift.cli.table import console
from archshift.common.text import time_left
from tests.fakes import FakePulumi
from tools.commands import DOCUMENT, commands, document

ARCHSHIFT = Path(sys.executable).parent / "archshift"
SECONDS = 60

PARSERS = {parser.prog.partition(" ")[2]: parser for parser in commands(make_parser())}
OF_NO_STACK = {"bake", "completion"}

every_command = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)


def test_the_document_is_what_the_parser_says() -> None:
    """Every command, option and exit code is in docs/commands.md: `python -m tools.commands` writes it."""
    assert DOCUMENT.read_text() == document()


def test_every_module_of_a_subcommand_is_there() -> None:
    """A subcommand that is written and not registered would be noticed by nobody."""
    modules = {name for _, name, _ in pkgutil.iter_modules(command_lines.__path__)}
    assert {name.partition(" ")[0] for name in PARSERS} == modules
    assert modules <= {name for _, name, _ in pkgutil.iter_modules(subcommands.__path__)}


def options(parser: Parser) -> dict[str, str | None]:
    return {name: action.help for action in parser._actions for name in action.option_strings}


@every_command
def test_options_of_the_same_name_mean_the_same(parser: Parser) -> None:
    """-s, --config-file, -C and --json are everywhere, and say the same."""
    name = parser.prog.partition(" ")[2]
    found, plan = options(parser), options(PARSERS["plan"])
    if name in OF_NO_STACK:
        assert name == "completion" or "--json" in found
        assert "--stack" not in found
        return
    shared = ("-s", "--stack", "--config-file", "-C", "--cwd", "--json")
    assert {one: found[one] for one in shared} == {one: plan[one] for one in shared}


@every_command
def test_the_help_has_an_example_that_is_one_and_every_exit_code(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example is a command line that does; each code stands in a line of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    text = parser.format_help()
    assert parser.description is not None
    assert parser.description[0].isupper()
    assert parser.description.endswith(".")
    assert f"example:\n  {parser.example}\n" in text
    command, _, _ = parser.example.partition(" > ")
    program, *arguments = shlex.split(command)
    assert program == "archshift"
    parsed = make_parser().parse_args(arguments)
    assert callable(parsed.run)
    for code, when in parser.exits.items():
        assert f"\n  {code:<4} {when}" in text
    assert {0, 1, 4, 130} <= set(parser.exits)


@pytest.mark.parametrize("name", ["audit", "doctor", "drain", "gate", "preview", "ramp", "status"])
def test_the_exit_codes_of_the_code_are_documented(name: str) -> None:
    """Every EXIT_ constant of a subcommand's module is in its help."""
    module: ModuleType = importlib.import_module(f"archshift.cli.arguments.{name}")
    codes = {value for key, value in vars(module).items() if re.match("EXIT_(?!CODES)", key)}
    codes |= set(getattr(module, "EXIT_CODES", {}).values())
    documented = {code for key, one in PARSERS.items() if key.split()[0] == name for code in one.exits}
    assert codes
    assert codes <= documented


# --- how they end ---


def closed_pipe() -> int:
    """The writing end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("completion", "bash"), 1),
        (("bake", "registry.example/a:1", "--json"), 1),
        (("ramp", "status"), 1),
        (("--help",), 0),
    ],
)
def test_a_reader_that_has_gone_ends_it_quietly(
    pulumi: FakePulumi, arguments: tuple[str, ...], code: int
) -> None:
    """As in `archshift status | head -1`: nothing on stderr, whatever prints."""
    pulumi.configure(arm_ratio="0.2", ramp={"start": "2026-03-02", "time_zone": "UTC"})
    writer = closed_pipe()
    try:
        done = subprocess.run(
            [ARCHSHIFT, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=SECONDS, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("bake", "a/b:1"), 1), (("audit", "a b"), 4), (("ramp", "status"), 1)],
)
def test_a_full_disk_is_one_sentence(pulumi: FakePulumi, arguments: tuple[str, ...], code: int) -> None:
    """As in `archshift plan --json > file`, whatever prints."""
    pulumi.configure(arm_ratio="0.2", ramp={"start": "2026-03-02", "time_zone": "UTC"})
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [ARCHSHIFT, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        code,
        "archshift: the output cannot be written (No space left on device); check the disk that takes it\n",
    )


@pytest.mark.parametrize(("closed", "there"), [(">&-", "stderr"), ("2>&-", "stdout")])
def test_a_closed_stream_takes_nothing_from_the_other(closed: str, there: str) -> None:
    """The hint for a person must not get into the JSON, nor the JSON into an error."""
    command = f'exec "{ARCHSHIFT}" bake registry.example/a/b:1 {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0
    if there == "stdout":
        assert json.loads(done.stdout)["target"]
    else:
        assert done.stderr.startswith("next: docker buildx bake")


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path, pulumi: FakePulumi) -> None:
    """A terminal may stand in a folder that somebody has deleted."""
    pulumi.configure(arm_ratio="0.2")
    gone = tmp_path / "gone"
    gone.mkdir()
    # Python itself does not start there with a relative PYTHONPATH.
    command = f'unset PYTHONPATH; cd "{gone}"; rmdir "{gone}"; exec "{ARCHSHIFT}" preview'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "archshift: the current folder is gone; change to a folder that exists\n",
    )


_RESET = """
import sys
from archshift.cli.commands import status
from archshift.cli.main import main

def run(options):
    raise ConnectionResetError(104, "Connection reset by peer")

status.run = run
sys.exit(main(["status"]))
"""


def test_a_connection_that_ends_is_not_blamed_on_the_output() -> None:
    """Clients turn such errors into sentences of their own; this is for one that a client forgot."""
    done = subprocess.run(
        [sys.executable, "-c", _RESET], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "archshift: a connection ended (Connection reset by peer); run the command again\n",
    )


def test_ctrl_c_is_one_line(pulumi: FakePulumi, tmp_path: Path) -> None:
    """Exit code 130 and a sentence, in the middle of waiting for the engine."""
    begun = tmp_path / "begun"
    program = tmp_path / "bin" / "pulumi"
    program.write_text(f"#!/bin/sh\n: > {begun}\nexec sleep 60\n")
    assert pulumi.stack
    process = subprocess.Popen(
        [ARCHSHIFT, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + SECONDS
    while not begun.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (130, "", "archshift: interrupted; nothing was changed\n")


class Interrupting(importlib.abc.MetaPathFinder):
    """Ctrl-C while a module is looked for."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "archshift.cli.main":
            raise KeyboardInterrupt


@pytest.fixture
def _interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "archshift.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])


@pytest.mark.usefixtures("_interrupted")
def test_ctrl_c_while_it_is_loaded_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Its parts take a second to load."""
    assert entry.main() == 130
    assert capsys.readouterr().err == "archshift: interrupted; nothing was changed\n"


# --- what is printed where ---


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


def printed(file: io.StringIO) -> str:
    """A styled row of 400 characters, printed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NAME", overflow="fold")
    table.add_column("WHY", overflow="fold")
    table.add_row("short", "why", style="yellow")
    table.add_row("a [name]", "x" * 400, style="red")
    console(file).print(table)
    return file.getvalue()


def test_in_a_pipe_a_row_is_a_line_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """grep and cut see whole rows, and no blanks at their ends."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printed(io.StringIO()).splitlines() == [
        "NAME      WHY",
        "short     why",
        f"a [name]  {'x' * 400}",
    ]


def test_columns_sets_the_width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for 80 gets 80."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(io.StringIO()).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) == 80


def test_a_terminal_has_colours_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """https://no-color.org: bold may stay, colours may not."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in printed(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", printed(Terminal()))


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (10, 100, 10.0, ", about 1:30 left"),
        (300, 301, 600.0, ", about 0:02 left"),
        (10, 100, 1.9, ""),
        (0, 100, 60.0, ""),
        (100, 100, 60.0, ""),
        (1, 0, 60.0, ""),
    ],
)
def test_the_time_left_is_what_the_rest_takes_at_this_pace(
    done: int, total: int, seconds: float, said: str
) -> None:
    """And nothing is said where nothing is known yet, or left."""
    assert time_left(done, total, seconds) == said


def test_a_terminal_is_told_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, for it alone: the same in a pipe prints nothing."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for file, printed_ in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", file)
        with busy("reading") as watch:
            watch(3, 4)
        assert ("reading" in file.getvalue()) == printed_


def test_a_name_is_printed_as_it_is() -> None:
    """What the cluster calls something is neither styled nor turned into a picture."""
    out = io.StringIO()
    console(out).print("registry.example/web:bug: [bold]no[/bold]")
    assert out.getvalue() == "registry.example/web:bug: [bold]no[/bold]\n"
