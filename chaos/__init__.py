"""Injects random faults during a ramp in a separate lab, and checks invariants all the time."""
