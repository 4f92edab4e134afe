"""Tests of archshift.cost.bill."""
