"""What runs in the cluster: client, inventory, pods, who owns which field, evidence for images."""
