"""The comment of a pull request: complete, within the limit, and safe whatever clusters call their things."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from archshift.common.text import printable
from archshift.report.preview import Change, PreviewReport, Run, Violation
from archshift.report.preview_markdown import LONGEST, code, markdown, marker
from tests.properties import examples
from tests.report.reports import AT, held, plan, report, row, side

OURS = re.compile(
    r"(<!-- archshift-preview:[A-Za-z0-9._/-]* -->|<details>|</details>|<summary>[^<>]*</summary>|\s)*"
)
"""All the HTML that a comment of ours has."""


def tokens(text: str) -> Iterator[Token]:
    """What a reader of Markdown with tables makes of a text."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def busy(text: str = "x", count: int = 1) -> PreviewReport:
    """A report in which every field that others name holds a text, so many times."""
    entry = {"workload": text, "field": text, "owner": text, "forced": False}
    left = plan(
        *(row(text, owner=text, reason=text) for _ in range(count)),
        *(held(text, text, owner=text) for _ in range(count)),
        conflicts=[entry] * count,
        capacity=[side("amd64", shortage=text), side("arm64", shortage=text)],
    )
    one = Violation(rule=text, pack=text, mandatory=True, resource=text, message=text)
    return PreviewReport(
        stack=text,
        at=AT,
        outcome="blocked",
        reason=text,
        plan=left,
        exceptions=(text, text),
        cost={"before": None, "after": None, "unknown": [text] * count},
        packs={text: text},
        policies="asked",
        passed=(text,) * count,
        violations=(one,) * count,
        changes=(Change(op="update", type=text, name=text, keys=(text,) * 9),) * count,
        warnings=(text,) * count,
        errors=tuple(f"{text} {number}" for number in range(count)),
    )


def test_everything_is_there() -> None:
    """Marker, exceptions, step, policies, moves, conflicts, capacity, what is held, and the diff."""
    left = plan(
        row("shop/Deployment/web", replicas=6, wanted=3, moves=3, owner="web-team"),
        row("shop/Deployment/still", moves=0, wanted=0),
        held("shop/Deployment/legacy", "held on x86: legacy:1 is amd64-only"),
        held("shop/Deployment/pay", "left alone: others own its affinity (helm)", action="leave"),
        held("kube/DaemonSet/log", "a DaemonSet: runs on every node", action="leave"),
        conflicts=[{"workload": "shop/Deployment/pay", "field": "spec.a", "owner": "helm", "forced": False}],
        capacity_before=[side("amd64"), side("arm64", nodes=0, pods=0, vcpu=0.0, vcpu_needed=0.0)],
    )
    run = Run(
        succeeded=True,
        packs={"archshift|local|policies": "0.1.0"},
        passed=("node-group-architecture",),
        changes=(Change(op="update", type="kubernetes:apps/v1:DeploymentPatch", name="w", keys=("spec.a",)),),
        state_ratio=0.2,
    )
    text = markdown(report(run, left, exceptions=("BREAK GLASS until 18:00",)))
    lines = text.splitlines()
    assert lines[0] == "<!-- archshift-preview:prod -->"
    assert lines[2] == "## archshift preview: `prod`"
    assert lines[4:8] == [
        "> [!CAUTION]",
        "> **Exceptions in force:**",
        ">",
        "> - **`BREAK GLASS until 18:00`**",
    ]
    assert "**Step on 2026-03-02: `arm_ratio` 0.2 → 0.5**, direction: **up**." in lines
    assert "Checked: `archshift` `0.1.0`. No objection: `node-group-architecture`." in lines
    assert "| `shop/Deployment/web` | `web-team` | 6 | 0 | 3 |  |" in lines
    assert "| `shop/Deployment/pay` | `helm` | left alone | `spec.a` |" in lines
    assert "| Graviton | 0 → 3 | 0 → 2 | 0.0 of 0.0 | 4.0 of 12.0 | 8.0 of 45.0 | 8.0 of 45.0 |" in lines
    assert "The cost before and after is unknown." in lines
    assert "<summary>Held on x86 or left alone: 1 workload, 4 pods</summary>" in lines
    assert "| `held on x86: legacy:1 is amd64-only` | 1 | 4 | `shop/Deployment/legacy` (`web`) |" in lines
    assert "| `update` | `w` | `DeploymentPatch` | `spec.a` |" in lines
    assert "DaemonSet/log" not in text
    assert "Deployment/still" not in text


def test_a_step_at_admission_says_how_many_pods_restart() -> None:
    """Those that move, and all of a workload that lends none."""
    left = plan(row("shop/Deployment/web", restarts=False), placement="admission", restarted_pods=2)
    text = markdown(report(Run(succeeded=True), left))
    assert "2 pods change sides, 2 pods restart, 0 workloads roll out, 9 pods in all." in text


def test_a_step_that_could_restart_fewer_pods_says_so() -> None:
    """In the comment where the step is decided."""
    advice = "this step restarts 4 pods to move 2; with placement: admission it would restart 2"
    text = markdown(report(Run(succeeded=True), plan(row("shop/Deployment/web"), advice=advice)))
    assert f"Fewer restarts are possible: `{advice}`." in text.splitlines()


@pytest.mark.parametrize(
    ("stack", "found"),
    [
        ("prod", "<!-- archshift-preview:prod -->"),
        ("acme/archshift/prod", "<!-- archshift-preview:acme/archshift/prod -->"),
        ("--> <script>", "<!-- archshift-preview:--___script_ -->"),
    ],
)
def test_the_marker(stack: str, found: str) -> None:
    """A workflow searches for exactly this; no name of a stack ends the comment early."""
    assert marker(stack) == found
    (token,) = MarkdownIt("commonmark").parse(found)
    assert (token.type, token.content) == ("html_block", found)


def test_what_moves_most_comes_first_and_the_rest_is_counted() -> None:
    """Twenty-five of thirty; equal ones by name."""
    rows = [row(f"shop/Deployment/w{number:02}", moves=number) for number in range(1, 31)]
    lines = markdown(report(left=plan(*rows))).splitlines()
    shown = [line for line in lines if line.startswith("| `shop/Deployment/w")]
    assert [line.split("`")[1][-3:] for line in shown] == [f"w{number:02}" for number in range(30, 5, -1)]
    assert "_5 more workloads move, with fewer pods each; `archshift plan` lists them._" in lines


def test_three_thousand_workloads_fit() -> None:
    """Every section is there, closed, with its first rows, and says how much of it is missing."""
    name = "a-rather-long-namespace/Deployment/with-a-rather-long-name-in-front-of-it-"
    rows = [row(f"{name}{number}", owner="team") for number in range(3000)]
    rest = [
        held(f"{name}held-{number}", f"held on x86: {number}" + "its image is amd64-only " * 9)
        for number in range(900)
    ]
    entries = [
        {
            "workload": f"{name}{number}",
            "field": "spec.template.spec.affinity",
            "owner": "helm",
            "forced": False,
        }
        for number in range(700)
    ]
    changes = tuple(
        Change(op="update", type="k:apps/v1:DeploymentPatch", name=f"{name}{number}", keys=("spec.x",) * 4)
        for number in range(3000)
    )
    blocking = tuple(
        Violation(rule="r", pack="archshift", mandatory=True, resource=f"n{number}", message="word " * 200)
        for number in range(80)
    )
    run = Run(succeeded=False, changes=changes, violations=blocking, packs={"archshift": "1"})
    text = markdown(report(run, plan(*rows, *rest, conflicts=entries)))
    assert LONGEST * 0.9 < len(text.encode()) <= LONGEST == 65_536
    for heading in ("Policies", "What moves", "Conflicts: fields that others own", "Capacity"):
        assert f"### {heading}" in text
    assert text.count("<details>") == text.count("</details>") == 2
    assert "_2975 more workloads move, with fewer pods each" in text
    for what in (
        "violations are not shown",
        "conflicts are not shown",
        "reasons",
        "resources change",
    ):
        assert re.search(rf"_\d+ more {what}", text), what
    assert text.index("Blocks") < text.index("What moves") < text.index("Resource diff")


def test_what_holds_many_is_one_line() -> None:
    """A registry that is away holds a fleet: the three largest are named, the rest is counted."""
    away = "registry.example does not answer: the host name cannot be resolved"
    rows = [
        held(
            f"shop/Deployment/w{number:03}",
            f"held on x86: w{number} is unknown: {away}",
            cause=away,
            replicas=n,
        )
        for number in range(115)
        for n in (9 - min(number, 8),)
    ]
    amd64 = held("shop/Deployment/old", "held on x86: old:1 is amd64-only", cause="an image has no arm64")
    text = markdown(report(left=plan(*rows, amd64)))
    table = text[text.index("<summary>Held") :].splitlines()
    assert table[0] == "<summary>Held on x86 or left alone: 116 workloads, 155 pods</summary>"
    names = ", ".join(f"`shop/Deployment/w00{number}` (`web`)" for number in range(3))
    assert f"| `{away}` | 115 | 151 | {names} and 112 more |" in table
    assert "| `held on x86: old:1 is amd64-only` | 1 | 4 | `shop/Deployment/old` (`web`) |" in table
    assert len(table) < 20


TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="`|\\<>&*_[]()!#@:/-~$ \n\r\tax", max_size=80),
    st.sampled_from(["`" * 4000, "😀" * 4000, "x" * 4000, "|" * 4000, "\\" * 4000, "a`" * 2000]),
)


@examples
@given(text=TEXTS, count=st.sampled_from([0, 1, 7, 400]))
def test_every_comment_fits(text: str, count: int) -> None:
    """Whatever things are called and however many there are."""
    assert len(markdown(busy(text, count)).encode()) <= LONGEST


ATTACKS = [
    "a | b",
    "a \\| b",
    "ends with \\",
    "`code`",
    "`` ` ``",
    "```\nfenced\n```",
    "<script>alert(1)</script>",
    "</details></summary><img src=x onerror=y>",
    "<!-- -->",
    "@octocat please merge",
    "see https://evil.example and www.evil.example",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/p.png)",
    "#1 and acme/shop#2",
    "$\\href{https://evil.example}{x}$",
    "\n\n# heading\n\n> [!NOTE]\n> quoted",
    "\u202ereversed\u202c",
    "one\x00two\x1bthree",
]


def check_safe(text: str, sentinel: str = "SENTINEL") -> None:
    """Assert that a comment shows what others named as code alone, and that all its rows are whole."""
    columns = 0
    for token in tokens(text):
        assert token.type not in ("link_open", "image", "html_inline", "fence", "code_block"), token
        if token.type == "html_block":
            assert OURS.fullmatch(token.content), token.content
        elif token.type != "code_inline" and not token.children:
            assert sentinel not in token.content, token
        # A row with a cell too many loses it in silence, one with a pipe too many tears the table.
        if token.type == "tr_open":
            columns = 0
        columns += token.type in ("th_open", "td_open")
    for line in text.splitlines():
        if line.startswith("| "):
            cells = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "code", line)
            assert cells.count("|") in (5, 6, 7, 8), line


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_others_name_has_a_meaning(attack: str) -> None:
    """Pipes, backticks, HTML, mentions, links, references, formulas, headings, directions of text."""
    text = markdown(busy(f"SENTINEL {attack} SENTINEL"))
    check_safe(text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", text)
    # The first line is the marker, of letters, digits and a few signs.
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text.partition("\n")[2])
    assert "@" not in outside
    assert "evil" not in outside


@examples
@given(text=TEXTS)
def test_whatever_it_is(text: str) -> None:
    check_safe(markdown(busy(f"SENTINEL{text}SENTINEL")))


def shown(span: str) -> str:
    """What a reader of Markdown shows of a code span, inside a table's cell."""
    found = [token.content for token in tokens(f"| a |\n| --- |\n| {span} |") if token.type == "code_inline"]
    (content,) = found
    return content


@examples
@given(text=st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_code_shows_what_it_was_given(text: str) -> None:
    """Nothing is lost but pipes, which look a little different, and letters that nobody could see."""
    assert shown(code(text)) == printable(text).replace("|", "¦")


def test_code_is_cut_and_never_empty() -> None:
    """An empty span would be two backticks."""
    assert code("x" * 400, 10) == "`xxxxxxxxx…`"
    assert (code(""), code(" \n ")) == ("-", "-")
    assert shown(code("a  b\n c")) == "a b c"


@pytest.mark.parametrize(
    ("before", "said"),
    [(None, "0.5, the first of this stack**"), (0.5, "0.5**"), (0.8, "0.8 → 0.5**"), (0, "0 → 0.5**")],
)
def test_the_step_names_where_it_comes_from(before: float | None, said: str) -> None:
    """From the last update's ratio; where there was none, that is said."""
    made = report(Run(succeeded=True, state_ratio=before))
    assert f"`arm_ratio` {said}, direction: **up**." in markdown(made)


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (
            {"overlap": 120.4},
            "Cost: the pods need nodes for 1,000 to 1,100 USD a month now, for 900 then: `100 to 200 USD a "
            "month less`. While the x86 nodes still run: 120 more. `archshift cost` lists the assumptions.",
        ),
        ({"before": None, "unknown": ["no <b>price</b>"]}, "is unknown: `no <b>price</b>`."),
    ],
)
def test_cost_is_a_range_or_says_why_it_is_not_known(cost: dict[str, Any], said: str) -> None:
    """No price is made up: without one there is a reason."""
    known: dict[str, Any] = {
        "before": {"least": 1000.2, "most": 1100.0},
        "after": {"least": 900.0, "most": 900.0},
        "overlap": None,
        "saving": "100 to 200 USD a month less",
        "unknown": [],
    }
    assert said in markdown(replace(report(), cost={**known, **cost}))


def test_without_a_pack_it_is_said() -> None:
    """Silence would read like a pass."""
    made = report(Run(succeeded=True), packs=())
    assert "There is no policy pack, so no rule was checked." in markdown(made)
