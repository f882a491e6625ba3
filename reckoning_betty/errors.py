"""The one exception that users are meant to read, and the check that raises it most."""


class UserError(Exception):
    """Something that was asked for cannot be done.

    The message is one sentence that says what was given, what is allowed and what to type next. The scripts in
    ``launch/`` print it without a traceback and exit with status 2.
    """


def require(holds: bool, key: str, given: object, allowed: str) -> None:
    """Raise UserError unless ``holds``; the sentence names the key as it is typed on the command line."""
    if not holds:
        raise UserError(f"{key}={given} is not possible: {allowed}.")
