"""What archshift itself does in the cluster: tests on arm64, placeholders, rebalancing, drains."""
