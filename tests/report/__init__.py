"""Tests of archshift.report.report."""
