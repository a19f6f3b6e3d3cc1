"""What the exit status of a job says. The worse, the larger: of several days a job gives the largest."""

from enum import IntEnum


class ExitCode(IntEnum):
    """``docs/operations.md`` says what to do about each."""

    OK = 0
    CRASHED = 1
    """Python's own, with a traceback: a mistake in the program."""
    REFUSED = 2
    """The configuration, an argument or the data must be mended; the message says how."""
    NOT_COMPLETE = 3
    """Of ``status``: some day is not complete."""
    ALERT = 4
    """Everything is published, and a check found something to look at."""
    LOCKED = 5
    """Another process is at work on the same day; nothing was done."""
    WORSE = 6
    """The model was not promoted: it is worse than the promoted one."""
    MODEL_FAILED = 10
    """There is no model to forecast with, or it cannot be read."""
    FEATURES_FAILED = 11
    PREDICTIONS_FAILED = 12
    LISTS_FAILED = 13
    CHECKS_FAILED = 14
    """The checks could not be made."""
    REPORT_FAILED = 15
    """The page could not be written."""
    LABELS_FAILED = 16
    """The day whose labels have matured could not be built; tonight's forecasts are published."""
    MONITOR_FAILED = 17
    DASHBOARD_FAILED = 18
