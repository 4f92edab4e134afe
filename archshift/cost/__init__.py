"""What the nodes cost, and what a step saves."""
