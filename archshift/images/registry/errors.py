"""The exceptions of a failed reading. The inspector turns them into the verdict ``unknown``."""


class UnreadableError(Exception):
    """An image could not be read, or its content is invalid. The text becomes the reason of the verdict.

    It never leaves this package.
    """


class MissingError(UnreadableError):
    """The registry answered that it does not have the content (404)."""
