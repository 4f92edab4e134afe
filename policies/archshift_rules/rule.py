"""Makes policies, which the engine runs, from pure checks."""

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
        description: What the rule demands; the engine prints it before every violation.
        check: Yields the violations, given the stack, the rule's configuration and the time.
        config: Its settings as JSON schemas by name, each with its default.
        break_glass: Whether break-glass lifts it.
        level: What a violation does, unless the pack's configuration says otherwise.
    """

    name: str
    description: str
    check: Check
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    break_glass: bool = False
    level: EnforcementLevel = EnforcementLevel.MANDATORY

    def judge(self, stack: Stack, config: Mapping[str, Any], now: datetime) -> list[Violation]:
        """Return the violations, none if an exception lifts the rule; an unknown value is a violation."""
        settings = {key: schema["default"] for key, schema in self.config.items()} | dict(config)
        violations = list(_with_unknown(lambda: self.check(stack, settings, now)))
        if not violations:
            return []
        exceptions = self._exceptions(stack, now)
        if any(not exception.invalid for exception in exceptions):
            return []
        note = "".join(_why_no_exception(exception) for exception in exceptions)
        return [Violation(violation.message + note, violation.urn) for violation in violations]

    def policy(self) -> StackValidationPolicy:
        """Return the policy that the engine runs."""

        def validate(args: StackValidationArgs, report: ReportViolation) -> None:
            stack = Stack.of(
                Resource(
                    type=resource.resource_type,
                    urn=resource.urn,
                    props=resource.props,
                    protected=bool(resource.opts.protect),
                    sources={
                        key: [source.urn for source in sources]
                        for key, sources in resource.property_dependencies.items()
                    },
                )
                for resource in args.resources
            )
            for violation in self.judge(stack, args.get_config(), datetime.now(UTC)):
                report(violation.message, violation.urn)

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
            return (RuleException(rule=self.name, invalid=f"this preview does not know {error.path}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRule:
    """A rule about single resources.

    Attributes:
        name: In kebab-case.
        description: What the rule demands.
        check: Yields the violations, given a resource with its inputs and the inputs of its provider.
    """

    name: str
    description: str
    check: Callable[[Resource, Mapping[str, Any]], Iterable[Violation]]

    def judge(self, resource: Resource, provider: Mapping[str, Any]) -> list[Violation]:
        """Return the violations; an unknown value is a violation."""
        return list(_with_unknown(lambda: self.check(resource, provider)))

    def policy(self) -> ResourceValidationPolicy:
        """Return the policy that the engine runs."""

        def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
            resource = Resource(type=args.resource_type, urn=args.urn, props=args.props)
            for violation in self.judge(resource, args.provider.props if args.provider else {}):
                report(violation.message, violation.urn)

        return ResourceValidationPolicy(
            self.name, self.description, validate, enforcement_level=EnforcementLevel.MANDATORY
        )


def _with_unknown(check: Callable[[], Iterable[Violation]]) -> Iterator[Violation]:
    """Yield a check's violations, and as the last one the unknown value that stopped the check.

    The SDK would report such a value as an advisory only, even for a mandatory rule.
    """
    try:
        yield from check()
    except UnknownError as error:
        yield unknown_is_no(error)


def unknown_is_no(error: UnknownError) -> Violation:
    """Return the violation for a value that the preview does not know."""
    name = error.urn.rpartition("::")[2]
    return Violation(
        f"unknown-is-no: this preview does not know {error.path} of {name}, so nothing is proven. Set it to "
        "a plain value, or create its source in a separate update first.",
        error.urn,
    )


def _why_no_exception(exception: RuleException) -> str:
    what = "The policy exception" if exception.rule else "Break-glass"
    return f" ({what} has no effect: {exception.invalid}.)"
