"""Pulumi component resources, thin: the plan says what, these register it."""
