"""What archshift checks in the files of a stack before the engine reads them."""

from pathlib import Path

import pytest

from archshift.settings.stack_keys import (
    backend_in_project,
    check_in_repository,
    check_keys,
    check_readable,
    read_files,
)
from tests.build import refusal
from tools.bootstrap import PROJECT as ROOT

PROJECT = "name: archshift\nruntime: python\n"


def keys(folder: Path, stack: str = "prod", file: Path | None = None) -> None:
    check_keys(read_files(folder, stack, file))


def in_repository(folder: Path) -> None:
    check_in_repository(folder, read_files(folder, "prod"))


def readable(folder: Path, values: dict[str, str]) -> None:
    check_readable(folder, "prod", values, read_files(folder, "prod"))


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
    assert refusal(keys, tmp_path) == (
        f"Pulumi.prod.yaml has the key {key} in 2 spellings; pulumi takes any of them; keep one"
    )
    keys(tmp_path, "staging")


def test_the_projects_own_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.json").write_text(
        '{"name": "archshift", "config": {"gate": {}, "archshift:gate": {}}}'
    )
    assert "Pulumi.json has the key gate in 2 spellings" in refusal(keys, tmp_path)


def test_one_spelling_and_other_projects_are_fine(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        "config:\n  archshift:config:gate: {}\n  aws:region: x\n  region: y\n  aws:config:profile: z\n"
    )
    keys(tmp_path, "prod")
    keys(tmp_path / "none", "prod", file)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("archshift:arm_ratio: .nan", "archshift:arm_ratio: nan"),
        ("aws:limit: -.inf", "aws:limit: -inf"),
        ("archshift:node_groups: {x86: {min_size: .inf}}", "archshift:node_groups.x86.min_size: inf"),
        ("archshift:workloads: {exclude: [1, 1.0e+999]}", "archshift:workloads.exclude.1: inf"),
    ],
)
def test_a_number_that_json_lacks_is_named_with_its_key(tmp_path: Path, config: str, said: str) -> None:
    """The engine refuses it, too, but does not say which key has it."""
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "Pulumi.prod.yaml").write_text(f"config:\n  {config}\n")
    assert refusal(keys, tmp_path) == f"Pulumi.prod.yaml: {said} is not a finite number; write a number"


def test_aliases_end_the_search_for_numbers(tmp_path: Path) -> None:
    """One that contains itself, and forty that double each."""
    doubled = "".join(f"    - &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    (tmp_path / "Pulumi.prod.yaml").write_text(
        f"config:\n  a:x: &x [*x, .5]\n  a:y:\n    - &a0 [1.5]\n{doubled}"
    )
    keys(tmp_path)


@pytest.mark.parametrize("text", ["config: [", "\x00", "[" * 10000])
def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """What archshift cannot read, the engine may read."""
    (tmp_path / "Pulumi.prod.yaml").write_text(text)
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    assert "Pulumi.prod.yaml cannot be read as YAML" in refusal(keys, tmp_path)


def test_only_files_beside_the_projects_own_decide(tmp_path: Path) -> None:
    """A link leads elsewhere in another checkout; nobody watches another folder."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "Pulumi.yaml").write_text(PROJECT)
    in_repository(here)
    stack_file = here / "Pulumi.prod.yaml"
    stack_file.write_text("config: {}")
    in_repository(here)
    stack_file.rename(tmp_path / "elsewhere.yaml")
    stack_file.symlink_to(tmp_path / "elsewhere.yaml")
    assert refusal(in_repository, here) == (
        "Pulumi.prod.yaml is a symbolic link, so its commit does not say what is in it; replace the link by "
        "the file"
    )
    stack_file.unlink()
    (here / "Pulumi.yaml").rename(tmp_path / "Pulumi.yaml")
    (here / "Pulumi.yaml").symlink_to(tmp_path / "Pulumi.yaml")
    assert "Pulumi.yaml is a symbolic link" in refusal(in_repository, here)
    (here / "Pulumi.yaml").unlink()
    assert "Pulumi.yaml is not in the folder that is deployed" in refusal(in_repository, here)


@pytest.mark.parametrize("key", ["stackConfigDir", "config"])
def test_a_stacks_file_in_another_folder_decides_nothing(tmp_path: Path, key: str) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}{key}: stacks\n")
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.prod.yaml").write_text("config: {}")
    assert refusal(in_repository, tmp_path) == (
        "Pulumi.prod.yaml is not in the folder that is deployed, so neither code owners nor deploy.yml watch "
        "it; move it there, beside Pulumi.yaml"
    )


def test_a_key_that_the_project_only_declares_comes_from_an_environment(tmp_path: Path) -> None:
    """archshift's own Pulumi.yaml declares every key, most of them with a default."""
    (tmp_path / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {archshift:arm_ratio: 0.5}")
    defaults = {"archshift:placement": "patches", "archshift:gate": "{}", "archshift:graviton_families": "[]"}
    values = {"archshift:arm_ratio": "0.5", "aws:region": "eu-west-1", **defaults}
    readable(tmp_path, values)
    for elsewhere in (
        {"archshift:placement": "admission"},
        {"archshift:gate": '{"prometheus": "http://p.example"}'},
        {"archshift:graviton_families": '["c7g"]'},
        {"archshift:gate": "[invalid"},
        {"archshift:gate": "[" * 100_000},
    ):
        (key,) = elsewhere
        assert refusal(readable, tmp_path, values | elsewhere) == (
            f"{key} is in no file of the commit, but in a Pulumi ESC environment, which has no commit; "
            "write it into Pulumi.prod.yaml"
        )
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {aws:region: eu-west-1}")
    assert "archshift:arm_ratio is in no file" in refusal(readable, tmp_path, values)


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
    readable(tmp_path, {"archshift:gate": value})
    assert "archshift:gate is in no file" in refusal(readable, tmp_path, {"archshift:gate": "4"})


def test_another_program_beside_the_projects_own_file_is_not_watched(tmp_path: Path) -> None:
    for name in ("__main__.py", "other.py"):
        (tmp_path / name).touch()
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}main: __main__.py\n")
    readable(tmp_path, {})
    (tmp_path / "Pulumi.yaml").write_text(f"{PROJECT}main: other.py\n")
    assert refusal(readable, tmp_path, {}) == (
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
