"""The entries by which the API server places pods."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.entries import LEFT_ALONE, Entry, Scaling
from archshift.common.architectures import AMD64, ARM64


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(0, 20), "all on amd64"),
        (Entry(20, 20), "all on arm64"),
        (Entry(4, 20), "4 of 20 on arm64"),
        (Entry(4, 20, AMD64), "4 of 20 on arm64 prefer amd64"),
        (
            Entry(0, 2, scaling=Scaling(within=18, spread=2, side=AMD64, weight=51)),
            "0 of 2 on arm64 within 18 spread 2 prefer amd64 51",
        ),
        (
            Entry(16, 20, scaling=Scaling(36, 1, AMD64, 4, ARM64)),
            "16 of 20 on arm64 within 36 spread 1 prefer amd64 4 tolerate arm64",
        ),
    ],
)
def test_an_entry_reads_as_a_sentence(entry: Entry, text: str) -> None:
    """A preview shows it as one line."""
    assert str(entry) == text


@given(st.integers(1, 10**6), st.data(), st.sampled_from([None, AMD64, ARM64]))
def test_what_was_written_is_read(replicas: int, data: st.DataObject, prefer: str | None) -> None:
    """Whatever the share."""
    graviton = data.draw(st.integers(0, replicas))
    read = Entry.parse(str(Entry(graviton, replicas, prefer)))  # type: ignore[arg-type]
    assert read is not None
    assert str(read) == str(Entry(graviton, replicas, prefer))  # type: ignore[arg-type]


@given(
    st.integers(1, 10**6),
    st.data(),
    st.builds(
        Scaling,
        st.integers(1, 10**6),
        st.integers(1, 10**6),
        st.sampled_from([AMD64, ARM64]),
        st.integers(0, 100),
        st.sampled_from([None, AMD64, ARM64]),
    ),
)
def test_the_entry_of_an_autoscaled_workload_is_read(
    replicas: int, data: st.DataObject, scaling: Scaling
) -> None:
    """Also where all pods are on one side now: their successors need not be."""
    entry = Entry(data.draw(st.integers(0, replicas)), replicas, scaling=scaling)
    assert Entry.parse(str(entry)) == entry
    assert entry.side is None


@pytest.mark.parametrize(
    "text", ["", LEFT_ALONE, "5 of 4 on arm64", "0 of 4 on arm64", "all on s390x", "4 of 20"]
)
def test_what_is_no_entry_is_none(text: str) -> None:
    """Somebody may have edited the ConfigMap."""
    assert Entry.parse(text) is None
