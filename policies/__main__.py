"""The policy pack: ``pulumi preview --policy-pack policies``."""

import gc

from pulumi_policy import PolicyPack

from archshift_rules.convert_once import convert_once
from archshift_rules.pack import POLICIES

convert_once()
# The process serves one run of the engine. What it makes is kept or freed without the cycle collector,
# which would only look through it again and again: two thirds of the time for 1,000 workloads.
gc.disable()

PolicyPack("archshift", POLICIES)  # serves until the engine ends it
