"""The exceptions that a user of the system is meant to see."""

import re

CREDENTIALS = re.compile(r"(?<=://)[^\s@]*:[^\s@]*@")
"""User and password of a URI; a secret may hold an unescaped slash."""


class UserError(Exception):
    """What the user asked for cannot be done; the message says what was expected, what came, and the way out.

    Jobs print it as one line and exit with status 2. Anything else that escapes a job is a defect of ours.
    Credentials in a URI are masked, wherever the message took it from.
    """

    def __init__(self, message: str) -> None:
        super().__init__(CREDENTIALS.sub("***@", message))


class DivergedError(UserError):
    """A loss or a forecast is no finite number: with these settings the model cannot be trained."""
