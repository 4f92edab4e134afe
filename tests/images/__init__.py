"""Tests of archshift.images, against a real registry and a proxy that breaks its answers."""
