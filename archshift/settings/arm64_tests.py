"""Readers of ``archshift:arm64_tests``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archshift.cluster.kinds import TESTED_KINDS
from archshift.common.errors import ArchshiftError
from archshift.plan.arm64_tests import Arm64Test, Arm64TestRules
from archshift.settings import values


def read_arm64_tests(key: str, value: Any) -> Arm64TestRules:
    """Return ``archshift:arm64_tests`` as it is configured.

    Raises:
        ArchshiftError: A value does not do.
    """
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"all", "parallel", "start_seconds", "timeout_seconds", "workloads"})
    defaults = _consistent(key, _with_seconds(key, Arm64Test(), given))
    workloads = values.mapping(f"{key}.workloads", given.get("workloads", {}))
    return Arm64TestRules(
        all=values.flag(f"{key}.all", given.get("all", False)),
        defaults=defaults,
        workloads={
            name: _test(f"{key}.workloads", name, entry, defaults) for name, entry in workloads.items()
        },
        parallel=values.size(1, "tests")(f"{key}.parallel", given.get("parallel", 4)),
    )


def _test(key: str, name: str, value: Any, defaults: Arm64Test) -> Arm64Test | None:
    key = f"{key}.{values.workload_key(key, name, TESTED_KINDS)}"
    if value is False:
        return None
    if value is True:
        return defaults
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"command", "container", "start_seconds", "timeout_seconds"})
    test = _with_seconds(key, defaults, given)
    if "container" in given:
        test = replace(
            test, container=values.text("the name of a container")(f"{key}.container", given["container"])
        )
    if "command" in given:
        command = given["command"]
        if isinstance(command, list):
            command = values.texts(f"{key}.command", command)
        else:
            command = values.typed(f"{key}.command", command, str, "a command: text for a shell, or a list")
        if not command:
            raise ArchshiftError(
                f"{key}.command is empty", "give a command, or leave it out for a start probe"
            )
        test = replace(test, command=command)
    return _consistent(key, test)


def _with_seconds(key: str, test: Arm64Test, given: Mapping[str, Any]) -> Arm64Test:
    read = values.size(1, "seconds")
    return replace(
        test,
        start_seconds=read(f"{key}.start_seconds", given.get("start_seconds", test.start_seconds)),
        timeout_seconds=read(f"{key}.timeout_seconds", given.get("timeout_seconds", test.timeout_seconds)),
    )


def _consistent(key: str, test: Arm64Test) -> Arm64Test:
    if not test.command and test.start_seconds >= test.timeout_seconds:
        raise ArchshiftError(
            f"{key}.start_seconds: {test.start_seconds} is not below timeout_seconds, {test.timeout_seconds}",
            "raise that",
        )
    return test
