"""Kubernetes quantities: ``100m`` of a vCPU, ``1.5Gi`` of memory. Pure.

lightkube has the same function, but it also loads an HTTP client and typed models. They took a quarter of the
start of ``archshift plan``. tests/common/test_quantity.py checks that both give the same results, apart from
what only the API server reads: millionths (``500u``), billionths (``500n``) and ``1E3``
(k8s.io/apimachinery/pkg/api/resource, suffix.go).
"""

import re
from decimal import ROUND_UP, Decimal
from functools import lru_cache
from typing import Final

_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?\d+(?:[.]\d*)?(?:[eE][+-]?\d+)?|[.]\d+(?:[eE][+-]?\d+)?)(?P<suffix>.*)"
)

_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPEZY", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPEZY", 1)},
}

# The API server rounds up to a multiple of this.
_SMALLEST: Final = Decimal("0.001")


def parse_quantity(text: str) -> Decimal:
    """Return a quantity as a plain number, rounded up to thousandths as the API server does.

    Args:
        text: For example ``250m``, ``0.1``, ``1e3``, ``2E`` or ``64Mi``.

    Raises:
        ValueError: The text is not a quantity, or is too large.
    """
    match = _QUANTITY.match(text)
    if not match:
        raise ValueError(f"Invalid quantity string: '{text}'")
    suffix = match["suffix"]
    if suffix not in _SUFFIXES:
        raise ValueError(f"Invalid unit suffix: {suffix}")
    try:
        return (Decimal(match["number"]) * _SUFFIXES[suffix]).quantize(_SMALLEST, rounding=ROUND_UP)
    except ArithmeticError:
        raise ValueError("Invalid numerical value") from None


# A fleet has thousands of pods, and a handful of sizes.
@lru_cache(maxsize=4096)
def millicpu(text: str) -> int:
    """Return a quantity of CPU in thousandths of a vCPU."""
    return int(parse_quantity(text) * 1000)


@lru_cache(maxsize=4096)
def whole(text: str) -> int:
    """Return a quantity as a whole number, such as bytes or pods."""
    return int(parse_quantity(text))
