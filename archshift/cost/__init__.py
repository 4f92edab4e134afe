"""Prices of nodes, bills of plans, and savings of steps."""
