"""What people read of the settings is what the settings declare."""

from typing import Final

import yaml
from msgspec import structs

from archshift.settings.keys import StackModel
from tools.settings_reference import PROJECT_FILE, README, REFERENCE, project_file, readme, reference

AGAIN: Final = "run python -m tools.settings_reference"


def test_the_project_file_declares_the_keys_as_the_models_do() -> None:
    """The engine's own help shows the descriptions; what stands above the keys stays."""
    text = PROJECT_FILE.read_text()
    assert project_file(text) == text, AGAIN
    declared = yaml.safe_load(text)["config"]
    assert list(declared) == [field.encode_name for field in structs.fields(StackModel)]
    assert {key: entry["type"] for key, entry in declared.items() if entry["type"] != "object"} == {
        "arm_ratio": "string",
        "cluster_uid": "string",
        "kube_context": "string",
        "placement": "string",
        "platform": "string",
        "provisioner": "string",
        "graviton_families": "array",
    }


def test_the_readme_has_a_row_for_each_key() -> None:
    """Whatever stands around the table stays."""
    text = README.read_text()
    assert readme(text) == text, AGAIN
    assert readme(text.replace("| `kube_context`", "| `context`")) == text


def test_the_reference_has_every_key() -> None:
    """With its values, default and an example."""
    text = REFERENCE.read_text()
    assert reference() == text, AGAIN
    assert all(len(line) <= 120 for line in text.splitlines())
    words = " ".join(text.split())
    assert words.count(" Example: `") == words.count(" Value: ") == text.count("\n- `") > 100
