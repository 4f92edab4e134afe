"""All rules, as the engine runs them."""

from pulumi_policy import Policy

from archshift_rules import x86_capacity_for_amd64_images

STACK_RULES = (x86_capacity_for_amd64_images.RULE,)

POLICIES: list[Policy] = [rule.policy() for rule in STACK_RULES]
