"""The policy pack: ``pulumi preview --policy-pack policies``."""

import gc

from pulumi_policy import PolicyPack

from archshift_rules.pack import POLICIES

# The SDK copies the stack's resources anew for every rule. The copies are freed without the cycle
# collector, which would look through them again and again: two thirds of the time for 1,000 workloads.
gc.disable()

PolicyPack("archshift", POLICIES)  # serves until the engine ends it
