"""Python twins of the Spark SQL expressions that configs use, by their form. What has no twin is an error."""

import datetime
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

Row = dict[str, Any]
Number = int | float | Decimal
Aggregate = Callable[[list[Row]], Any]
Scalar = Callable[[Row, datetime.date], Any]


def _values(rows: Sequence[Row], column: str) -> list[Any]:
    return [row[column] for row in rows if row[column] is not None]


def _fold(name: str, column: str) -> Aggregate:
    def fold(rows: list[Row]) -> Any:
        values = _values(rows, column)
        if not values:
            return None
        return {"sum": lambda: sum(values[1:], values[0]), "max": lambda: max(values), "min": lambda: min(values)}[
            name
        ]()

    return fold


def _filtered(inner: str, column: str, wanted: str) -> Aggregate:
    of = aggregate(inner)
    return lambda rows: of([row for row in rows if row[column] == wanted])


def _fold_where(name: str, condition: str, sign: str, wanted: str, column: str) -> Aggregate:
    fold = _fold(name, column)

    def holds(row: Row) -> bool:
        return row[condition] is not None and (row[condition] == wanted) == (sign == "=")

    return lambda rows: fold([row for row in rows if holds(row)])


def _divided(above: str, below: str) -> Aggregate:
    dividend, divisor = aggregate(above), aggregate(below)

    def divide(rows: list[Row]) -> Any:
        over, under = dividend(rows), divisor(rows)
        return over / under if over is not None and under else None

    return divide


def _then(inner: str, function: Callable[[Any], Any]) -> Aggregate:
    """``function`` of an aggregate, null for null."""
    of = aggregate(inner)

    def apply(rows: list[Row]) -> Any:
        value = of(rows)
        return None if value is None else function(value)

    return apply


def _coalesced(inner: str, default: str) -> Aggregate:
    of = aggregate(inner)

    def coalesce(rows: list[Row]) -> Any:
        value = of(rows)
        return int(default) if value is None else value

    return coalesce


_AGGREGATES: tuple[tuple[str, Callable[..., Aggregate]], ...] = (
    (r"count\(\*\)", lambda: len),
    (r"count\(distinct (\w+)\)", lambda column: lambda rows: len(set(_values(rows, column)))),
    (r"count_if\((\w+) = '(\w+)'\)", lambda c, wanted: lambda rows: sum(row[c] == wanted for row in rows)),
    (r"(sum|max|min)\((\w+)\)", _fold),
    (r"(sum|max|min)\(case when (\w+) (=|<>) '(\w+)' then (\w+) end\)", _fold_where),
    (r"((?:sum|max|min|count)\([\w* ]+\)) filter \(where (\w+) = '(\w+)'\)", _filtered),
    (r"try_divide\((.+\)), (.+)\)", _divided),
    (r"coalesce\((.+), (\d+)\)", _coalesced),
    (r"cast\((.+) as (?:int|bigint)\)", lambda inner: _then(inner, int)),
    (r"(.+) > (\d+)", lambda inner, bound: _then(inner, lambda value: value > int(bound))),
)

_SCALARS: tuple[tuple[str, Callable[..., Scalar]], ...] = (
    (r"dayofweek\(as_of\)", lambda: lambda row, as_of: as_of.isoweekday() % 7 + 1),
    (r"weekday\(as_of\)", lambda: lambda row, as_of: as_of.weekday()),
    (r"datediff\(as_of, (\w+)\)", lambda day: lambda row, as_of: (as_of - row[day]).days),
    (r"(\w+)", lambda column: lambda row, as_of: row[column]),
    (r"(\w+) \* (\d+)", lambda c, factor: lambda row, as_of: None if row[c] is None else row[c] * int(factor)),
    (r"(\w+) > ([\d.]+)", lambda c, bound: lambda row, as_of: None if row[c] is None else row[c] > Decimal(bound)),
)


@cache
def aggregate(expr: str) -> Aggregate:
    """The twin of an aggregate expression over the rows of one key and day."""
    twin: Aggregate = _twin(expr, _AGGREGATES)
    return twin


@cache
def scalar(expr: str) -> Scalar:
    """The twin of an attribute's expression over a snapshot and an as-of day."""
    twin: Scalar = _twin(expr, _SCALARS)
    return twin


def _twin(expr: str, forms: tuple[tuple[str, Callable[..., Any]], ...]) -> Any:
    for form, make in forms:
        if match := re.fullmatch(form, expr.strip()):
            return make(*match.groups())
    raise NotImplementedError(f"expression {expr!r} has no Python twin: add its form to tests/etl/twins.py")


def text(value: Any) -> str:
    """How Spark writes a value as a string."""
    return str(value).lower() if isinstance(value, bool) else str(value)
