"""The workflows themselves: what their linters say, and what no linter looks at."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.cli.commands.deployment import PROGRAM
from tests.pipelines.conftest import SCRIPTS
from tools.bootstrap import PROJECT, find_programs, pinned_version

GITHUB = PROJECT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
DOC = (PROJECT / "docs" / "pipelines.md").read_text()
Job = dict[str, Any]

# One mistake each, and the rule that finds it.
BROKEN = """\
name: broken
on: {event}
permissions: {{}}
jobs:
  one:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    steps:
      - {step}
"""
CHECKOUT = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd"


@pytest.fixture(scope="module")
def actionlint() -> Path:
    return find_programs("actionlint").paths["actionlint"]


def program(name: str) -> str:
    """A program of the Python environment."""
    return str(Path(sys.executable).parent / name)


def run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(part) for part in command], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def read(file: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key "on" as true.
    content = yaml.safe_load(file.read_text())
    return {"on" if key is True else key: value for key, value in content.items()}


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{file.name}:{name}")
        for file in WORKFLOWS
        for name, job in read(file)["jobs"].items()
    ]


def broken(folder: Path, step: str, event: str = "push") -> Path:
    file = folder / ".github" / "workflows" / "broken.yml"
    file.parent.mkdir(parents=True)
    file.write_text(BROKEN.format(event=event, step=step))
    return file


class TestActionlint:
    def test_it_finds_nothing(self, actionlint: Path) -> None:
        """With shellcheck over what stands in the workflows."""
        assert run(actionlint, "-shellcheck", program("shellcheck"), *WORKFLOWS) == (0, "")

    @pytest.mark.parametrize(
        ("step", "sentence"),
        [
            (
                "run: echo ${{ github.event.pull_request.title }}",
                '"github.event.pull_request.title" is potentially untrusted',
            ),
            ("run: echo ${{ steps.none.outputs.x }}", 'property "none" is not defined'),
            ("run: echo $UNQUOTED/*", "shellcheck reported issue"),
        ],
    )
    def test_it_finds_a_mistake(self, actionlint: Path, tmp_path: Path, step: str, sentence: str) -> None:
        """So that its silence above means something."""
        code, said = run(actionlint, "-shellcheck", program("shellcheck"), broken(tmp_path, step))
        assert code == 1
        assert sentence in said


class TestZizmor:
    @staticmethod
    def _zizmor(*arguments: str | Path) -> tuple[int, str]:
        # Without the network: what would be looked up at GitHub is left out.
        return run(program("zizmor"), "--offline", "--no-progress", "--quiet", *arguments)

    def test_it_finds_nothing(self) -> None:
        """In the workflows and in the action they share."""
        code, said = self._zizmor(GITHUB)
        assert code == 0, said
        assert "No findings to report" in said

    @pytest.mark.parametrize(
        ("step", "event", "rule"),
        [
            ("run: echo ${{ github.event.pull_request.title }}", "pull_request", "template-injection"),
            (f"uses: {CHECKOUT} # v6.0.2", "push", "artipacked"),
            (
                "uses: actions/checkout@v6\n        with: {persist-credentials: false}",
                "push",
                "unpinned-uses",
            ),
            ("run: make", "pull_request_target", "dangerous-triggers"),
        ],
    )
    def test_it_finds_a_mistake(self, tmp_path: Path, step: str, event: str, rule: str) -> None:
        """So that its silence above means something."""
        code, said = self._zizmor(broken(tmp_path, step, event))
        assert code != 0
        assert rule in said


class TestShellcheck:
    def test_it_finds_nothing_in_the_scripts(self) -> None:
        """All of them, and the lines that they share."""
        scripts = sorted(SCRIPTS.glob("*.sh"))
        assert len(scripts) > 8
        assert run(program("shellcheck"), "-x", *scripts) == (0, "")

    def test_it_finds_a_mistake(self, tmp_path: Path) -> None:
        """So that its silence above means something."""
        (tmp_path / "x.sh").write_text("#!/bin/bash\nrm -rf $1/*\n")
        assert run(program("shellcheck"), tmp_path / "x.sh")[0] == 1

    def test_every_script_stops_at_the_first_failure(self) -> None:
        """Also in the middle of a pipe, and at a name that is not set."""
        for script in SCRIPTS.glob("*.sh"):
            if script.name != "lib.sh":
                assert "\nset -euo pipefail\n" in script.read_text(), script.name


class TestPermissions:
    @pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: str(file.name))
    def test_a_workflow_gives_none(self, file: Path) -> None:
        """Each job says what it needs."""
        assert read(file)["permissions"] == {}

    @pytest.mark.parametrize("job", jobs())
    def test_a_job_says_its_own_and_when_it_is_stopped(self, job: Job) -> None:
        """GitHub's default is six hours. A call has no limit of its own; the called jobs have."""
        assert job["permissions"]
        assert "uses" in job or 0 < job["timeout-minutes"] <= 90

    @pytest.mark.parametrize("job", jobs())
    def test_none_may_write_to_the_repository_and_reach_a_cluster(self, job: Job) -> None:
        """Code of the program and of its packages runs where the credentials are, and there alone."""
        if "uses" in job:
            return
        writes = {name for name, what in job["permissions"].items() if what == "write"}
        if "id-token" in writes:
            assert writes == {"id-token"}
            assert job["environment"]
        elif writes:
            scripts = re.findall(r"\.github/scripts/(\S+)", yaml.safe_dump(job))
            assert set(scripts) <= {"comment.sh", "propose.sh", "drift-issue.sh"}
            assert "environment" not in job
            assert "prepare" not in yaml.safe_dump(job)

    def test_no_workflow_runs_on_pull_request_target(self) -> None:
        """A fork's code never runs where secrets are."""
        for file in WORKFLOWS:
            assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(read(file)["on"])

    def test_a_fork_gets_no_job_with_credentials(self) -> None:
        """Not even one that would fail for want of them."""
        preview = read(GITHUB / "workflows" / "preview.yml")["jobs"]
        same = "github.event.pull_request.head.repo.full_name == github.repository"
        assert same in preview["preview"]["if"]
        assert same.replace("==", "!=") in preview["fork"]["if"]
        assert "skipped" in preview["comment"]["if"]

    def test_what_may_write_runs_scripts_that_are_merged(self) -> None:
        """On a pull request, the checkout would else be the pull request's own."""
        job = read(GITHUB / "workflows" / "preview.yml")["jobs"]["comment"]
        (checkout,) = [step for step in job["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
        for name in ("ramp.yml", "drift.yml", "deploy.yml"):
            assert "pull_request" not in read(GITHUB / "workflows" / name)["on"]

    def test_a_pull_request_is_judged_by_the_rules_of_main(self) -> None:
        (step,) = [
            step
            for step in read(GITHUB / "workflows" / "preview.yml")["jobs"]["preview"]["steps"]
            if "preview.sh" in step.get("run", "")
        ]
        assert step["run"].endswith(" main")

    def test_nothing_untrusted_is_pasted_into_a_script(self) -> None:
        """Only names of the environment stand in what is run."""
        for file in [*WORKFLOWS, *ACTIONS]:
            assert not re.search(r"run:[^\n]*\$\{\{", file.read_text()), file.name


class TestCodeOwners:
    def test_they_own_all_that_runs_with_credentials_or_decides(self) -> None:
        """Each file that a deployment, a preview or a pipeline depends on."""
        lines = [line.split() for line in (GITHUB / "CODEOWNERS").read_text().splitlines()]
        owned = [words[0].lstrip("/") for words in lines if len(words) == 2 and words[1].startswith("@")]
        needed = (*PROGRAM, ".github", ".ci", "tools", "requirements.txt", "Makefile", ".gitattributes")
        assert {name.removesuffix("/") for name in owned} >= {*needed}


class TestPins:
    def test_every_action_is_pinned_and_its_pin_is_in_the_document(self) -> None:
        """By a full SHA with its version, the same in every workflow."""
        used = {
            line.strip()
            for file in [*WORKFLOWS, *ACTIONS]
            for line in re.findall(r"uses: ([^.\n].*)", file.read_text())
        }
        assert len({line.partition("@")[0] for line in used}) == len(used)
        for line in used:
            name, sha, version = re.fullmatch(r"(\S+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line).groups()  # type: ignore[union-attr]
            assert f"| `{name}` | {version} | `{sha}` |" in DOC

    def test_pulumi_is_the_version_that_is_tested(self) -> None:
        """Pinned at one more place than elsewhere, so it is compared."""
        pinned = pinned_version("github.com/pulumi/pulumi/pkg/v3", "engine").removeprefix("v")
        assert f"pulumi-version: {pinned}\n" in ACTIONS[0].read_text()

    def test_go_is_the_one_that_builds_the_programs(self) -> None:
        """The oldest that does."""
        setup = next(
            step
            for step in read(GITHUB / "workflows" / "ci.yml")["jobs"]["test"]["steps"]
            if "setup-go" in step.get("uses", "")
        )
        assert setup["with"]["go-version"] == "1.26"


def test_a_stack_without_an_hourly_rebalance_has_no_job_in_the_group_of_its_deployment() -> None:
    """GitHub keeps one waiting job of a group: each hour, another one would take a deployment's place."""
    job = read(GITHUB / "workflows" / "rebalance.yml")["jobs"]["rebalance"]
    (stacks,) = re.findall(r"fromJSON\((vars\.\w+)\)", job["strategy"]["matrix"]["stack"])
    assert stacks != "vars.ARCHSHIFT_STACKS"
    # GitHub reads the condition of a job without the variables of its environment.
    assert f"{stacks} != ''" in job["if"]
    assert not any("if" in step for step in job["steps"])


def test_a_deployment_starts_for_what_the_script_compares() -> None:
    """Else a change would wait for a deployment that never starts."""
    paths = read(GITHUB / "workflows" / "deploy.yml")["on"]["push"]["paths"]
    assert [path.removesuffix("/**") for path in paths] == [*PROGRAM]


class TestGitLab:
    def test_the_pipeline_of_the_document_is_one(self) -> None:
        """It parses, its jobs are in its stages, and the scripts it calls are there."""
        (text,) = re.findall(r"```yaml\n(stages:.*?)```", DOC, re.DOTALL)
        pipeline = yaml.safe_load(text)
        jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "stage" in job}
        assert {job["stage"] for job in jobs.values()} == set(pipeline["stages"])
        assert len(jobs) >= 5
        called = set(re.findall(r"\.github/scripts/([\w-]+\.sh)", text))
        assert {"preview.sh", "deploy.sh", "gate.sh", "ramp.sh", "drift.sh"} <= called
        for name in called:
            assert (SCRIPTS / name).exists(), name

    def test_its_shell_is_sound(self, tmp_path: Path) -> None:
        """As far as shellcheck sees."""
        (text,) = re.findall(r"```yaml\n(stages:.*?)```", DOC, re.DOTALL)
        for name, job in yaml.safe_load(text).items():
            lines = [
                line
                for key in ("before_script", "script")
                if isinstance(job, dict)
                for line in job.get(key, [])
            ]
            (tmp_path / "x.sh").write_text("#!/bin/bash\n" + "\n".join(lines) + "\n")
            code, said = run(
                program("shellcheck"), "--severity=warning", "--exclude=SC2154", tmp_path / "x.sh"
            )
            assert code == 0, f"{name}: {said}"
