"""Which images run on arm64, proven by what their registries hold. Unknown never counts as yes."""
