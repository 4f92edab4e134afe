"""Tests of archshift.ramp.schedule without a Prometheus; those with one are in tests/gate."""
