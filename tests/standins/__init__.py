"""Stand-ins for provider plugins that cannot be had here; each says what it is not."""
