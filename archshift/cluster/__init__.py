"""The cluster: its API client, the inventory, pods, the owners of fields, and evidence about images."""
