"""What the exit status of a job says; of several days a job gives the worst."""

from collections.abc import Iterable
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
    """Another process is at work on the same day, experiment or registry."""
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
    STORE_FAILED = 19
    """The disk is full or the object store failed, outside the steps of a night, which have statuses of their own:
    run the same command again."""


SEVERITY = (
    ExitCode.OK,
    ExitCode.NOT_COMPLETE,
    ExitCode.LOCKED,
    ExitCode.ALERT,
    ExitCode.WORSE,
    ExitCode.REPORT_FAILED,
    ExitCode.DASHBOARD_FAILED,
    ExitCode.MONITOR_FAILED,
    ExitCode.LABELS_FAILED,
    ExitCode.CHECKS_FAILED,
    ExitCode.LISTS_FAILED,
    ExitCode.PREDICTIONS_FAILED,
    ExitCode.FEATURES_FAILED,
    ExitCode.MODEL_FAILED,
    ExitCode.STORE_FAILED,
    ExitCode.REFUSED,
    ExitCode.CRASHED,
)
"""From what nobody needs to look at to what costs most: forecasts that are not there come after those that are."""


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The most severe of some.

    Example:
        >>> worst([ExitCode.DASHBOARD_FAILED, ExitCode.FEATURES_FAILED, ExitCode.OK]).name
        'FEATURES_FAILED'
    """
    return max(codes, key=SEVERITY.index)
