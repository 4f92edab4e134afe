"""Where the check of a deployment reads the configuration and the state. git is real; the engine is not."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from archshift.cli.commands import gate
from archshift.cli.main import main
from archshift.common.errors import ArchshiftError

_GATE = {"prometheus": "http://p.example"}

# Reads the configuration from the stack's file as the engine would: through links, and with the keys of an
# environment ($ESC).
_PULUMI = f"""#!{sys.executable}
import json, os, sys, yaml
if "config" in sys.argv:
    file = yaml.safe_load(open(os.path.join(sys.argv[3], "Pulumi.prod.yaml")))
    config = json.loads(os.environ.get("ESC", "{{}}")) | file["config"]
    text = lambda value: value if isinstance(value, str) else json.dumps(value)
    print(json.dumps({{key: {{"value": text(value)}} for key, value in config.items()}}))
else:
    print(open(os.environ["STATE"]).read())
"""


def _git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _commit(folder: Path, ratio: str, *, more: Mapping[str, Any] | None = None, **config: Any) -> str:
    """Commits the stack's file; ``config`` are archshift's keys, and ``more`` are keys beside them."""
    keys = {f"archshift:{key}": value for key, value in {"gate": _GATE, "arm_ratio": ratio, **config}.items()}
    file = {"config": {key: value for key, value in keys.items() if value is not None}, **(more or {})}
    (folder / "Pulumi.prod.yaml").write_text(json.dumps(file))
    _git(folder, "add", "-A")
    _git(folder, "commit", "--allow-empty", "-qm", ratio)
    return _git(folder, "rev-parse", "HEAD")


def _state(folder: Path, last: tuple[float, str] | None, *tried: object, gated: bool = True) -> None:
    """Writes the state: what ended well, and what the last update tried."""
    resources = [{"type": "archshift:index:Gate", "outputs": {"required": gated}}]
    if tried:
        outputs = dict(zip(("ratio", "commit"), tried, strict=False))
        resources.append({"type": "archshift:index:WorkloadPatches", "outputs": outputs})
    if last:
        outputs = dict(zip(("arm_ratio", "commit"), last, strict=True))
        resources.append({"type": "pulumi:pulumi:Stack", "outputs": outputs})
    state = {"deployment": {"resources": resources}}
    (folder.parent / "state").write_text(json.dumps(state))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack that is deployed at 0.5. The gate of its commit passes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pulumi").write_text(_PULUMI)
    (programs / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://state")
    monkeypatch.setattr(gate, "ask", lambda _: pytest.fail("the gate was asked"))
    folder = tmp_path / "repository"
    folder.mkdir()
    _git(folder, "init", "-q")
    (folder / "Pulumi.yaml").write_text("name: archshift\nruntime: python\n")
    at = _commit(folder, "0.5")
    _state(folder, (0.5, at))
    return folder


def _check(folder: Path, results: Path) -> int:
    head = _git(folder, "rev-parse", "HEAD")
    results.mkdir(exist_ok=True)
    (results / "commit").write_text(head)
    (results / "exit").write_text("0")
    arguments = ["--stack", "prod", "--main", head, "--folder", str(results), "--cwd", str(folder)]
    return main(["deployment", "check", *arguments])


def test_a_linked_stack_file_never_takes_a_step_up_but_always_one_down(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link leads to the same file in each checkout, so the old gate would be the new one."""
    (repository / "Pulumi.prod.yaml").rename(repository / "settings.json")
    (repository / "Pulumi.prod.yaml").symlink_to(repository / "settings.json")
    for ratio in ("0.8", "0.5", "0.4"):
        at = _commit(repository, ratio)
        assert _check(repository, tmp_path / "results") == 1
        assert "Pulumi.prod.yaml is a symbolic link, so its commit does not say what is in it" in (
            capsys.readouterr().err
        )
    # An earlier version deployed the link.
    _state(repository, (0.4, at))
    _commit(repository, "0.2")
    assert _check(repository, tmp_path / "results") == 0
    assert "prod goes from 0.4 to 0.2." in capsys.readouterr().out


def test_the_link_of_the_deployed_commit_counts_too(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would read the settings of the new checkout."""
    file = repository / "Pulumi.prod.yaml"
    file.unlink()
    config = {"archshift:arm_ratio": "0.5", "archshift:gate": _GATE}
    (tmp_path / "settings.json").write_text(json.dumps({"config": config}))
    file.symlink_to(tmp_path / "settings.json")
    _git(repository, "add", "-A")
    _git(repository, "commit", "-qm", "link")
    _state(repository, (0.5, _git(repository, "rev-parse", "HEAD")))
    file.unlink()
    _commit(repository, "0.8")
    assert _check(repository, tmp_path / "results") == 1
    assert "Pulumi.prod.yaml is a symbolic link" in capsys.readouterr().err


def test_a_commit_does_not_choose_the_state_that_says_what_is_deployed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state in the repository could say that nothing is deployed, and no gate would be asked."""
    (repository / "Pulumi.yaml").write_text(
        "name: archshift\nruntime: python\nbackend: {url: 'file://./state'}\n"
    )
    _commit(repository, "1.0")
    (tmp_path / "state").write_text('{"outputs": {}}')
    monkeypatch.setenv("PULUMI_BACKEND_URL", "")
    assert _check(repository, tmp_path / "results") == 1
    assert "its Pulumi.yaml names the state itself (file://./state); set PULUMI_BACKEND_URL" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://state")
    assert _check(repository, tmp_path / "results") == 0


@pytest.mark.parametrize(
    ("project", "more", "words"),
    [
        ("main: docs\n", {}, "Pulumi.yaml has main: docs, and neither code owners nor deploy.yml watch that"),
        ("main: ../elsewhere\n", {}, "Pulumi.yaml has main: ../elsewhere, and neither code owners"),
        ("runtime: {name: python, options: {virtualenv: docs/venv}}\n", {}, "Pulumi.yaml: runtime"),
        ("plugins: {providers: [{name: kubernetes, path: docs}]}\n", {}, "Pulumi.yaml: plugins"),
        ("", {"environment": ["prod"]}, "Pulumi.prod.yaml: environment"),
    ],
)
def test_what_chooses_the_program_changes_only_with_the_gate(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    project: str,
    more: dict[str, Any],
    words: str,
) -> None:
    """Another program could move any pod, whatever the configuration says."""

    def no_answer(_: object) -> None:
        raise ArchshiftError("no answer")

    monkeypatch.setattr(gate, "ask", no_answer)
    (repository / "docs").mkdir()
    file = repository / "Pulumi.yaml"
    runtime = "" if "runtime" in project else "runtime: python\n"
    file.write_text(f"name: archshift\n{runtime}{project}")
    for ratio in ("0.5", "0.4", "0.0"):
        _commit(repository, ratio, more=more)
        assert _check(repository, tmp_path / "results") == 1
        assert words in capsys.readouterr().err


def test_at_zero_every_key_of_archshift_may_change(repository: Path, tmp_path: Path) -> None:
    """The way back, also after an update by hand."""
    _commit(repository, "0.0", placement="admission", workloads={"namespaces": ["shop"]})
    assert _check(repository, tmp_path / "results") == 0
    _state(repository, (0.0, ""))
    assert _check(repository, tmp_path / "results") == 0


def test_words_about_the_project_are_no_change(repository: Path, tmp_path: Path) -> None:
    file = repository / "Pulumi.yaml"
    file.write_text("name: archshift\nruntime: python\ndescription: ours\nmain: .\n")
    at = _commit(repository, "0.5")
    _state(repository, (0.5, at))
    file.write_text("name: archshift\nruntime: python\ndescription: yours\nmain: .\n")
    _commit(repository, "0.5")
    assert _check(repository, tmp_path / "results") == 0


@pytest.mark.parametrize("ratio", ["0.5", "0.8"])
def test_a_key_in_an_environment_of_pulumi_is_in_no_commit(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ratio: str,
) -> None:
    """Old and new configuration would both have the key as it is today."""
    monkeypatch.setenv("ESC", json.dumps({"archshift:gate": _GATE, "aws:region": "eu-west-1"}))
    at = _commit(repository, "0.5", gate=None)
    _state(repository, (0.5, at))
    _commit(repository, ratio, gate=None, placement="patches")
    assert _check(repository, tmp_path / "results") == 1
    assert (
        "archshift:gate is in no file of the commit, but in a Pulumi ESC environment, which has no commit; "
        "write it into Pulumi.prod.yaml" in capsys.readouterr().err
    )
    _commit(repository, "0.4", gate=None)
    assert _check(repository, tmp_path / "results") == 0


def test_without_a_gate_an_update_by_hand_only_stops_a_step(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing compares Graviton with x86, so the pipeline may record what it deploys."""
    _state(repository, (0.5, ""), 0.5, "", gated=False)
    _commit(repository, "0.5", gate=None)
    assert _check(repository, tmp_path / "results") == 0
    assert "prod has no archshift:gate, so nothing compares Graviton with x86" in capsys.readouterr().out
    _commit(repository, "0.8", gate=None)
    assert _check(repository, tmp_path / "results") == 1
    assert "nobody recorded from which commit arm_ratio 0.5 was deployed" in capsys.readouterr().err


@pytest.mark.parametrize("gated", [True, False])
def test_an_update_by_hand_of_a_gated_stack_stops_every_change(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gated: bool
) -> None:
    """What was held is not known. The change may remove the gate, but the state still has it."""
    _state(repository, (0.5, ""), gated=True)
    _commit(repository, "0.5", gate=_GATE if gated else None)
    assert _check(repository, tmp_path / "results") == 1
    assert "nobody recorded from which commit arm_ratio 0.5 was deployed; check that commit out and run" in (
        capsys.readouterr().err
    )
    _commit(repository, "0.4")
    assert _check(repository, tmp_path / "results") == 0


def test_the_names_of_the_cluster_are_read_from_an_invalid_configuration_too(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the preview, which says what is invalid, would not begin."""
    _commit(repository, "seven", kube_context="prod")
    arguments = ["deployment", "cluster", "--stack", "prod", "--cwd", str(repository)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKS_CLUSTER", "shop")
        assert main(arguments) == 0
    assert capsys.readouterr().out == "shop\nprod\n"
