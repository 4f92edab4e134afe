"""The picture of the demo in the README shows what the demo printed."""

import re
from xml.etree import ElementTree

import pytest

from lab.control_plane import PROJECT
from lab.demo import STEPS, fleet_line, restarts_line, step_table
from lab.picture import PictureError, draw, frames

ROW = {"replicas": 4, "wanted": 2, "graviton": 2, "exact": True, "near": False}
REPORT = {
    "fleet": {"pods": 8, "wanted": 4, "graviton": 2, "all_pods": 9},
    "workloads": [
        {"workload": "shop/Deployment/a<b>", **ROW},
        {"workload": "shop/Deployment/cart", **ROW, "graviton": 0, "exact": False},
        {"workload": "shop/Deployment/search", **ROW, "graviton": 1, "exact": False, "near": True},
    ],
}
TABLE = step_table(REPORT, {"shop/Deployment/cart": 4.2}, {}, {})
OUTPUT = f"""making the stack lab

=== before the first step: which images run on arm64?
$ archshift audit --from-cluster
IMAGE        VERDICT     WHY
shop/web:1   amd64-only  linux/amd64

WORKLOAD     VERDICT     BLOCKED BY
1 of 2 images run on arm64, 0 unknown; 1 of 2 workloads can move

=== 1 of 1: arm_ratio 0.5
$ pulumi config set arm_ratio 0.5 && pulumi up
{TABLE}
  shop/Deployment/cart: left alone
{fleet_line(REPORT, "0.5", 12.3)}
{restarts_line(4, 4)}

1 steps in 13 s.
"""


def test_each_part_of_the_output_is_a_frame() -> None:
    """Tables and summaries are shown; notes, progress and what follows a summary are not."""
    audit, step = frames(OUTPUT)
    assert audit.lines[0] == "=== before the first step: which images run on arm64?"
    assert audit.lines[-1] == "1 of 2 images run on arm64, 0 unknown; 1 of 2 workloads can move"
    assert audit.fleet is None
    assert step.lines[2:6] == tuple(TABLE.splitlines())
    assert step.lines[-1] == "4 pods had to move; the step restarted 4 pods, 1.0 for each of them"
    assert not any("left alone" in line or "steps in" in line for line in step.lines)
    assert step.fleet == (2, 8)


def test_names_are_text_in_the_picture() -> None:
    """A name from the output is no markup, and what is not exact is marked."""
    root = ElementTree.fromstring(draw(OUTPUT))  # noqa: S314 - our own text
    words = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(word.startswith("shop/a<b>") for word in words)
    marks = {mark.text: mark.get("class") for mark in root.iter("{http://www.w3.org/2000/svg}tspan")}
    assert marks == {"amd64-only": "x86", "yes": "yes", "NO": "no"}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("make: *** [demo] Error 1\n", "no line begins with ===; is this the output of make demo?"),
        ("=== 1 of 5\n$ pulumi up\n", "'=== 1 of 5' has no line about the fleet or the images"),
    ],
)
def test_what_is_no_demo_makes_no_picture(output: str, said: str) -> None:
    """A demo that failed is not drawn as one that did not."""
    with pytest.raises(PictureError) as error:
        draw(output)
    assert str(error.value) == said


def test_the_picture_in_the_readme_is_of_a_demo_that_was_exact() -> None:
    """The committed picture has every step of today's demo, each exact, and needs no network."""
    text = (PROJECT / "docs" / "pictures" / "demo.svg").read_text()
    shown = re.findall(r"=== (\d) of (\d): arm_ratio ([0-9.]+)", text)
    assert shown == [(str(number), str(len(STEPS)), ratio) for number, ratio in enumerate(STEPS, 1)]
    fleets = re.findall(r"fleet at \S+ (\d+) of \d+ movable [^<]*, (\d+) wanted", text)
    assert len(fleets) == len(STEPS) + 1  # and once in the title
    assert all(there == wanted for there, wanted in fleets)
    assert 'class="no"' not in text
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
