"""Measures what the policy pack adds to a preview of 1,000 workloads, with and without the pack in turns.

It uses the real engine in a separate lab, with images that are proven for arm64. The first part is before the
first update, when the engine has only the patches of the program. In the second part all workloads are
placed. Then the engine has the whole live objects, which the SDK would copy for every rule.
"""

import sys

from bench._lab import running_lab
from bench.engine import GROUPS, Stack, fill, in_turns, report
from lab.control_plane import PROJECT, REGISTRY_HOST, Lab
from lab.stack import ON_THE_LAB
from tests.images.build import Pusher

WORKLOADS = 1000
LIMIT = 1.3
PACK = f"--policy-pack={PROJECT / 'policies'}"


def push_image(lab: Lab) -> str:
    """Push an image for both architectures to the lab's registry; returns its name."""
    push = Pusher(f"http://{lab.registry}")
    children = [
        push.image("bench/web", platform=f"linux/{architecture}") for architecture in ("amd64", "arm64")
    ]
    push.index("bench/web", "1", children)
    return f"{REGISTRY_HOST}/bench/web:1"


def compare(stack: Stack, name: str) -> None:
    """Measure the stack's preview with the pack and without."""
    got = in_turns(lambda: stack.run("preview", PACK), lambda: stack.run("preview"))
    report(name, "s", got["ours"]["seconds"], got["bare"]["seconds"], LIMIT)


def main() -> None:
    """Measure and print the parts that the arguments name. Placing 1,000 workloads takes ten minutes."""
    parts = sys.argv[1:] or ["first"]
    with running_lab() as (lab, folder):
        fill(lab, "many", WORKLOADS, 1, push_image(lab))
        stack = Stack(lab, folder / "stack", "policies")
        settings = {**ON_THE_LAB, "images": {}, "node_groups": GROUPS}
        # Both previews have the nodes already, so the comparison is only about the patches.
        stack.configure(**settings, arm_ratio="0.2", workloads={"namespaces": ["none"]})
        stack.run("up", "--yes", "--skip-preview")
        stack.configure(**settings, arm_ratio="0.2", workloads={"namespaces": ["many"]})
        print(f"{'preview of 1,000 workloads':<34} {'with':>8} {'without':>8}")
        if "first" in parts:
            compare(stack, "before the first update")
        if "placed" in parts:
            seconds, _ = stack.run("up", "--yes", "--skip-preview")
            print(f"  (placed in {seconds:.0f} s)", flush=True)
            stack.configure(**settings, arm_ratio="0.5", workloads={"namespaces": ["many"]})
            compare(stack, "of the next step")


if __name__ == "__main__":
    main()
