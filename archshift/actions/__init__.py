"""What archshift itself changes in the cluster: tests on arm64, placeholders, rebalancing, drains."""
