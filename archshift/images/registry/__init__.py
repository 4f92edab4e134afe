"""What registries hold, and how they are reached."""
