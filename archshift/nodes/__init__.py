"""What a node can be: instance types, node groups, NodePools, the EKS cluster."""
