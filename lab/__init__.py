"""The lab: a real Kubernetes control plane on this machine, with simulated nodes, in one folder."""
