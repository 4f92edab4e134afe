"""Finds out which images run on arm64, from the content of their registries. Unknown never counts as yes."""
