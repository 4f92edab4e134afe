"""The pack under the real engine: over stored states, in previews, configured, copied and published."""

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.policies.cloud import ORGANISATION, Cloud
from tests.policies.engine import PACK, STATES, Engine, Run

GUARDS = {
    "arm-ratio-step",
    "daemonset-runs-on-every-architecture",
    "node-group-architecture",
    "workload-patch-safety",
    "x86-capacity-for-amd64-images",
    "x86-node-group-protected",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine and one stack, which every test fills anew."""
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def unsound(engine: Engine) -> Run:
    """The pack over a stack that violates every rule."""
    return engine.analyze("unsound.json")


def test_a_sound_stack_passes(engine: Engine) -> None:
    """A workload that needs x86, enough of it under protection, proven DaemonSets, one step, named patches
    (one forced, with its reason): nothing is reported and the exit code is 0.
    """
    run = engine.analyze("sound.json")
    assert run.reported == []
    assert run.exit_code == 0, run.output


def test_every_guarding_rule_stops_an_unsound_stack(unsound: Run) -> None:
    """Each reports as mandatory, and a pipeline sees an exit code that is not 0."""
    assert {one.rule for one in unsound.reported if one.level == "mandatory"} == GUARDS
    assert {one.level for one in unsound.reported} == {"mandatory"}
    assert unsound.exit_code == 1
    assert "one or more mandatory policy violations were found" in unsound.output


@pytest.mark.parametrize(
    ("rule", "resource", "words"),
    [
        ("x86-capacity-for-amd64-images", "node-groups", "they ask for 42.0 vCPU, 11.0 GiB and 44 pods"),
        ("x86-capacity-for-amd64-images", "node-groups", "there is room for 3.9 vCPU, 14.8 GiB and 58 pods"),
        (
            "x86-capacity-for-amd64-images",
            "node-groups",
            "shop/StatefulSet/db (registry.example/db:12 is amd64-only",
        ),
        ("x86-node-group-protected", "x86-0", "Set protect on more of x86-0;"),
        ("node-group-architecture", "x86-1", "label architecture (amd64); instance type m7g.xlarge (arm64)"),
        (
            "daemonset-runs-on-every-architecture",
            "graviton-0",
            "infra/DaemonSet/agent (registry.example/agent:1 is",
        ),
        ("arm-ratio-step", "workloads", "1 of 6 pods are on Graviton, step 0.2. Set it to 0.5."),
        ("workload-patch-safety", "shop/Deployment/web", "has no field manager"),
        ("workload-patch-safety", "shop/Deployment/legacy", "patches spec.replicas"),
        ("workload-patch-safety", "shop/Deployment/legacy", "by force and does not say why"),
    ],
)
def test_a_violation_names_who_is_concerned(unsound: Run, rule: str, resource: str, words: str) -> None:
    """The engine shows it at the resource, with what the rule demands first."""
    assert any(one.resource == resource and words in one.message for one in unsound.of(rule)), unsound.output


def test_eks_groups_and_node_pools_are_read_as_the_engine_stores_them(engine: Engine) -> None:
    """In a state with EKS node groups, a launch template that one takes its type from, and a NodePool: the
    template's x86 type is found through the stored dependency, and the sound groups pass.
    """
    run = engine.analyze("eks.json")
    (found,) = run.of("node-group-architecture")
    assert found.resource == "graviton"
    assert (
        "the launch template's instance type m6i.xlarge (amd64); label architecture (arm64)" in found.message
    )
    # It lacks protect; the x86 group that has it carries what needs x86.
    assert run.of("x86-node-group-protected") == []
    assert run.of("x86-capacity-for-amd64-images") == []


def test_what_is_excused_passes_and_is_loud(engine: Engine) -> None:
    """x86 is gone and the ratio jumps, under a break-glass and a policy exception in effect: exit code 0,
    and an advisory for each.
    """
    run = engine.analyze("excused.json")
    assert run.exit_code == 0, run.output
    assert {(one.rule, one.level) for one in run.reported} == {
        ("break-glass-in-use", "advisory"),
        ("policy-exception-in-use", "advisory"),
    }
    assert "ticket INC-7: the shop is down" in run.of("break-glass-in-use")[0].message


def test_levels_and_settings_come_from_the_packs_configuration(engine: Engine) -> None:
    """Levels can be lowered for all and raised for one; a rule's own setting takes effect."""
    config = {
        "all": "advisory",
        "node-group-architecture": "mandatory",
        "workload-patch-safety": "disabled",
        "arm-ratio-step": {"enforcementLevel": "advisory", "steps": [0.0, 1.0]},
    }
    run = engine.analyze("unsound.json", config=config)
    assert run.exit_code == 1
    levels = {one.rule: one.level for one in run.reported}
    assert levels.pop("node-group-architecture") == "mandatory"
    assert set(levels) == GUARDS - {"node-group-architecture", "workload-patch-safety", "arm-ratio-step"}
    assert set(levels.values()) == {"advisory"}


def test_a_setting_of_the_wrong_type_is_refused(engine: Engine) -> None:
    """The engine checks the configuration against the rule's schema before anything runs."""
    run = engine.analyze("sound.json", config={"x86-capacity-for-amd64-images": {"maxAgeDays": "a week"}})
    assert run.exit_code != 0
    assert (
        "x86-capacity-for-amd64-images: maxAgeDays: Invalid type. Expected: number, given: string"
        in run.output
    )


def test_a_preview_is_stopped_like_a_stored_state(engine: Engine) -> None:
    """The same stack, registered by a program: the preview fails with every rule."""
    run = engine.preview("unsound.json")
    assert run.exit_code != 0
    assert {one.rule for one in run.reported if one.level == "mandatory"} == GUARDS


def test_what_a_preview_does_not_know_stops_it(engine: Engine) -> None:
    """Evidence that is not known in the preview fails it as a mandatory violation at the evidence; the engine
    alone would have made an advisory of it and let it pass. Known, the same stack passes.
    """
    run = engine.preview("sound.json", unknown="images:workloads")
    assert run.exit_code != 0
    (found,) = run.of("x86-capacity-for-amd64-images")
    assert (found.level, found.resource) == ("mandatory", "images")
    assert "unknown-is-no: workloads of images is not known in this preview" in found.message
    known = engine.preview("sound.json")
    assert known.reported == []
    assert known.exit_code == 0, known.output


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Path]:
    """A folder with no project above it."""
    yield tmp_path / "alone"
    shutil.rmtree(tmp_path / "alone", ignore_errors=True)


def same(one: Run, other: Run) -> bool:
    """Say whether two runs reported the same; times differ."""
    return {(found.rule, found.level, found.resource) for found in one.reported} == {
        (found.rule, found.level, found.resource) for found in other.reported
    }


def test_a_copy_of_the_folder_alone_works(engine: Engine, unsound: Run, alone: Path) -> None:
    """`pulumi install` in the copy makes it an environment of its own from its requirements.txt."""
    shutil.copytree(PACK, alone, ignore=shutil.ignore_patterns("__pycache__"))
    engine.succeed("install", cwd=alone)
    assert (alone / ".venv").is_dir()
    assert same(engine.analyze("unsound.json", pack=alone), unsound)


def test_the_published_pack_works(engine: Engine, unsound: Run, alone: Path) -> None:
    """`pulumi policy publish` says every rule with its level and settings, and the archive that it uploads,
    installed as the engine installs a required pack, judges like the folder in the repository.
    """
    with Cloud() as cloud:
        engine.succeed(
            "policy",
            "publish",
            ORGANISATION,
            cwd=PACK,
            PULUMI_BACKEND_URL=cloud.url,
            PULUMI_ACCESS_TOKEN="none",
            PULUMI_HOME=str(alone / "home"),
        )
    assert cloud.published
    assert (cloud.pack["name"], cloud.pack["versionTag"]) == ("archshift", "0.1.0")
    rules = {policy["name"]: policy for policy in cloud.pack["policies"]}
    assert {name for name, policy in rules.items() if policy["enforcementLevel"] == "mandatory"} == GUARDS
    assert rules["arm-ratio-step"]["configSchema"]["properties"]["steps"]["default"] == [0, 0.2, 0.5, 0.8, 1]

    with tarfile.open(fileobj=io.BytesIO(cloud.archive)) as archive:
        archive.extractall(alone, filter="data")
    pack = alone / "package"
    assert {path.name for path in pack.iterdir()} == {
        ".gitignore",
        "PulumiPolicy.yaml",
        "__main__.py",
        "archshift_rules",
        "instance_types.json",
        "requirements.txt",
    }
    # What the engine sets in a required Python pack before it installs it (backend/httpstate/policypack.go).
    project = yaml.safe_load((pack / "PulumiPolicy.yaml").read_text())
    project["runtime"]["options"]["virtualenv"] = "venv"
    (pack / "PulumiPolicy.yaml").write_text(yaml.safe_dump(project))
    engine.succeed("install", cwd=pack)
    assert same(engine.analyze("unsound.json", pack=pack), unsound)


def test_every_state_is_used() -> None:
    """A state that no test judges would rot."""
    text = Path(__file__).read_text() + (Path(__file__).parent / "engine.py").read_text()
    assert [path.name for path in STATES.glob("*.json") if path.name not in text] == []
