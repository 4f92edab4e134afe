"""The command line of ``archshift deployment``, which pipelines use."""

import argparse
from collections.abc import Mapping
from typing import Final

from archshift.cli.parser import EXIT_ERROR, Commands
from archshift.cli.stack import add_stack_options

EXIT_DIFFERS: Final = 3
"""Exit code if the configured ratio is not deployed."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "deployment",
        help="decide in a pipeline what may be deployed",
        description="Decide in a pipeline whether a commit may be deployed, and whether the gate lets "
        "the ramp go on. The scripts in .github/scripts call it. Changes nothing in the cluster.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = _add(
        actions,
        "check",
        "decide whether the checked-out commit may be deployed",
        "The commit must be the one that was previewed, and main must still have its program. For a step up, "
        "the gate of the deployed commit must pass. Write the gate's verdict and evidence to a folder.",
        example="archshift deployment check --stack prod --main origin/main --folder results",
        exits={0: "the commit may be deployed", EXIT_ERROR: "it may not; the reason is on stderr"},
    )
    check.add_argument("--main", metavar="COMMIT", required=True, help="the newest commit of main")
    gate = _add(
        actions,
        "gate",
        "ask the gate about the deployed ratio",
        "Write the verdict to a folder: pass, hold, step-back, unknown, or none for a stack without a gate.",
        example="archshift deployment gate --stack prod --folder results",
        exits={0: "there is a verdict, whatever it says"},
    )
    evidence = _add(
        actions,
        "evidence",
        "write the gate's evidence to its place in the repository",
        "Copy gate.json from the folder of the results, and print the path.",
        example="archshift deployment evidence --stack prod --folder results",
        exits={0: "the evidence is written"},
    )
    drift = _add(
        actions,
        "drift",
        "write whether the stack differs from its last deployment",
        "Read preview.txt, status.txt and the exit codes of their commands. Write answer (yes, no or "
        "later) and, without secrets, drift.md. If an autoscaler may have caused all differences, run a "
        "preview with the policy pack. What an autoscaler alone changed is no drift, because archshift "
        "rebalance or the next update corrects it.",
        example="archshift deployment drift --stack prod --folder results --compare 0 --preview 7 --status 0",
        exits={0: "the answer is written", EXIT_ERROR: "a command failed, so nobody knows"},
    )
    drift.set_defaults(no_policy_pack=False, policy_pack=None, policy_pack_of=None, policy_pack_config=[])
    for name, command, required in (
        ("compare", "archshift deployment compare", True),
        ("preview", "pulumi preview --expect-no-changes", False),
        ("status", "archshift status", False),
    ):
        drift.add_argument(
            f"--{name}", type=int, metavar="CODE", required=required, help=f"the exit code of {command}"
        )
    for writing in (check, gate, evidence, drift):
        writing.add_argument(
            "--folder", metavar="DIR", required=True, help="the folder of the pipeline's results"
        )
    _add(
        actions,
        "compare",
        "compare the deployed arm_ratio with the configured one",
        "Read-only.",
        example="archshift deployment compare --stack prod",
        exits={
            0: "they are equal",
            EXIT_DIFFERS: "they differ, nothing is deployed, or the last update failed",
        },
    )
    _add(
        actions,
        "block",
        "print standard input as a block of code without secrets",
        "Use it for texts that others read, such as pages, pull requests and issues.",
        example="archshift deployment block --stack prod",
        exits={0: "the block is printed"},
    )
    _add(
        actions,
        "cluster",
        "print the name of the cluster at EKS and that of its kubeconfig context",
        "Print one name a line. The variable EKS_CLUSTER names the cluster of a stack without "
        "archshift:cluster.",
        example="archshift deployment cluster --stack prod",
        exits={0: "the names are printed"},
    )


def _add(
    actions: Commands,
    name: str,
    words: str,
    more: str,
    *,
    example: str,
    exits: Mapping[int, str],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=words,
        description=f"{words[0].upper()}{words[1:]}. {more}",
        example=example,
        exits=exits,
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run the action; returns the exit code."""
    from archshift.cli.commands import deployment

    return deployment.ACTIONS[options.action](options)
