"""The one exception that users are meant to read."""


class UserError(Exception):
    """Something that was asked for cannot be done.

    The message is one sentence that says what was given, what is allowed and what to type next. The scripts in
    ``launch/`` print it without a traceback and exit with status 2.
    """
