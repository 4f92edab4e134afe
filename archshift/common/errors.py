"""The one exception that users see."""


class ArchshiftError(Exception):
    """Something a person can act on.

    The message is one sentence that names the key or object, the value met, and the way out.
    Entry points print it without a traceback and stop before anything changes.
    """


class UnavailableError(ArchshiftError):
    """The other side was away or too busy; the same question may be answered a moment later."""
