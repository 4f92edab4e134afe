"""Who moves where, what must stay on x86, and whether it fits. Pure."""
