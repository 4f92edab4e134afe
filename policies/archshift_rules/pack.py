"""All rules, as the engine runs them."""

from typing import Final

from pulumi_policy import Policy

from archshift_rules import (
    arm_ratio_step,
    break_glass_in_use,
    daemonset_runs_on_every_architecture,
    node_group_architecture,
    policy_exception_in_use,
    workload_patch_safety,
    x86_capacity_for_amd64_images,
    x86_node_group_protected,
)

RULES: Final = (
    x86_capacity_for_amd64_images.RULE,
    x86_node_group_protected.RULE,
    node_group_architecture.RULE,
    daemonset_runs_on_every_architecture.RULE,
    arm_ratio_step.RULE,
    workload_patch_safety.RULE,
    break_glass_in_use.RULE,
    policy_exception_in_use.RULE,
)

POLICIES: list[Policy] = [rule.policy() for rule in RULES]
