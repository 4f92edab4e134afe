"""What the command line prints is printable: a row is a row, and nothing moves the cursor."""

import io
import json

import pytest

from archshift.cli.main import main
from archshift.cli.stack import print_json, say
from archshift.cli.table import console, plain_table

BAD = "web\x1b[2J\u202e\nshop/Deployment/forged  3  fine\x9b1A\ud800"
GOOD = "web�[2J� shop/Deployment/forged  3  fine�1A�"


def test_a_cell_is_one_row_without_escapes() -> None:
    """In a pipe, where grep reads rows, and on a terminal, which obeys escapes."""
    file = io.StringIO()
    out = console(file)
    table = plain_table()
    table.add_column("WORKLOAD", overflow="fold")
    table.add_row(BAD)
    out.print(table)
    out.print(BAD, style="red")
    assert file.getvalue().splitlines() == ["WORKLOAD", GOOD, GOOD]


def test_sentences_and_json_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of JSON are cut out by programs and printed, so it has no escapes either."""
    say(BAD)
    print_json({"reason": BAD, "x" * 30_000: 1})
    line, *rest = capsys.readouterr().out.split("\n", 1)
    assert line == GOOD
    found = json.loads(rest[0])
    assert found["reason"] == GOOD.replace("� shop", "�\nshop")
    assert max(map(len, found)) == 20_000


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where its words come from the command line or from a registry."""
    assert main(["audit", "--fail-on", "a\x1b[31m\nb", "x"]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error
