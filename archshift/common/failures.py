"""Failures of the system in plain words: no numbers of errors, and no texts of Python's."""

import errno
import re
from collections.abc import Iterator
from typing import Final

_WORDS: Final = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "there is no route to the host",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.EPIPE: "the connection was closed",
    errno.ETIMEDOUT: "no answer in time",
}

_NUMBER: Final = re.compile(r"\[Errno -?\d+\] ?")


def why_no_connection(error: OSError) -> str:
    """Return in plain words why there is no connection."""
    return _known(error) or (error.strerror or "there is no connection").lower()


def in_words(error: BaseException) -> str:
    """Return the text of an error, in plain words if a failed connection caused it."""
    known = (_known(cause) for cause in _causes(error) if isinstance(cause, OSError))
    return next(filter(None, known), "") or _NUMBER.sub("", str(error))


def _known(error: OSError) -> str:
    # Pure modules use this one too, and without an error nobody needs sockets.
    import socket

    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return "the name server does not answer, so the host name cannot be resolved"
        return "the host name cannot be resolved"
    return _WORDS.get(error.errno or 0, "")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it; libraries wrap the system's errors in their own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
