"""Tests of archshift.settings."""
