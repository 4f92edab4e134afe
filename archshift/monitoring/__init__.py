"""What Prometheus is asked and told: expressions by architecture, rules, and the dashboard."""
