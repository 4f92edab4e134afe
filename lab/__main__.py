"""The lab's commands: `python -m lab up|down|env|shell|demo|load|status`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, get_args

from archshift.plan.model import Placement
from lab.control_plane import PROJECT, Lab, LabError, print_progress, user_shell
from lab.demo import demo
from lab.images import push_images
from lab.sample import load_workloads, prepare_stack
from tools.bootstrap import KARPENTER

_NEXT = """
The lab is up. {nodes} of the stack, so the pods wait for the first `pulumi up`.

  make lab-shell{flag}           a shell in which kubectl and pulumi work on it
    pulumi up                          creates the nodes and places the pods
    pulumi config set arm_ratio 0.8    changes the ratio
    pulumi preview; pulumi up          moves the pods
    archshift status                   compares the wanted and the observed pods
  make demo{flag}                runs all of this, step by step
  make lab-down{flag}            stops the lab and keeps its data
"""


def _up(lab: Lab) -> int:
    _prepare(lab)
    with_karpenter = KARPENTER in lab.servers
    nodes = "Its NodePools are resources" if with_karpenter else "Its nodes are resources"
    flag = " KARPENTER=1" if with_karpenter else " " * 12
    print(_NEXT.format(nodes=nodes, flag=flag))
    return 0


def _prepare(lab: Lab) -> None:
    lab.start(print_progress)
    prepare_stack(lab, print_progress)
    push_images(lab, print_progress)
    load_workloads(lab, print_progress)


def _down(lab: Lab) -> int:
    running = set(lab.servers) - set(lab.missing())
    lab.stop()
    print(
        "The lab is stopped; make lab-up starts it again with the same data."
        if running
        else "The lab was not running."
    )
    return 0


def _env(lab: Lab) -> int:
    _must_exist(lab)
    print(lab.export_lines())
    return 0


def _load(lab: Lab) -> int:
    _must_run(lab)
    push_images(lab, print_progress, again=True)
    load_workloads(lab, print_progress, again=True)
    return 0


def _shell(lab: Lab) -> int:
    _must_run(lab)
    shell = user_shell()
    print(f"Here kubectl and pulumi work on the lab (stack {lab.stack}). Leave with exit or Ctrl-D.")
    command = [shell]
    if Path(shell).name == "bash":
        # A .bashrc may put folders in front of PATH, so export the lab's variables after it.
        start = lab.directory / "run" / "bashrc"
        start.write_text(f'[ -f ~/.bashrc ] && . ~/.bashrc\n{lab.export_lines()}\nPS1="(lab) $PS1"\n')
        command += ["--rcfile", str(start)]
    sys.stdout.flush()
    os.chdir(PROJECT)
    os.execve(shell, command, lab.process_environment())  # noqa: S606 - the user's own shell is the point


def _status(lab: Lab) -> int:
    for name, server in lab.servers.items():
        process = server.process()
        print(f"{name:24} {f'running, pid {process.pid}' if process else 'stopped'}")
    print(f"{'folder':24} {lab.directory}")
    return 0 if lab.is_running() else 1


def _demo(lab: Lab, placement: str) -> int:
    _prepare(lab)
    return demo(lab, placement)


def _must_exist(lab: Lab) -> None:
    if not (lab.directory / "bin").is_dir():
        raise LabError("There is no lab yet; run make lab-up.")


def _must_run(lab: Lab) -> None:
    _must_exist(lab)
    if missing := lab.missing():
        raise LabError(f"The lab is not running ({', '.join(missing)}); run make lab-up.")


_COMMANDS: dict[str, tuple[Callable[[Lab], int], str]] = {
    "up": (_up, "start the lab with its stack and sample workloads"),
    "down": (_down, "stop the lab and keep its data"),
    "env": (_env, "print the lab's environment as export lines"),
    "shell": (_shell, "start a shell with the lab's environment"),
    "load": (_load, "push the sample images and apply the sample workloads again"),
    "status": (_status, "show which servers run"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of the lab; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, help="the lab's folder (.lab, or .lab-karpenter)")
    parser.add_argument(
        "--karpenter", action="store_true", help="use the second lab, where Karpenter creates the nodes"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, description) in _COMMANDS.items():
        commands.add_parser(name, help=description)
    steps = commands.add_parser("demo", help="move arm_ratio up and back down, and show each step")
    steps.add_argument(
        "--placement", choices=get_args(Placement), default="patches", help="archshift:placement of the demo"
    )
    options = parser.parse_args(arguments)
    try:
        directory = options.directory or PROJECT / (".lab-karpenter" if options.karpenter else ".lab")
        lab = Lab(directory, karpenter=options.karpenter)
        if options.command == "demo":
            return _demo(lab, options.placement)
        return _COMMANDS[options.command][0](lab)
    except LabError as error:
        print(error, file=sys.stderr)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        print(f"The command took too long and was stopped: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. The lab is still running; make lab-down stops it.", file=sys.stderr)
        return 130
    return 1


def _run() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _run()
