"""What the property tests share."""

from hypothesis import HealthCheck, settings

# No deadline: a slow machine is not a wrong program.
examples = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
