"""Keys that a configuration has twice: the engine would take any of the values."""

from pathlib import Path

import pytest

from archshift.settings.stack_keys import (
    backend_in_project,
    check_in_repository,
    check_readable,
    check_spelled_once,
)
from tests.build import refusal
from tools.bootstrap import PROJECT as ROOT

PROJECT = "name: archshift\nruntime: python\n"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ("archshift:arm_ratio: 0.5\n  archshift:config:arm_ratio: 1.0", "arm_ratio"),
        ("gate: {}\n  archshift:gate: {}", "gate"),
        ("gate: {}\n  archshift:config:gate: {}", "gate"),
        ('archshift:gate: {}\n  "archshift:config:\\u0067ate": {}', "gate"),
        ("<<: {archshift:gate: {}}\n  gate: {}", "gate"),
    ],
)
@pytest.mark.parametrize("place", ["", "stacks"])
def test_two_spellings_are_refused(tmp_path: Path, config: str, key: str, place: str) -> None:
    """In the stack's file, wherever the project keeps it."""
    (tmp_path / "Pulumi.yaml").write_text(PROJECT + (f"stackConfigDir: {place}\n" if place else ""))
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "Pulumi.prod.yaml").write_text(f"config:\n  {config}\n")
    assert refusal(check_spelled_once, tmp_path, "prod") == (
        f"Pulumi.prod.yaml has the key {key} in 2 spellings; pulumi takes any of them; keep one"
    )
    check_spelled_once(tmp_path, "staging")


def test_the_projects_own_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.json").write_text(
        '{"name": "archshift", "config": {"gate": {}, "archshift:gate": {}}}'
    )
    assert "Pulumi.json has the key gate in 2 spellings" in refusal(check_spelled_once, tmp_path, "prod")


def test_one_spelling_and_other_projects_are_fine(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        "config:\n  archshift:config:gate: {}\n  aws:region: x\n  region: y\n  aws:config:profile: z\n"
    )
    check_spelled_once(tmp_path, "prod")
    check_spelled_once(tmp_path / "none", "prod", file)


@pytest.mark.parametrize("text", ["config: [", "\x00", "[" * 10000])
def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """What archshift cannot read, the engine may read."""
    (tmp_path / "Pulumi.prod.yaml").write_text(text)
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    assert "Pulumi.prod.yaml cannot be read as YAML" in refusal(check_spelled_once, tmp_path, "prod")


def test_only_files_beside_the_projects_own_decide(tmp_path: Path) -> None:
    """A link leads elsewhere in another checkout; nobody watches another folder."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "Pulumi.yaml").write_text(PROJECT)
    check_in_repository(here, "prod")
    stack_file = here / "Pulumi.prod.yaml"
    stack_file.write_text("config: {}")
    check_in_repository(here, "prod")
    stack_file.rename(tmp_path / "elsewhere.yaml")
    stack_file.symlink_to(tmp_path / "elsewhere.yaml")
    assert refusal(check_in_repository, here, "prod") == (
        "Pulumi.prod.yaml is a symbolic link, so its commit does not say what is in it; replace the link by "
        "the file"
    )
    stack_file.unlink()
    (here / "Pulumi.yaml").rename(tmp_path / "Pulumi.yaml")
    (here / "Pulumi.yaml").symlink_to(tmp_path / "Pulumi.yaml")
    assert "Pulumi.yaml is a symbolic link" in refusal(check_in_repository, here, "prod")
    (here / "Pulumi.yaml").unlink()
    assert "Pulumi.yaml is not in the folder that is deployed" in refusal(check_in_repository, here, "prod")


@pytest.mark.parametrize("key", ["stackConfigDir", "config"])
def test_a_stacks_file_in_another_folder_decides_nothing(tmp_path: Path, key: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}{key}: stacks\n")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text("config: {}")
    assert refusal(check_in_repository, tmp_path, "prod") == (
        "Pulumi.prod.yaml is not in the folder that is deployed, so neither code owners nor deploy.yml watch "
        "it; move it there, beside Pulumi.yaml"
    )


def test_a_key_that_the_project_only_declares_comes_from_an_environment(tmp_path: Path) -> None:
    """archshift's own Pulumi.yaml declares every key, most of them with a default."""
    (tmp_path / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {archshift:arm_ratio: 0.5}")
    defaults = {"archshift:placement": "patches", "archshift:gate": "{}", "archshift:graviton_families": "[]"}
    values = {"archshift:arm_ratio": "0.5", "aws:region": "eu-west-1", **defaults}
    check_readable(tmp_path, "prod", values)
    for elsewhere in (
        {"archshift:placement": "admission"},
        {"archshift:gate": '{"prometheus": "http://p.example"}'},
        {"archshift:graviton_families": '["c7g"]'},
        {"archshift:gate": "[invalid"},
        {"archshift:gate": "[" * 100_000},
    ):
        (key,) = elsewhere
        assert refusal(check_readable, tmp_path, "prod", values | elsewhere) == (
            f"{key} is in no file of the commit, but in a Pulumi ESC environment, which has no commit; "
            "write it into Pulumi.prod.yaml"
        )
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {aws:region: eu-west-1}")
    assert "archshift:arm_ratio is in no file" in refusal(check_readable, tmp_path, "prod", values)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (
            "gate: {type: object, default: {prometheus: 'http://p', soak: 3}}",
            '{"soak":3,"prometheus":"http://p"}',
        ),
        ("archshift:gate: {value: {prometheus: 'http://p'}}", '{"prometheus": "http://p"}'),
        ("gate: {type: integer, default: 3}", "3"),
        ("gate: {type: boolean, default: true}", "true"),
        ("gate: three", "three"),
    ],
)
def test_a_value_in_the_projects_own_file_is_in_the_commit(tmp_path: Path, declared: str, value: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}config:\n  {declared}\n")
    check_readable(tmp_path, "prod", {"archshift:gate": value})
    assert "archshift:gate is in no file" in refusal(
        check_readable, tmp_path, "prod", {"archshift:gate": "4"}
    )


def test_another_program_beside_the_projects_own_file_is_not_watched(tmp_path: Path) -> None:
    for name in ("__main__.py", "other.py"):
        (tmp_path / name).touch()
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}main: __main__.py\n")
    check_readable(tmp_path, "prod", {})
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}main: other.py\n")
    assert refusal(check_readable, tmp_path, "prod", {}) == (
        "Pulumi.yaml has main: other.py, and deploy.yml does not watch that file; move the program to "
        "__main__.py"
    )


def test_where_the_project_keeps_its_state(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.yaml"
    assert backend_in_project(tmp_path) == ""
    file.write_text(PROJECT)
    assert backend_in_project(tmp_path) == ""
    file.write_text(f"{PROJECT}backend: {{url: 'file://./state'}}\n")
    assert backend_in_project(tmp_path) == "file://./state"
    file.write_text(f"{PROJECT}backend: x\n")
    assert backend_in_project(tmp_path) == ""
