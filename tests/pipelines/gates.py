"""What ``archshift gate`` and ``archshift ramp apply`` do, as scripts of the runner."""

from tests.pipelines.conftest import Runner

# What `archshift gate` leaves behind with each verdict, by its exit code.
GATE = """
while [ $# -gt 0 ]; do [ "$1" != --output ] || output=$2; shift; done
[ -z "$output" ] || echo '{{"stack": "prod", "verdict": "{verdict}"}}' > "$output"
echo 'shop/Deployment/cart: p95 212 ms on Graviton, 200 ms on x86'
exit {code}
"""


CODES = {"pass": 0, "hold": 3, "step-back": 5, "unknown": 6}


# What `archshift ramp apply --commit` does: one commit of the stack's file, whose message says why.
APPLY = """
ratio=0.8; for word in "$@"; do [ "$word" != --back ] || ratio=0.2; done
sed -i "s/arm_ratio: .*/arm_ratio: \\"$ratio\\"  # moves weekly/" Pulumi.prod.yaml
git commit --quiet --message "prod: arm_ratio 0.5 -> $ratio" --message "Seven days at 0.5." Pulumi.prod.yaml
echo "prod: arm_ratio 0.5 -> $ratio"
"""


def gate(runner: Runner, verdict: str) -> None:
    """Let the gate end with a verdict."""
    runner.stand_in("archshift-gate", GATE.format(verdict=verdict, code=CODES[verdict]))
