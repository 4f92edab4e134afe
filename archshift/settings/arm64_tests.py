"""``archshift:arm64_tests``: which workloads are tested on arm64 before their first Graviton pod."""

from typing import Annotated, Final

from msgspec import Meta

from archshift.common.errors import ArchshiftError
from archshift.plan.arm64_tests import Arm64Test, Arm64TestRules
from archshift.settings.reading import Model, Problems, says, use
from archshift.settings.values import Name, Seconds, TestedWorkloadKey

_DEFAULTS: Final = Arm64Test()
_RULES: Final = Arm64TestRules()


class Arm64TestModel(Model, frozen=True, kw_only=True):
    """How one workload is tested."""

    command: Annotated[
        Annotated[str, Meta(min_length=1)] | Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(extra=use("a command: text for a shell, or a list of words")),
        says(
            "What runs in the container: text for a shell, or a list of words.",
            ["/app", "--self-test"],
            default="a start probe: the workload itself runs for `start_seconds`",
        ),
    ] = None
    container: Annotated[
        Name | None, says("The container that runs the command.", "app", default="the first one")
    ] = None
    start_seconds: Annotated[
        Seconds | None,
        says(
            "How long the containers of a start probe must run.",
            30,
            default="the value beside `workloads`",
        ),
    ] = None
    timeout_seconds: Annotated[
        Seconds | None,
        says(
            "After this time, a test that still runs has failed.", 600, default="the value beside `workloads`"
        ),
    ] = None

    def test(self, key: str, defaults: Arm64Test) -> Arm64Test:
        """Return the test.

        Raises:
            ArchshiftError: A start probe would never end in time.
        """
        return _consistent(
            key,
            Arm64Test(
                command=self.command or (),
                container=self.container or "",
                start_seconds=self.start_seconds or defaults.start_seconds,
                timeout_seconds=self.timeout_seconds or defaults.timeout_seconds,
            ),
        )


class Arm64TestsModel(Model, frozen=True, kw_only=True):
    """Which workloads are tested on arm64 before their first Graviton pod."""

    all: Annotated[
        bool,
        says("Test every Deployment and StatefulSet by a start probe, unless `workloads` names it.", True),
    ] = _RULES.all
    workloads: Annotated[
        dict[TestedWorkloadKey, bool | Arm64TestModel],
        says(
            "How single workloads are tested, by namespace/Kind/name: `true` for a start probe, `false` for "
            "no test.",
            {"shop/Deployment/cart": {"command": ["/app", "--self-test"]}},
        ),
    ] = {}
    start_seconds: Annotated[Seconds, says("How long the containers of a start probe must run.", 30)] = (
        _DEFAULTS.start_seconds
    )
    timeout_seconds: Annotated[Seconds, says("After this time, a test that still runs has failed.", 600)] = (
        _DEFAULTS.timeout_seconds
    )
    parallel: Annotated[int, Meta(ge=1, extra={"unit": "tests"}), says("Tests that run at once.", 8)] = (
        _RULES.parallel
    )

    def rules(self, key: str) -> Arm64TestRules:
        """Return which workloads to test, and how.

        Raises:
            SettingsError: A start probe would never end in time.
        """
        problems = Problems()
        defaults = Arm64Test(start_seconds=self.start_seconds, timeout_seconds=self.timeout_seconds)
        with problems.collected():
            _consistent(key, defaults)
        workloads: dict[str, Arm64Test | None] = {}
        for name, model in self.workloads.items():
            if isinstance(model, bool):
                workloads[name] = defaults if model else None
                continue
            with problems.collected():
                workloads[name] = model.test(f"{key}.workloads.{name}", defaults)
        problems.check()
        return Arm64TestRules(all=self.all, defaults=defaults, workloads=workloads, parallel=self.parallel)


def _consistent(key: str, test: Arm64Test) -> Arm64Test:
    if not test.command and test.start_seconds >= test.timeout_seconds:
        raise ArchshiftError(
            f"{key}.start_seconds: {test.start_seconds} is not below timeout_seconds, {test.timeout_seconds}",
            "raise timeout_seconds",
        )
    return test
