"""GitHub obeys commands in the log of a job. None that a name or another program prints may be one."""

import re

import pytest

from tests.pipelines.conftest import SCRIPTS, Runner
from tests.pipelines.gates import gate

COMMANDS = ("::error file=a::forged", "::add-mask::0", "##[error]forged", "::save-state name=a::b")


def obeyed(log: str) -> list[str]:
    """The commands that GitHub obeys, as its runner reads a log: none between stop-commands and its word."""
    word, found = "", []
    for line in log.splitlines():
        command = re.fullmatch(r"\s*(?:::([^\s:]+)[^:]*::|##\[([^\s\]]+)[^\]]*\])(.*)", line)
        if not command:
            continue
        name = command[1] or command[2]
        if word:
            word = "" if name == word else word
        elif name == "stop-commands":
            word = command[3]
        else:
            found.append(line)
    assert not word, "the commands of the next steps would be ignored too"
    return found


@pytest.mark.parametrize("script", ["preview.sh", "drift.sh", "gate.sh", "rebalance.sh", "deploy.sh"])
def test_no_output_of_others_is_a_command(runner: Runner, script: str) -> None:
    """A line of a diff, of a table, or of a tool's own error; the script ends well or not."""
    runner.new_stack("prod")
    runner.deployed({"arm_ratio": 0.5, "commit": runner.git("rev-parse", "HEAD")})
    gate(runner, "pass", "\n".join(COMMANDS))
    print_all = "".join(f"echo '{command}'; echo '{command}' >&2\n" for command in COMMANDS)
    for command in (
        "pulumi-preview",
        "pulumi-up",
        "archshift-status",
        "archshift-rebalance",
        "archshift-preview",
    ):
        runner.stand_in(command, print_all)
    if script == "deploy.sh":
        assert runner.run("preview.sh", "prod", runner.results).code == 0
    argument = "20" if script == "rebalance.sh" else runner.results
    for ending in ("", "exit 1"):
        for command in ("archshift-preview", "archshift-rebalance", "archshift-status", "pulumi-up"):
            runner.stand_in(command, print_all + ending)
        # Both streams are one log.
        both = 'exec "$0" "$@" 2>&1'
        done = runner.call("bash", "-c", both, SCRIPTS / script, "prod", argument, GITHUB_ACTIONS="true")
        assert COMMANDS[0] in done.stdout
        assert obeyed(done.stdout) == []
    assert obeyed("\n".join(COMMANDS)) == list(COMMANDS)
