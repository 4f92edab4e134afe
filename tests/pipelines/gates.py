"""What the gate answers, and what ``archshift ramp apply`` does as a script of the runner."""

from tests.pipelines.conftest import Runner

FIGURES = "shop/Deployment/cart: p95 212 ms on Graviton, 200 ms on x86"


# What `archshift ramp apply --commit` does: one commit of the stack's file, whose message says why.
APPLY = """
ratio=0.8; for word in "$@"; do [ "$word" != --back ] || ratio=0.2; done
sed -i "s/arm_ratio: .*/arm_ratio: \\"$ratio\\"  # moves weekly/" Pulumi.prod.yaml
git commit --quiet --message "prod: arm_ratio 0.5 -> $ratio" --message "Seven days at 0.5." Pulumi.prod.yaml
echo "prod: arm_ratio 0.5 -> $ratio"
"""


def gate(runner: Runner, verdict: str, figures: str = FIGURES) -> None:
    """Let the gate end with a verdict; one that begins with ``!`` is an error."""
    runner.stand_in("gate", f"{verdict}\n{figures}")
