"""The plan: which workloads move, which need x86, and whether the nodes have room. Pure."""
