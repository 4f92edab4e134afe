"""Figures that the command line's help names; apart from what uses them, which takes long to import."""

from typing import Final

DEFAULT_HEADROOM: Final = 0.15
"""Share of the requests that is kept free on top of them."""

DRAIN_SECONDS: Final = 600.0
"""How long a drain waits while nothing moves: a pod, or the successor of one, holds it up."""
