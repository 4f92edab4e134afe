"""The policy pack: ``pulumi preview --policy-pack policies``."""

import gc

from pulumi_policy import PolicyPack

from archshift_rules.convert_once import convert_once
from archshift_rules.pack import POLICIES

convert_once()
# The process serves one run of the engine, and reference counts free its memory. The cycle collector would
# scan the same objects again and again: it took two thirds of the time for 1,000 workloads.
gc.disable()

PolicyPack("archshift", POLICIES)  # serves until the engine stops the process
