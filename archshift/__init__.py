"""The core of archshift: what should run where, and why. Nothing here imports Pulumi.

Pure modules (values in, values out): ratio, placement, ownership, capacity, node_groups,
instance_types, plan. Modules that read the outside: kubernetes, inventory.
"""
