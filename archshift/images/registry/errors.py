"""The exceptions of a failed reading. The inspector turns them into the verdict ``unknown``."""


class UnreadableError(Exception):
    """An image could not be read, or its content is invalid. The text becomes the reason of the verdict.

    It never leaves this package.
    """


class MissingError(UnreadableError):
    """The registry answered that it does not have the content (404)."""


class AwayError(UnreadableError):
    """The registry does not answer: no connection, or no answer in time. The image itself may be fine.

    Args:
        host: The registry, as in image names.
        why: Why there is no answer.
        text: The whole reason, if other hosts were asked too.
    """

    def __init__(self, host: str, why: str, text: str = "") -> None:
        super().__init__(text or f"{host} does not answer: {why}")
        self.host = host
        self.why = why
