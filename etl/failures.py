"""What goes wrong while Spark works, as the one-line errors that users are meant to see."""

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from m2m_model.contracts.errors import UserError

LONGEST = 400
"""Characters of Spark's own words in a message."""
OURS = ("INTERNAL_ERROR", "PYTHON_EXCEPTION")
"""Conditions that are a defect and no matter of data."""
ADVICE = re.compile(
    r' If necessary set "spark\.sql\.ansi\.enabled" to "false" to bypass this error[^.]*\.|\s*SQLSTATE: \w+'
)
"""Parts of Spark's messages that lead nowhere here: the setting is fixed, since results depend on it."""
VALUES = ("java.lang.IllegalArgumentException", "java.lang.ArithmeticException", "java.time.DateTimeException")
"""What Java's own functions throw at a value or a pattern that they cannot work with."""
NOT_WRITTEN = re.compile(r"^OSError: (\[Errno 28\].+|.*(?:AWS Error|google::cloud).+)$", re.MULTILINE)
"""What a task's Python raises where the disk is full or the object store does not answer."""
RAISED_IN_WORKER = re.compile(rf"^(?:[\w.]+\.)?{UserError.__name__}: (.+)$", re.MULTILINE)


@contextmanager
def spark_failures() -> Iterator[None]:
    """Turn Spark's errors about data, files and expressions into :class:`UserError`.

    A task that met a full disk, or a store that failed, becomes the OSError that the driver would have met. What Spark
    has no error condition for is a defect of ours or of the cluster, and passes through as it is.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        chain = list(_causes(error))
        if failed := _found(NOT_WRITTEN, chain):
            raise (OSError(errno.ENOSPC, failed) if "[Errno 28]" in failed else OSError(failed)) from error
        message = _message(chain)
        if message is None:
            raise
        raise UserError(message) from error


def _message(chain: Sequence[Any]) -> str | None:
    """The line for users, from the throwables that led to the error; None of a defect."""
    if raised := _found(RAISED_IN_WORKER, chain):
        return raised
    for number, throwable in enumerate(chain):
        condition = _condition(throwable)
        if condition is None or condition.startswith(OURS):
            continue
        words = _one_line(_text(throwable))
        if condition == "USER_RAISED_EXCEPTION":
            return words.partition("] ")[2]
        expressions = [c.fragment() for c in throwable.getQueryContext() if c.contextType().toString() == "SQL"]
        if expressions and expressions[0]:
            words += f" In the expression {expressions[0]!r}."
        if condition.startswith("FAILED_READ_FILE") and len(chain) > number + 1:
            words += f" ({_one_line(_text(chain[-1]))})"
        return f"Spark stopped: {words}"
    if value := next((t for t in chain for kind in VALUES if _is(t, kind)), None):
        return f"Spark stopped: {_one_line(value.toString())}"
    return None


def _found(pattern: re.Pattern[str], chain: Sequence[Any]) -> str | None:
    """The pattern's group in the first throwable that has it."""
    return next((match[1] for text in map(_text, chain) if (match := pattern.search(text))), None)


def _causes(error: PySparkException | Py4JJavaError) -> Iterator[Any]:
    throwable = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    while throwable is not None:
        yield throwable
        throwable = throwable.getCause()


def _text(throwable: Any) -> str:
    return str(throwable.getMessage() or throwable.toString())


def _condition(throwable: Any) -> str | None:
    """The name of Spark's error condition, None for exceptions that are not Spark's own."""
    return (throwable.getCondition() or None) if _is(throwable, "org.apache.spark.SparkThrowable") else None


def _is(throwable: Any, java_class: str) -> bool:
    gateway = SparkContext._gateway
    return gateway is not None and bool(is_instance_of(gateway, throwable, java_class))


def _one_line(text: str) -> str:
    """The message's first line; what follows are plans, stack traces and pointers into the SQL."""
    line = " ".join(ADVICE.sub("", text.strip().partition("\n")[0]).split())
    return line if len(line) <= LONGEST else line[:LONGEST] + " ..."
