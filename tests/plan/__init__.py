"""Tests of archshift.plan.planner: values in, values out."""
