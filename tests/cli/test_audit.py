"""``archshift audit``: what it prints, what it writes, and with which exit code."""

import json
import os
import stat
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from archshift.cli.commands import audit
from archshift.cli.main import main
from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.images import audit as image_audit
from archshift.images.audit import AuditOptions
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.images.verdict import (
    AMD64_ONLY,
    ARM64_ONLY,
    MULTI_ARCH,
    OTHER,
    UNKNOWN,
    ImageVerdict,
    Verdict,
)
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.settings import stack as stack_settings
from tests.build import workload
from tests.fakes import FakeCluster

Run = Callable[..., tuple[int, str, str]]

NOW = datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
KNOWN: dict[str, tuple[Verdict, tuple[str, ...], str]] = {
    "both": (MULTI_ARCH, ("linux/amd64", "linux/arm64"), ""),
    "x86": (AMD64_ONLY, ("linux/amd64",), ""),
    "arm": (ARM64_ONLY, ("linux/arm64",), ""),
    "mainframe": (OTHER, ("linux/s390x",), ""),
    "liar": (AMD64_ONLY, ("linux/amd64",), "/bin/app of linux/arm64 is an x86-64 binary"),
    "gone": (UNKNOWN, (), "HTTP 404: no such tag"),
}


def image(reference: str) -> ImageVerdict:
    """The verdict on an image by its repository's name."""
    verdict, platforms, reason = KNOWN.get(reference.partition(":")[0], KNOWN["both"])
    return ImageVerdict(reference, verdict, platforms, "" if verdict == UNKNOWN else DIGEST, reason, NOW)


def judged(key: str, *images: ImageVerdict, verdict: Verdict = MULTI_ARCH, **more: Any) -> WorkloadVerdict:
    """The verdict on a workload whose images are these."""
    blocking = tuple(
        Blocking("main", one.image, one.verdict, f"container main: {one.reason or one.verdict}")
        for one in images
        if not one.runs_on_arm64
    )
    return WorkloadVerdict(key, verdict, blocking, images, **more)


class Registries:
    """Stands in for every registry, the stack and the cluster; remembers what it was asked."""

    def __init__(self) -> None:
        """Know the images by name, and of a cluster nothing."""
        self.audited: list[tuple[list[str], AuditOptions]] = []
        self.suggested: list[tuple[list[str], AuditOptions]] = []
        self.suggestions: dict[str, str | None] = {"x86:1.0.0": "x86:1.2.0"}
        self.evidence: ClusterEvidence | ArchshiftError = ClusterEvidence()
        self.rules: list[ImageRules] = []
        self.inventories: list[Inventory] = []
        self.settings = stack_settings.Settings(stack="dev", arm_ratio=0.5, kube_context="staging")
        self.contexts: list[str | None] = []

    def audit_images(self, images: Iterable[str], options: AuditOptions) -> dict[str, ImageVerdict]:
        self.audited.append((list(images), options))
        return {one: image(one) for one in self.audited[-1][0]}

    def suggest_newer(self, images: Iterable[str], options: AuditOptions) -> dict[str, str | None]:
        self.suggested.append((list(images), options))
        return {one: self.suggestions.get(one) for one in self.suggested[-1][0]}

    def read_evidence(
        self, _cluster: FakeCluster, inventory: Inventory, rules: ImageRules, *, refresh: bool, watch: object
    ) -> ClusterEvidence:
        assert callable(watch)
        assert not refresh
        self.rules.append(rules)
        self.inventories.append(inventory)
        if isinstance(self.evidence, ArchshiftError):
            raise self.evidence
        return self.evidence

    def connect(self, context: str | None) -> FakeCluster:
        """Connect to a cluster of one Deployment."""
        self.contexts.append(context)
        return FakeCluster({"/apis/apps/v1/deployments": [workload()]})


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Registries:
    """No test here reaches a registry, an engine or a cluster."""
    found = Registries()
    monkeypatch.setattr(image_audit, "audit_images", found.audit_images)
    monkeypatch.setattr(image_audit, "suggest_newer", found.suggest_newer)
    monkeypatch.setattr(audit, "read_evidence", found.read_evidence)
    monkeypatch.setattr(audit, "read_settings", lambda _options, **_: found.settings)
    monkeypatch.setattr(audit, "connect", found.connect)
    return found


@pytest.fixture
def run(registries: Registries, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``archshift audit``; exit code, standard output, standard error."""
    del registries  # only has to be there

    def go(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        code = main(("audit", *arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return go


def lines(text: str) -> list[str]:
    """The lines of a table, with one space between columns."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("images", "code"),
    [
        (["both:1"], 0),
        (["both:1", "arm:1"], 0),
        (["both:1", "x86:1.0.0"], 1),
        (["mainframe:1"], 1),
        (["liar:1"], 1),
        (["both:1", "gone:1"], 2),
        (["gone:1", "x86:1.0.0"], 1),
    ],
)
def test_the_exit_code_is_the_answer(run: Run, images: list[str], code: int) -> None:
    """0 all can, 1 some cannot, 2 some are unknown; a proven no weighs more than an unknown."""
    assert run(*images)[0] == code


@pytest.mark.parametrize(
    ("fail_on", "images", "code"),
    [
        ("amd64-only", ["gone:1"], 0),
        ("amd64-only", ["gone:1", "x86:1.0.0"], 1),
        ("amd64-only", ["mainframe:1"], 0),
        ("unknown", ["x86:1.0.0"], 0),
        ("unknown", ["x86:1.0.0", "gone:1"], 2),
        (" unknown , amd64-only ,", ["gone:1"], 2),
        ("other", ["mainframe:1"], 1),
        ("", ["gone:1", "x86:1.0.0", "mainframe:1"], 0),
    ],
)
def test_fail_on_says_what_fails(run: Run, fail_on: str, images: list[str], code: int) -> None:
    """A pipeline decides what it lives with; the table is printed all the same."""
    found, out, err = run("--fail-on", fail_on, *images)
    assert (found, err) == (code, "")
    assert all(one in out for one in images)


def test_a_verdict_that_does_not_exist_is_refused(run: Run, registries: Registries) -> None:
    """A typo would otherwise let everything pass; nothing is read before."""
    assert run("--fail-on", "unknown,amd64", "x86:1.0.0") == (
        4,
        "",
        "archshift: --fail-on: 'amd64' is not a verdict; use amd64-only, arm64-only, multi-arch, other, "
        "unknown\n",
    )
    assert registries.audited == []


def test_nothing_to_audit_is_refused(run: Run) -> None:
    """An empty list, from a script's empty variable, must not look like success."""
    assert run() == (
        4,
        "",
        "archshift: audit: there is nothing to audit; name an image, or use --from-cluster\n",
    )


def test_an_audit_that_failed_is_not_an_answer(
    run: Run, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4 and a sentence: a pipeline must tell "some cannot" from "could not look"."""
    registries.evidence = ArchshiftError("the Docker config is not readable")
    assert run("--from-cluster") == (4, "", "archshift: the Docker config is not readable\n")

    def refuse(_context: str | None) -> FakeCluster:
        raise ArchshiftError("kubeconfig: it has no current context; set KUBECONFIG")

    monkeypatch.setattr(audit, "connect", refuse)
    assert run("--from-cluster", "--json") == (
        4,
        "",
        "archshift: kubeconfig: it has no current context; set KUBECONFIG\n",
    )


def test_the_table_has_the_trouble_first(run: Run) -> None:
    """What cannot run, then what is unknown, then the rest; each with why, and what to take instead."""
    _, out, err = run("both:1", "gone:1", "x86:1.0.0", "liar:1")
    assert lines(out) == [
        "IMAGE VERDICT WHY",
        "liar:1 amd64-only /bin/app of linux/arm64 is an x86-64 binary",
        "x86:1.0.0 amd64-only linux/amd64; x86:1.2.0 has arm64",
        "gone:1 unknown HTTP 404: no such tag",
        "both:1 multi-arch linux/amd64, linux/arm64",
        "1 of 4 images runs on arm64, 1 unknown",
    ]
    assert err == ""


def test_suggestions_are_looked_for_where_they_help(run: Run, registries: Registries) -> None:
    """For what cannot run, not for what runs or is unknown; with the options of the audit."""
    run("--plain-http", "registry.lab:5000", "both:1", "gone:1", "x86:1.0.0", "mainframe:1", "liar:1")
    ((images, options),) = registries.suggested
    assert images == ["x86:1.0.0", "mainframe:1", "liar:1"]
    assert options.hosts == {"registry.lab:5000": RegistryHost(plain_http=True)}
    run("both:1", "gone:1")
    assert len(registries.suggested) == 1


def test_images_alone_are_reached_as_the_machine_says(
    run: Run, registries: Registries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stack the machine's file counts; --plain-http adds to what it says of a host."""
    file = tmp_path / "registries.yaml"
    file.write_text("registry.lab: {mirrors: [mirror.lab]}\n")
    monkeypatch.setenv("ARCHSHIFT_REGISTRIES", str(file))
    run("--plain-http", "registry.lab", "both:1")
    ((_, options),) = registries.audited
    assert options.hosts == {"registry.lab": RegistryHost(plain_http=True, mirrors=("mirror.lab",))}
    file.write_text("registry.lab: {mirror: mirror.lab}\n")
    assert run("both:1") == (
        4,
        "",
        f"archshift: ARCHSHIFT_REGISTRIES: {file}: registry.lab.mirror is not a setting; there are: ca_file, "
        "mirrors, plain_http, token_hosts\n",
    )


def test_suggestions_can_be_left_out(run: Run, registries: Registries) -> None:
    """They list tags, which some registries charge for or forbid."""
    code, out, _ = run("--no-suggestions", "--json", "x86:1.0.0")
    assert (code, registries.suggested) == (1, [])
    assert "suggestion" not in json.loads(out)["images"][0]


def test_images_as_json_have_the_promised_schema(run: Run) -> None:
    """Pipelines read exactly these keys; a suggestion is there where one was looked for."""
    code, out, err = run("--json", "both:1", "x86:1.0.0", "liar:1", "gone:1")
    assert (code, err) == (1, "")
    common = {"digest": DIGEST, "checked_at": "2026-03-01T12:30:15+00:00"}
    assert json.loads(out) == {
        "images": [
            {
                **common,
                "image": "both:1",
                "verdict": "multi-arch",
                "platforms": ["linux/amd64", "linux/arm64"],
                "reason": "",
            },
            {
                **common,
                "image": "x86:1.0.0",
                "verdict": "amd64-only",
                "platforms": ["linux/amd64"],
                "reason": "",
                "suggestion": "x86:1.2.0",
            },
            {
                **common,
                "image": "liar:1",
                "verdict": "amd64-only",
                "platforms": ["linux/amd64"],
                "reason": "/bin/app of linux/arm64 is an x86-64 binary",
                "suggestion": None,
            },
            {
                **common,
                "image": "gone:1",
                "verdict": "unknown",
                "platforms": [],
                "digest": "",
                "reason": "HTTP 404: no such tag",
            },
        ],
        "workloads": [],
        "notes": [],
    }


CART, PAY = "shop/Deployment/cart", "shop/Deployment/pay"
CLUSTER = ClusterEvidence(
    {
        CART: judged(CART, image("both:1"), notes=("cart: both:1 has moved: pods run another",)),
        PAY: judged(PAY, image("both:1"), image("x86:1.0.0"), image("gone:1"), verdict=AMD64_ONLY),
    },
    ("pull secret shop/robot was not used: not allowed",),
)


def test_a_cluster_as_json_has_its_workloads(run: Run, registries: Registries) -> None:
    """Each image once, each workload with what blocks it, and what the audit could not see."""
    registries.evidence = CLUSTER
    code, out, _ = run("--from-cluster", "--json")
    found = json.loads(out)
    assert code == 1
    assert [one["image"] for one in found["images"]] == ["both:1", "x86:1.0.0", "gone:1"]
    assert found["workloads"] == [
        {
            "workload": CART,
            "verdict": "multi-arch",
            "blocking": [],
            "notes": ["cart: both:1 has moved: pods run another"],
        },
        {
            "workload": PAY,
            "verdict": "amd64-only",
            "blocking": [
                {
                    "container": "main",
                    "image": "x86:1.0.0",
                    "verdict": "amd64-only",
                    "reason": "container main: amd64-only",
                },
                {
                    "container": "main",
                    "image": "gone:1",
                    "verdict": "unknown",
                    "reason": "container main: HTTP 404: no such tag",
                },
            ],
            "notes": [],
        },
    ]
    assert found["notes"] == ["pull secret shop/robot was not used: not allowed"]


def test_a_cluster_as_a_table_has_what_blocks_and_what_can_move(run: Run, registries: Registries) -> None:
    """People read the blocked workloads, the notes and one line of totals."""
    registries.evidence = CLUSTER
    _, out, _ = run("--from-cluster")
    assert lines(out)[4:] == [
        "WORKLOAD VERDICT BLOCKED BY",
        f"{PAY} amd64-only container main: amd64-only; container main: HTTP 404: no such tag",
        f"{CART}: cart: both:1 has moved: pods run another",
        "pull secret shop/robot was not used: not allowed",
        "1 of 3 images runs on arm64, 1 unknown; 1 of 2 workloads can move",
    ]


def test_the_cluster_is_the_stacks(run: Run, registries: Registries) -> None:
    """Its context, its discovery and its rules for images; --deep and --plain-http add to them."""
    hosts = {"ghcr.io": RegistryHost(mirrors=("mirror.example",))}
    registries.settings = stack_settings.Settings(
        stack="dev",
        arm_ratio=0.5,
        kube_context="staging",
        platform="lab",
        images=ImageRules(check=False, max_age_days=2, registries=hosts),
    )
    run("--from-cluster", "--deep", "--plain-http", "registry.lab:5000")
    (rules,), (inventory,) = registries.rules, registries.inventories
    assert registries.contexts == ["staging"]
    assert list(inventory.workloads) == [CART]
    # Who asks for an audit gets one, even where the program runs without.
    assert rules == ImageRules(
        deep=True,
        max_age_days=2,
        registries={**hosts, "registry.lab:5000": RegistryHost(plain_http=True)},
    )
    run("--from-cluster")
    assert registries.rules[1].deep is False


def test_images_alone_need_no_stack(
    run: Run, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipeline that builds one image there is neither Pulumi nor a cluster."""

    def refuse(_options: object, **_: bool) -> stack_settings.Settings:
        raise AssertionError("the stack was read")

    monkeypatch.setattr(audit, "read_settings", refuse)
    assert run("--deep", "both:1", "x86:1.0.0")[0] == 1
    ((images, options),) = registries.audited
    assert (images, options.deep, options.hosts) == (["both:1", "x86:1.0.0"], True, {})
    assert registries.contexts == []


def test_images_and_a_cluster_go_together(run: Run, registries: Registries) -> None:
    """The next release beside what runs: one table, one exit code."""
    registries.evidence = ClusterEvidence({CART: judged(CART, image("both:1"))})
    code, out, _ = run("--from-cluster", "--json", "x86:1.0.0")
    assert code == 1
    assert [one["image"] for one in json.loads(out)["images"]] == ["both:1", "x86:1.0.0"]


def test_one_image_with_two_commands_counts_as_its_worse_half(run: Run, registries: Registries) -> None:
    """A deep audit may find that only one of two programs in an image is for arm64."""
    worse = ImageVerdict("both:1", AMD64_ONLY, ("linux/amd64",), DIGEST, "/bin/worker is x86-64", NOW)
    good, bad = judged(CART, image("both:1")), judged(PAY, worse, verdict=AMD64_ONLY)
    for order in ((good, bad), (bad, good)):
        registries.evidence = ClusterEvidence({one.workload: one for one in order})
        code, out, _ = run("--from-cluster", "--json", "--deep")
        (found,) = json.loads(out)["images"]
        assert (code, found["verdict"], found["reason"]) == (1, "amd64-only", "/bin/worker is x86-64")


def test_an_unknown_workload_of_known_images_fails(run: Run, registries: Registries) -> None:
    """What could not be judged as a whole is unknown, though every image that was read is fine."""
    registries.evidence = ClusterEvidence({CART: judged(CART, image("both:1"), verdict=UNKNOWN)})
    assert run("--from-cluster")[0] == 2


METRICS = """\
# HELP archshift_image_platform_supported 1 if the image runs on the architecture, 0 if not.
# TYPE archshift_image_platform_supported gauge
archshift_image_platform_supported{image="both:1",os="linux",arch="amd64"} 1
archshift_image_platform_supported{image="both:1",os="linux",arch="arm64"} 1
archshift_image_platform_supported{image="x86:1.0.0",os="linux",arch="amd64"} 1
archshift_image_platform_supported{image="x86:1.0.0",os="linux",arch="arm64"} 0
archshift_image_platform_supported{image="arm:1",os="linux",arch="amd64"} 0
archshift_image_platform_supported{image="arm:1",os="linux",arch="arm64"} 1
archshift_image_platform_supported{image="mainframe:1",os="linux",arch="amd64"} 0
archshift_image_platform_supported{image="mainframe:1",os="linux",arch="arm64"} 0
# HELP archshift_image_unknown 1 for an image that could not be read.
# TYPE archshift_image_unknown gauge
archshift_image_unknown{image="gone:1"} 1
"""


def test_metrics_are_written_whole_and_readable(run: Run, tmp_path: Path) -> None:
    """Another user's collector reads the file at any moment: 0644 under any umask, and no half file."""
    path = tmp_path / "archshift.prom"
    path.write_text("old\n" * 1000)
    before = path.stat().st_ino
    mask = os.umask(0o077)
    try:
        code, out, _ = run("--metrics", str(path), "both:1", "x86:1.0.0", "arm:1", "mainframe:1", "gone:1")
    finally:
        os.umask(mask)
    assert (code, path.read_text()) == (1, METRICS)
    assert "IMAGE" in out
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != before, "the file was written in place"
    assert [one.name for one in tmp_path.iterdir()] == ["archshift.prom"]


def test_unknown_is_neither_supported_nor_unsupported(run: Run, tmp_path: Path) -> None:
    """An alert on 0 must not fire because a registry was down."""
    path = tmp_path / "archshift.prom"
    run("--metrics", str(path), "gone:1")
    assert 'image="gone:1",os=' not in path.read_text()


def test_labels_are_escaped() -> None:
    """An image's name is anybody's text: it must not end its label or its line."""
    text = audit.metrics([image('gone:"} 1\nevil{a="\\')])
    (sample,) = [line for line in text.splitlines() if not line.startswith("#")]
    assert sample == r'archshift_image_unknown{image="gone:\"} 1 evil{a=\"\\"} 1'


def test_metrics_that_cannot_be_written_are_an_error(run: Run, tmp_path: Path) -> None:
    """A full path and the system's word; exit code 4, because the collector would read old figures."""
    path = tmp_path / "nowhere" / "archshift.prom"
    assert run("--metrics", str(path), "both:1") == (
        4,
        "",
        f"archshift: --metrics: {path}: No such file or directory\n",
    )
