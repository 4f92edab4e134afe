"""Tests of archshift.nodes."""
