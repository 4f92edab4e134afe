"""What others write ends in a result or in the expected error, whatever it is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import TARGETS, Target, mutate
from tests.properties import examples


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_and_their_mutations(target: Target) -> None:
    """The findings of a review, and hundreds of inputs that look like them; the same in each run."""
    source = random.Random(1)  # noqa: S311
    for seed in target.seeds:
        target.check(seed)
        for _ in range(60):
            target.check(mutate(seed, source, target.seeds))


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    """And what looks like nothing in particular."""

    @examples
    @given(st.binary(max_size=2000))
    def run(data: bytes) -> None:
        TARGETS[name].check(data)

    run()
