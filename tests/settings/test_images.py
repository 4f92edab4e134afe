"""The settings of images: every key of ``archshift:images``, and every sentence about a wrong value."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.common.errors import ArchshiftError
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.settings import stack as stack_settings
from tests.settings.test_stack import ROOT, load, refused


def test_without_the_key_images_are_checked_and_nothing_is_assumed() -> None:
    """The safe side by default: registries are read over TLS, unproven DaemonSets stop a step."""
    assert load().images == ImageRules()
    assert ImageRules() == ImageRules(
        check=True, deep=False, max_age_days=7.0, daemonsets="stop", registries={}
    )


def test_every_image_setting_gets_its_shape() -> None:
    """A complete configuration, key by key."""
    found = load(
        images={
            "check": False,
            "deep": True,
            "max_age_days": 1,
            "daemonsets": "pin",
            "registries": {
                "registry.lab:5000": {"plain_http": True},
                "docker.io": {
                    "ca_file": "/etc/ssl/mirror.pem",
                    "mirrors": ["mirror.example:5000/hub", "second.example"],
                    "token_hosts": ["auth.example"],
                },
                "ghcr.io": {},
            },
        }
    ).images
    assert (found.check, found.deep, found.daemonsets) == (False, True, "pin")
    assert found.max_age_days == 1.0
    assert isinstance(found.max_age_days, float)
    assert found.registries == {
        "registry.lab:5000": RegistryHost(plain_http=True),
        "docker.io": RegistryHost(
            ca_file="/etc/ssl/mirror.pem",
            mirrors=("mirror.example:5000/hub", "second.example"),
            token_hosts=("auth.example",),
        ),
        "ghcr.io": RegistryHost(),
    }


@pytest.mark.parametrize("days", [0.5, 7, 365])
def test_evidence_may_be_hours_or_a_year_old(days: float) -> None:
    """The bounds of max_age_days, the upper one included."""
    assert load(images={"max_age_days": days}).images.max_age_days == days


MAP = "is invalid; use a map, written as YAML below the key"
FLAG = "is invalid; use true or false"
DAYS = "is invalid; use a number of days above 0 and up to 365"
HUB = "archshift:images.registries.ghcr.io"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["check"], f"archshift:images: ['check'] {MAP}"),
        (
            {"chek": True},
            "archshift:images.chek is not a setting; there are: check, daemonsets, deep, max_age_days, "
            "registries",
        ),
        ({"check": "no"}, f"archshift:images.check: 'no' {FLAG}"),
        ({"check": 0}, f"archshift:images.check: 0 {FLAG}"),
        ({"deep": "yes"}, f"archshift:images.deep: 'yes' {FLAG}"),
        ({"max_age_days": 0}, f"archshift:images.max_age_days: 0 {DAYS}"),
        ({"max_age_days": 366}, f"archshift:images.max_age_days: 366 {DAYS}"),
        ({"max_age_days": "7"}, f"archshift:images.max_age_days: '7' {DAYS}"),
        ({"max_age_days": True}, f"archshift:images.max_age_days: True {DAYS}"),
        ({"max_age_days": float("nan")}, f"archshift:images.max_age_days: nan {DAYS}"),
        ({"daemonsets": "ignore"}, "archshift:images.daemonsets: 'ignore' is invalid; use stop or pin"),
        ({"daemonsets": ["pin"]}, "archshift:images.daemonsets: ['pin'] is invalid; use stop or pin"),
        ({"registries": ["ghcr.io"]}, f"archshift:images.registries: ['ghcr.io'] {MAP}"),
        ({"registries": {"ghcr.io": "http"}}, f"{HUB}: 'http' {MAP}"),
        (
            {"registries": {"ghcr.io": {"insecure": True}}},
            f"{HUB}.insecure is not a setting; there are: ca_file, mirrors, plain_http, token_hosts",
        ),
        ({"registries": {"ghcr.io": {"plain_http": "true"}}}, f"{HUB}.plain_http: 'true' {FLAG}"),
        (
            {"registries": {"ghcr.io": {"ca_file": True}}},
            f"{HUB}.ca_file: True is invalid; use the path of a PEM file",
        ),
        (
            {"registries": {"ghcr.io": {"mirrors": "mirror.example"}}},
            f"{HUB}.mirrors: 'mirror.example' is invalid; use a list of names",
        ),
        (
            {"registries": {"ghcr.io": {"mirrors": ["a.example", 5000]}}},
            f"{HUB}.mirrors[1]: 5000 is invalid; use a name in quotes",
        ),
        (
            {"registries": {"ghcr.io": {"token_hosts": {"auth.example": True}}}},
            f"{HUB}.token_hosts: {{'auth.example': True}} is invalid; use a list of names",
        ),
        (
            {"registries": {"ghcr.io": {"token_hosts": [None]}}},
            f"{HUB}.token_hosts[0]: None is invalid; use a name in quotes",
        ),
    ],
)
def test_a_wrong_value_is_named_with_key_and_way_out(images: Any, message: str) -> None:
    """Every sentence has the whole key, the value and what would do."""
    assert refused(images=images) == message


def test_text_that_is_no_map_is_refused() -> None:
    """``pulumi config set images on`` reaches the program as it was typed."""
    assert refused(images="on") == refused(images='"on"') == f"archshift:images: 'on' {MAP}"


def test_the_check_cannot_be_switched_off_on_eks() -> None:
    """An image that nobody looked at must not get to a real Graviton node."""
    message = (
        "archshift:images.check: false is for the lab only; remove the key: on a real cluster an image that "
        "nobody checked is not proven for arm64"
    )
    assert refused(platform="eks", images={"check": False}) == message
    with pytest.raises(ArchshiftError) as error:
        stack_settings.load("dev", {"archshift:arm_ratio": "0", "archshift:images": '{"check": false}'})
    assert str(error.value) == message


@pytest.mark.parametrize("images", [{}, {"check": True}, {"deep": True, "daemonsets": "pin"}])
def test_every_other_image_setting_does_on_eks(images: dict[str, Any]) -> None:
    """Only the switch is the lab's."""
    assert load(platform="eks", images=images).images == ImageRules(**images)


def test_the_project_declares_the_key() -> None:
    """``pulumi config`` knows it, with a description that names what is in it."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    declared = project["config"]["images"]
    assert declared["type"] == "object"
    for key in ("check", "deep", "max_age_days", "daemonsets", "registries"):
        assert key in declared["description"], key


def with_machine(path: Path, images: Any = None, platform: str = "eks") -> ImageRules:
    """The image settings on a machine whose file of registries this is."""
    config = {"archshift:arm_ratio": "0", "archshift:platform": platform}
    if images is not None:
        config["archshift:images"] = json.dumps(images)
    return stack_settings.load("dev", config, {"ARCHSHIFT_REGISTRIES": str(path)}).images


def test_a_machine_says_how_it_reaches_registries(tmp_path: Path) -> None:
    """One stack on a laptop and on a CI runner: the file adds what the config does not know, and where
    both speak of one setting of one host, the config counts.
    """
    file = tmp_path / "registries.yaml"
    file.write_text(
        "ghcr.io: {mirrors: ['127.0.0.1:5000/ghcr'], ca_file: /laptop.pem}\n"
        "'127.0.0.1:5000': {plain_http: true}"
    )
    config = {"registries": {"ghcr.io": {"ca_file": "/stack.pem"}, "quay.io": {"token_hosts": ["a.example"]}}}
    assert with_machine(file, config).registries == {
        "ghcr.io": RegistryHost(ca_file="/stack.pem", mirrors=("127.0.0.1:5000/ghcr",)),
        "quay.io": RegistryHost(token_hosts=("a.example",)),
        "127.0.0.1:5000": RegistryHost(plain_http=True),
    }
    assert with_machine(file).registries == {
        "ghcr.io": RegistryHost(ca_file="/laptop.pem", mirrors=("127.0.0.1:5000/ghcr",)),
        "127.0.0.1:5000": RegistryHost(plain_http=True),
    }


def test_the_config_can_take_plain_http_back(tmp_path: Path) -> None:
    """A stack that says no means it, whatever the machine says."""
    file = tmp_path / "registries.yaml"
    file.write_text("ghcr.io: {plain_http: true}")
    found = with_machine(file, {"registries": {"ghcr.io": {"plain_http": False}}})
    assert found.registries == {"ghcr.io": RegistryHost(plain_http=False)}


def test_images_without_a_stack_are_reached_as_the_machine_says(tmp_path: Path) -> None:
    """`archshift audit IMAGE` needs no stack, and no file either."""
    file = tmp_path / "registries.yaml"
    file.write_text("ghcr.io: {plain_http: true}")
    assert stack_settings.images_of_no_stack({"ARCHSHIFT_REGISTRIES": str(file)}) == ImageRules(
        registries={"ghcr.io": RegistryHost(plain_http=True)}
    )
    assert stack_settings.images_of_no_stack({}) == ImageRules()


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, content: str) -> None:
    """A file that only has a comment is as good as none."""
    file = tmp_path / "registries.yaml"
    file.write_text(content)
    assert with_machine(file) == ImageRules()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[ghcr.io]", f"FILE: ['ghcr.io'] {MAP}"),
        ("ghcr.io: {\n  mirrors", "FILE is not YAML (line 2); correct the file"),
        ("ghcr.io: http", f"FILE: ghcr.io: 'http' {MAP}"),
        ("5000: {}", "FILE: 5000 is invalid; use a host in quotes"),
        (
            "ghcr.io: {insecure: true}",
            "FILE: ghcr.io.insecure is not a setting; there are: ca_file, mirrors, plain_http, token_hosts",
        ),
        ("ghcr.io: {plain_http: 'yes'}", f"FILE: ghcr.io.plain_http: 'yes' {FLAG}"),
        ("ghcr.io: {mirrors: [5000]}", "FILE: ghcr.io.mirrors[0]: 5000 is invalid; use a name in quotes"),
    ],
)
def test_a_wrong_value_in_the_file_is_named_with_the_file(tmp_path: Path, content: str, message: str) -> None:
    """Whoever reads the sentence knows where to look: the variable, the file, the key."""
    file = tmp_path / "registries.yaml"
    file.write_text(content)
    with pytest.raises(ArchshiftError) as error:
        with_machine(file)
    assert str(error.value) == f"ARCHSHIFT_REGISTRIES: {message.replace('FILE', str(file))}"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A mirror that was meant and is not used would be asked for in vain, or somebody else's would."""
    with pytest.raises(ArchshiftError) as error:
        with_machine(tmp_path / "gone.yaml")
    assert str(error.value) == (
        f"ARCHSHIFT_REGISTRIES: {tmp_path}/gone.yaml cannot be read (No such file or directory); correct "
        "the path, or unset it"
    )


def test_the_machine_cannot_switch_the_check_off(tmp_path: Path) -> None:
    """The file is about registries alone."""
    file = tmp_path / "registries.yaml"
    file.write_text("check: false")
    with pytest.raises(ArchshiftError, match=rf"registries\.yaml: check: False {MAP}"):
        with_machine(file)
