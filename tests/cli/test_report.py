"""``archshift report``: for people, for programs, and the file that it writes."""

import json
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from archshift.cli import git
from archshift.common.errors import ArchshiftError
from tests.build import GROUPS, priced_shop
from tests.fakes import FakePulumi, Run

CONFIG = "config:\n  archshift:arm_ratio: {}\n"


class Repository:
    """A repository of stacks' files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, at: str = "2026-03-02T09:00:00+00:00") -> str:
        """Run git, which has to succeed."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_AUTHOR_DATE": at,
            "GIT_COMMITTER_DATE": at,
            **{
                f"GIT_{who}_{what}": "a@b.example"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, name: str, content: str, at: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change", at=at)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Three weeks of a ramp, the last step by a pull request that lay for two days."""
    made = Repository(tmp_path / "repository")
    made.commit("Pulumi.dev.yaml", CONFIG.format(0.2), "2026-03-02T09:00:00+00:00")
    made.commit(
        "Pulumi.dev.yaml", CONFIG.format(0.2) + "  aws:region: eu-west-1\n", "2026-03-03T09:00:00+00:00"
    )
    made.git("checkout", "--quiet", "-b", "step")
    made.commit("Pulumi.dev.yaml", CONFIG.format(0.5), "2026-03-09T09:00:00+00:00")
    said = {
        "stack": "dev",
        "arm_ratio": 0.2,
        "verdict": "pass",
        "at": "2026-03-09T08:59:00+00:00",
        "reasons": [],
    }
    made.commit("gates/dev.json", json.dumps(said), "2026-03-09T09:01:00+00:00")
    made.git("checkout", "--quiet", "main")
    made.git("merge", "--quiet", "--no-ff", "-m", "step", "step", at="2026-03-11T10:00:00+00:00")
    return made


def test_for_people(run: Run, pulumi: FakePulumi) -> None:
    """Owners, what needs x86, savings and the fleet, in few lines."""
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    code, out, err = run("report", cluster=priced_shop())
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0] == "OWNER ALL CAN MOVE BLOCKED HELD LEFT ALONE GRAVITON WANTED X86 VCPU"
    assert lines[1] == "shop 3 2 0 0 1 0 2 1.0"
    assert "0 workloads need x86: 0 of 2 x86 nodes must stay" in lines
    assert any(line.startswith("cost so far, from arm_ratio 0 to 0.5: ") for line in lines)
    assert lines[-1] == "fleet at 0.5: 0 of 4 movable pods on Graviton (0.0 %), 2 wanted"


def test_the_file_and_the_json_are_of_one_survey(run: Run, pulumi: FakePulumi, tmp_path: Path) -> None:
    """Both at once: the cluster is read once, and folders on the way are made."""
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    cluster, file = priced_shop(), tmp_path / "public" / "report.html"
    code, out, err = run("report", "--html", str(file), "--json", cluster=cluster)
    value = json.loads(out)
    assert (code, err) == (0, "")
    assert [path for path, _ in cluster.lists].count("/api/v1/nodes") == 1
    assert (value["stack"], value["fleet"]["wanted"], value["savings"]["region"]) == ("dev", 2, "eu-west-1")
    assert [(one["group"], one["nodes"], one["pods"], one["vcpu_asked"]) for one in value["groups"]] == [
        ("x86", 2, 5, 1.25),
        ("graviton", 0, 0, 0.0),
        ("", 1, 0, 0.0),
    ]
    text = file.read_text()
    assert f'<time datetime="{datetime.fromisoformat(value["at"]).date()}' in text
    assert "shop/Deployment/cart" in text
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    """One sentence; nothing is left half written."""
    (tmp_path / "taken").write_text("a file")
    code, _, err = run("report", "--html", str(tmp_path / "taken" / "report.html"))
    assert code == 1
    assert err.startswith(f"archshift: --html: archshift cannot write {tmp_path}/taken/report.html (")
    assert err.endswith("; give another path\n")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_cluster_that_cannot_be_read_gives_no_report(run: Run, tmp_path: Path) -> None:
    """Never half a report: exit code 1, the sentence, no file."""
    file = tmp_path / "report.html"
    code, out, err = run("report", "--html", str(file), cluster=ArchshiftError("the cluster is asleep"))
    assert (code, out, err) == (1, "", "archshift: the cluster is asleep\n")
    assert not file.exists()


def test_what_is_not_known_is_said_and_the_rest_is_there(run: Run, tmp_path: Path) -> None:
    """No node groups, no region, no repository: sentences, not failures."""
    code, out, _ = run("report", "--json", "-C", str(tmp_path))
    value = json.loads(out)
    assert code == 0
    assert value["savings"]["problem"] == "archshift:node_groups is not set, so there are no nodes to price"
    assert value["savings"]["changes"] == []
    assert len(value["notes"]) == 1
    assert value["notes"][0].startswith("how arm_ratio moved: git log: fatal: not a git repository")
    assert [one["arm_ratio"] for one in value["history"]["moves"]] == [0.5]


def test_prices_of_nowhere_are_no_failure(run: Run, pulumi: FakePulumi) -> None:
    """Nodes that do not say their region cost the savings alone."""
    pulumi.configure(arm_ratio="0.5", platform="lab", node_groups=GROUPS)
    code, out, _ = run("report")
    assert code == 0
    assert "savings are unknown: archshift:cost.region is not set" in out


def test_the_history_is_the_repositorys(run: Run, repository: Repository) -> None:
    """A step counts from its merge on, commits about other keys are no steps, verdicts are in their weeks."""
    code, out, _ = run("report", "--json", "-C", str(repository.folder))
    value = json.loads(out)
    assert (code, value["notes"]) == (0, [])
    assert [(one["at"], one["arm_ratio"]) for one in value["history"]["moves"]] == [
        ("2026-03-02T09:00:00+00:00", 0.2),
        ("2026-03-11T10:00:00+00:00", 0.5),
    ]
    assert value["history"]["weeks"][:2] == [
        {"monday": "2026-03-02", "arm_ratio": 0.2, "verdicts": []},
        {"monday": "2026-03-09", "arm_ratio": 0.5, "verdicts": ["pass"]},
    ]


def test_evidence_that_is_not_committed_counts_too(run: Run, repository: Repository) -> None:
    """The gate's last word may still be on the disk alone; the same word twice is one."""
    file = repository.folder / "gates" / "dev.json"
    said = json.loads(file.read_text()) | {
        "verdict": "hold",
        "arm_ratio": 0.5,
        "at": "2026-03-12T09:00:00+00:00",
    }
    file.write_text(json.dumps(said))
    _, out, _ = run("report", "--json", "-C", str(repository.folder))
    assert [one["verdict"] for one in json.loads(out)["history"]["judgements"]] == ["pass", "hold"]


def test_a_shallow_clone_is_said(run: Run, repository: Repository, tmp_path: Path) -> None:
    """Pipelines clone one commit: then the history begins there, and the reader knows."""
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.folder}", str(clone))
    _, out, _ = run("report", "--json", "-C", str(clone))
    assert json.loads(out)["notes"] == [
        "how arm_ratio moved before the first commit of this shallow clone (git fetch --unshallow gets the "
        "other commits)"
    ]


def test_versions_that_are_gone_or_too_large_are_passed_over(repository: Repository) -> None:
    """A file that was taken away and came back, and one that somebody let grow."""
    path = repository.folder / "Pulumi.dev.yaml"
    repository.git("rm", "--quiet", path.name)
    repository.git("commit", "--quiet", "--message=gone", at="2026-03-12T09:00:00+00:00")
    repository.commit(path.name, CONFIG.format(0.8) + "#" * 2000, "2026-03-13T09:00:00+00:00")
    repository.commit(path.name, CONFIG.format(0.8), "2026-03-14T09:00:00+00:00")
    found = [at.day for at, _ in git.history(path, 10, largest=1000)]
    assert found == [2, 3, 11, 14]
    assert [at.day for at, _ in git.history(path, 2)] == [13, 14]
