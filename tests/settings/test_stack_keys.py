"""Keys that a configuration has twice: the engine would take any of the values."""

from pathlib import Path

import pytest

from archshift.settings.stack_keys import check_spelled_once
from tests.build import refusal

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
