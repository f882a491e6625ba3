"""The exception that users are meant to read, the check that raises it most, and what measurements raise."""


class UserError(Exception):
    """Something that was asked for cannot be done.

    The message is one sentence that says what was given, what is allowed and what to type next. The scripts in
    ``launch/`` print it without a traceback and exit with status 2.
    """


def require(holds: bool, key: str, given: object, allowed: str) -> None:
    """Raise UserError unless ``holds``; the sentence names the key as it is typed on the command line."""
    if not holds:
        raise UserError(f"{key}={given} is not possible: {allowed}.")


class NotMeasured(Exception):
    """What was to be measured, an engine or a strategy, could not run.

    Args:
        status: ``not installed``, ``does not fit`` or ``failed``.
        reason: one sentence.
    """

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason
