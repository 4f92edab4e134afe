"""Looking again until a deadline."""

import time

import pytest

from archshift.common.polling import Polling


def test_pauses_grow_to_a_limit_and_are_short_again_once_something_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look costs the API server something, and who waits wants to go on soon."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    polling = Polling(first=0.5, most=2.0)
    for _ in range(4):
        polling.pause()
    polling.restart()
    polling.pause()
    assert pauses == [0.5, 1.0, 2.0, 2.0, 0.5]


def test_it_is_late_from_the_deadline_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deadline never."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert [Polling(99.0).late, Polling(100.0).late, Polling(101.0).late] == [True, True, False]
    assert not Polling().late
