"""Defaults that the help of the command line shows. A module of their own, because it imports fast."""

from typing import Final

DEFAULT_HEADROOM: Final = 0.15
"""Capacity to keep free, as a share of the requests."""

DRAIN_SECONDS: Final = 600.0
"""How long a drain waits without progress before it ends."""
