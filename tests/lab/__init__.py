"""Tests against the real engine and a real control plane."""
