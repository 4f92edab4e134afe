"""From a check, which is pure, to a policy that the engine runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from archshift_rules.exceptions import RuleException, read_exceptions
from archshift_rules.stack import Resource, Stack, UnknownError, Violation

Check: TypeAlias = Callable[[Stack, Mapping[str, Any], datetime], Iterable[Violation]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRule:
    """A rule about a whole stack.

    Attributes:
        name: In kebab-case, as in ``--policy-pack-config``.
        description: What it demands; one sentence, shown before every violation.
        check: Yields the violations of (stack, the rule's configuration, now).
        config: Its settings as JSON schemas by name, each with its default.
        break_glass: Whether break-glass lifts it.
        level: What a violation does, unless the pack is configured otherwise.
    """

    name: str
    description: str
    check: Check
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    break_glass: bool = False
    level: EnforcementLevel = EnforcementLevel.MANDATORY

    def judge(self, stack: Stack, config: Mapping[str, Any], now: datetime) -> list[Violation]:
        """Return the violations; a value that is not known yet is one, and an excuse lifts all."""
        settings = {key: schema["default"] for key, schema in self.config.items()} | dict(config)
        found = list(_with_unknown(lambda: self.check(stack, settings, now)))
        if not found:
            return []
        exceptions = self._exceptions(stack, now)
        if any(not one.invalid for one in exceptions):
            return []
        note = "".join(_why_no_exception(one) for one in exceptions)
        return [Violation(one.message + note, one.urn) for one in found]

    def policy(self) -> StackValidationPolicy:
        """Return what the engine runs."""

        def validate(args: StackValidationArgs, report: ReportViolation) -> None:
            stack = Stack.of(
                Resource(
                    type=one.resource_type,
                    urn=one.urn,
                    props=one.props,
                    protected=bool(one.opts.protect),
                    sources={
                        key: [source.urn for source in sources]
                        for key, sources in one.property_dependencies.items()
                    },
                )
                for one in args.resources
            )
            for found in self.judge(stack, args.get_config(), datetime.now(UTC)):
                report(found.message, found.urn)

        return StackValidationPolicy(
            self.name,
            self.description,
            validate,
            self.level,
            PolicyConfigSchema({key: dict(schema) for key, schema in self.config.items()})
            if self.config
            else None,
        )

    def _exceptions(self, stack: Stack, now: datetime) -> tuple[RuleException, ...]:
        try:
            return read_exceptions(stack, now).of(self.name, by_break_glass=self.break_glass)
        except UnknownError as error:
            return (RuleException(rule=self.name, invalid=f"{error.path} is not known in this preview"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRule:
    """A rule about single resources, each by itself.

    Attributes:
        name: In kebab-case.
        description: What it demands.
        check: Yields the violations of (a resource with its inputs, the inputs of its provider).
    """

    name: str
    description: str
    check: Callable[[Resource, Mapping[str, Any]], Iterable[Violation]]

    def judge(self, one: Resource, provider: Mapping[str, Any]) -> list[Violation]:
        """Return the violations; a value that is not known yet is one."""
        return list(_with_unknown(lambda: self.check(one, provider)))

    def policy(self) -> ResourceValidationPolicy:
        """Return what the engine runs."""

        def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
            one = Resource(type=args.resource_type, urn=args.urn, props=args.props)
            for found in self.judge(one, args.provider.props if args.provider else {}):
                report(found.message, found.urn)

        return ResourceValidationPolicy(
            self.name, self.description, validate, enforcement_level=EnforcementLevel.MANDATORY
        )


def _with_unknown(check: Callable[[], Iterable[Violation]]) -> Iterator[Violation]:
    """Yield what a check finds, and as its last violation the unknown value that stopped it.

    The SDK would turn such a value into an advisory, and a mandatory rule into none.
    """
    try:
        yield from check()
    except UnknownError as error:
        yield unknown_is_no(error)


def unknown_is_no(error: UnknownError) -> Violation:
    """Return the violation that a value is which a preview does not know."""
    name = error.urn.rpartition("::")[2]
    return Violation(
        f"unknown-is-no: {error.path} of {name} is not known in this preview, so nothing is proven; set "
        "it to a plain value, or make what it comes from in an update of its own first.",
        error.urn,
    )


def _why_no_exception(one: RuleException) -> str:
    return f" ({'The policy exception' if one.rule else 'Break-glass'} has no effect: {one.invalid}.)"
