"""How a failed reading travels inside this package: as a reason, on its way to ``unknown``."""


class UnreadableError(Exception):
    """Something about an image could not be read or understood; its text is the verdict's reason.

    Never leaves the package: the inspector turns it into a verdict ``unknown``.
    """


class MissingError(UnreadableError):
    """The registry answered, and does not have what was asked for (404)."""
