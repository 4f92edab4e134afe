"""The gate and the rules, on a real Prometheus."""
