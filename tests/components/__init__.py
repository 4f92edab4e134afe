"""Tests of the components, against recorded registrations."""
