"""The one exception a user of the system is meant to see."""


class UserError(Exception):
    """What the user asked for cannot be done; the message says what was expected, what came, and the way out.

    Jobs print it as one line and exit with status 2. Anything else that escapes a job is a defect of ours.
    """
