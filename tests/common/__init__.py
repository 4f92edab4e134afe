"""Tests of archshift.common."""
