"""The only reader and editor of the stack's configuration."""
