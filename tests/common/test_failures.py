"""Failures of the system in words that a person understands."""

import socket

import httpx
import pytest

from archshift.common.failures import in_words
from archshift.common.text import one_line
from lab.processes import free_port


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the host name cannot be resolved"),
        (ConnectionRefusedError(111, "Connection refused"), "the connection was refused"),
        (OSError(113, "No route to host"), "there is no route to the host"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (ValueError("not a number"), "not a number"),
    ],
)
def test_an_error_is_told_without_its_number(error: Exception, words: str) -> None:
    assert in_words(error) == one_line(error) == words


def test_what_a_library_wraps_is_found() -> None:
    """Clients put their own error around the system's."""
    with pytest.raises(httpx.ConnectError) as raised:
        httpx.get(f"http://127.0.0.1:{free_port()}", trust_env=False)
    assert one_line(raised.value) == "the connection was refused"
