"""Tests of archshift.actions."""
