"""``archshift:images``: how archshift checks images and reaches registries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, UnsetType, structs

from archshift.common.errors import ArchshiftError
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.settings.reading import Model, read, says, use
from archshift.settings.values import Names

REGISTRIES_FILE: Final = "ARCHSHIFT_REGISTRIES"
"""The variable that names a machine's own file of registries; see ``Settings.images``."""

_DEFAULTS: Final = ImageRules()


class RegistryModel(Model, frozen=True, kw_only=True):
    """How one registry is reached; what is left out comes from the file that ARCHSHIFT_REGISTRIES names."""

    plain_http: Annotated[bool | UnsetType, says("Use http instead of https.", True, default="false")] = UNSET
    ca_file: Annotated[
        str | UnsetType,
        Meta(extra=use("the path of a PEM file")),
        says("The path of a PEM file with more authorities to trust.", "/etc/ssl/mirror.pem", default="none"),
    ] = UNSET
    mirrors: Annotated[
        Names | UnsetType,
        says(
            "Hosts that are asked first, each with an optional path before the repository.",
            ["mirror.example:5000/hub"],
            default="none",
        ),
    ] = UNSET
    token_hosts: Annotated[
        Names | UnsetType,
        says("More hosts that may see the credentials of this registry.", ["auth.example"], default="none"),
    ] = UNSET

    def given(self) -> dict[str, Any]:
        """Return the values of the keys that are set."""
        return {name: value for name, value in structs.asdict(self).items() if value is not UNSET}


Registries: TypeAlias = dict[
    Annotated[str, Meta(extra=use("a host in quotes"))],
    RegistryModel,
]


class ImagesModel(Model, frozen=True, kw_only=True):
    """How images are checked for arm64."""

    check: Annotated[
        bool, says("Read the images from their registries. Only the lab may set false.", False)
    ] = _DEFAULTS.check
    deep: Annotated[
        bool, says("Look into the layers too: an image may claim arm64 and carry x86 binaries.", True)
    ] = _DEFAULTS.deep
    max_age_days: Annotated[
        float,
        Meta(gt=0, le=365, extra={"unit": "days"}),
        says("How old the evidence of an image may be.", 1),
    ] = _DEFAULTS.max_age_days
    daemonsets: Annotated[
        Literal["stop", "pin"],
        says(
            "What happens to a DaemonSet that is not proven: it stops the first Graviton node, or it is "
            "pinned to x86.",
            "pin",
        ),
    ] = _DEFAULTS.daemonsets
    registries: Annotated[
        Registries,
        says(
            "How registries are reached, by host.",
            {"docker.io": {"mirrors": ["mirror.example:5000/hub"]}},
        ),
    ] = {}

    def rules(self, key: str, platform: str, environment: Mapping[str, str]) -> ImageRules:
        """Return how archshift checks images.

        Args:
            key: The key, for errors.
            platform: Where node groups are made.
            environment: Names this machine's file of registries.

        Raises:
            ArchshiftError: The check is off outside the lab, or the file is invalid.
        """
        if not self.check and platform != "lab":
            raise ArchshiftError(
                f"{key}.check: false is for the lab only",
                "remove the key: on a real cluster an image that nobody checked is not proven for arm64",
            )
        return ImageRules(
            check=self.check,
            deep=self.deep,
            max_age_days=self.max_age_days,
            daemonsets=self.daemonsets,
            registries=merged(machine_registries(environment), self.registries),
        )


def machine_registries(environment: Mapping[str, str]) -> Mapping[str, RegistryModel]:
    """Return the registries of this machine's own file; none if no variable names such a file.

    Raises:
        ArchshiftError: The file cannot be read, or a value in it is invalid.
    """
    path = environment.get(REGISTRIES_FILE)
    if not path:
        return {}
    # Loaded here: few machines have such a file.
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchshiftError(
            f"{REGISTRIES_FILE}: {path} cannot be read ({error.strerror})", "correct the path, or unset it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ArchshiftError(f"{REGISTRIES_FILE}: {path} is not YAML{where}", "correct the file") from None
    return read(Registries, f"{REGISTRIES_FILE}: {path}: ", content or {})


def merged(
    machine: Mapping[str, RegistryModel], config: Mapping[str, RegistryModel]
) -> dict[str, RegistryHost]:
    """Merge key by key: the machine's file counts for keys that the stack's configuration leaves out."""
    nothing = RegistryModel()
    return {
        host: RegistryHost(**machine.get(host, nothing).given() | config.get(host, nothing).given())
        for host in {**machine, **config}
    }
