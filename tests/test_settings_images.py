"""The settings of images: every key of ``archshift:images``, and every sentence about a wrong value."""

from typing import Any

import pytest
import yaml

import settings
from archshift.errors import ArchshiftError
from archshift.images.hosts import ImageRules, RegistryHost
from tests.test_settings import ROOT, load, refused


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


DAYS = "is not a number of days from 0 to 365"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("on", "archshift:images: 'on' is not a map; write it as YAML below the key"),
        (["check"], "archshift:images: ['check'] is not a map; write it as YAML below the key"),
        (
            {"chek": True},
            "archshift:images.chek is not a setting; there are: check, daemonsets, deep, max_age_days, "
            "registries",
        ),
        ({"check": "no"}, "archshift:images.check: 'no' is not true or false"),
        ({"check": 0}, "archshift:images.check: 0 is not true or false"),
        ({"deep": "yes"}, "archshift:images.deep: 'yes' is not true or false"),
        ({"max_age_days": 0}, f"archshift:images.max_age_days: 0 {DAYS}"),
        ({"max_age_days": -1}, f"archshift:images.max_age_days: -1 {DAYS}"),
        ({"max_age_days": 366}, f"archshift:images.max_age_days: 366 {DAYS}"),
        ({"max_age_days": "7"}, f"archshift:images.max_age_days: '7' {DAYS}"),
        ({"max_age_days": True}, f"archshift:images.max_age_days: True {DAYS}"),
        ({"max_age_days": float("nan")}, f"archshift:images.max_age_days: nan {DAYS}"),
        ({"daemonsets": "ignore"}, "archshift:images.daemonsets: 'ignore' is none of stop, pin"),
        ({"daemonsets": True}, "archshift:images.daemonsets: True is none of stop, pin"),
        ({"daemonsets": ["pin"]}, "archshift:images.daemonsets: ['pin'] is none of stop, pin"),
        (
            {"registries": ["ghcr.io"]},
            "archshift:images.registries: ['ghcr.io'] is not a map; write it as YAML below the key",
        ),
        (
            {"registries": {"ghcr.io": "http"}},
            "archshift:images.registries.ghcr.io: 'http' is not a map; write it as YAML below the key",
        ),
        (
            {"registries": {"ghcr.io": {"insecure": True}}},
            "archshift:images.registries.ghcr.io.insecure is not a setting; there are: ca_file, mirrors, "
            "plain_http, token_hosts",
        ),
        (
            {"registries": {"ghcr.io": {"plain_http": "true"}}},
            "archshift:images.registries.ghcr.io.plain_http: 'true' is not true or false",
        ),
        (
            {"registries": {"ghcr.io": {"ca_file": True}}},
            "archshift:images.registries.ghcr.io.ca_file: True is not the path of a PEM file",
        ),
        (
            {"registries": {"ghcr.io": {"mirrors": "mirror.example"}}},
            "archshift:images.registries.ghcr.io.mirrors: 'mirror.example' is not a list of names",
        ),
        (
            {"registries": {"ghcr.io": {"mirrors": ["a.example", 5000]}}},
            "archshift:images.registries.ghcr.io.mirrors[1]: 5000 is not a name",
        ),
        (
            {"registries": {"ghcr.io": {"token_hosts": {"auth.example": True}}}},
            "archshift:images.registries.ghcr.io.token_hosts: {'auth.example': True} is not a list of names",
        ),
        (
            {"registries": {"ghcr.io": {"token_hosts": [None]}}},
            "archshift:images.registries.ghcr.io.token_hosts[0]: None is not a name",
        ),
    ],
)
def test_a_wrong_value_is_named_with_key_and_way_out(images: Any, message: str) -> None:
    """Every sentence has the whole key, the value and what would do."""
    # Text alone is what the engine passes for a value that is no map.
    assert refused(images='"on"' if images == "on" else images) == message


def test_text_that_is_no_map_is_refused() -> None:
    """``pulumi config set images on`` reaches the program as it was typed."""
    assert refused(images="on") == "archshift:images: 'on' is not a map; write it as YAML below the key"


def test_the_check_cannot_be_switched_off_on_eks() -> None:
    """An image that nobody looked at must not get to a real Graviton node."""
    message = (
        "archshift:images.check: false is for the lab alone; on a real cluster an image that nobody looked "
        "at counts as one that cannot run on arm64"
    )
    assert refused(platform="eks", images={"check": False}) == message
    with pytest.raises(ArchshiftError) as error:
        settings.load("dev", {"archshift:arm_ratio": "0", "archshift:images": '{"check": false}'})
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
