"""Validation of the Spark SQL expressions that features and tasks are declared with."""

from collections.abc import Iterator
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from m2m_model.contracts.errors import UserError

ANY_ORDER = {"Count", "CountIf", "Min", "Max", "BoolAnd", "BoolOr", "BitAndAgg", "BitOrAgg", "BitXorAgg", "Percentile"}
ANY_ORDER_IF_EXACT = {"Sum", "Average", "TrySum", "TryAverage"}
"""Aggregates whose result does not depend on row order, the latter only over integers and decimals."""
CLOCKS = {"CurrentDate": "current_date", "CurrentTimestamp": "current_timestamp", "Now": "now", "LocalTimestamp": "now"}
"""Expressions that read the clock, so that a rerun would give other rows."""


def aggregate_type(frame: DataFrame, expr: str, *, owner: str) -> T.DataType:
    """Type of an aggregate expression over ``frame``.

    Raises:
        UserError: it does not parse or resolve, is no number, or its result depends on the order of rows.
    """
    try:
        aggregated = frame.groupBy("advertiser_id").agg(F.expr(expr).alias("value"))
    except (AnalysisException, ParseException) as error:
        raise UserError(f"{owner}: expression {expr!r} is not valid: {_first_line(error)}") from None
    _refuse_clocks(aggregated, expr, owner)
    for function, is_floating in _aggregate_functions(aggregated):
        if function in ANY_ORDER or (function in ANY_ORDER_IF_EXACT and not is_floating):
            continue
        reason = "sums floating-point values" if function in ANY_ORDER_IF_EXACT else f"uses {function}"
        raise UserError(
            f"{owner}: expression {expr!r} {reason}, whose result depends on the order of rows: "
            "use DECIMAL or integer units and order-independent aggregates"
        )
    return _numeric(aggregated, expr, owner)


def scalar_expression(frame: DataFrame, expr: str, *, owner: str) -> None:
    """Check that a scalar expression over ``frame`` parses and resolves."""
    try:
        selected = frame.select(F.expr(expr))
    except (AnalysisException, ParseException) as error:
        raise UserError(f"{owner}: expression {expr!r} is not valid: {_first_line(error)}") from None
    _refuse_clocks(selected, expr, owner)


def _numeric(aggregated: DataFrame, expr: str, owner: str) -> T.DataType:
    kind = aggregated.schema["value"].dataType
    if not isinstance(kind, T.NumericType | T.BooleanType):
        raise UserError(f"{owner}: expression {expr!r} must give a number, however: {kind.simpleString()}")
    return kind


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _refuse_clocks(frame: DataFrame, expr: str, owner: str) -> None:
    for expression in _expressions(frame):
        if clock := CLOCKS.get(expression.getClass().getSimpleName()):
            raise UserError(
                f"{owner}: expression {expr!r} reads the clock ({clock}), so that a rerun would give other rows: "
                "use the dates of the rows, or as_of in a scenario attribute"
            )


def _aggregate_functions(frame: DataFrame) -> Iterator[tuple[str, bool]]:
    """Class name of every aggregate function in the frame's plan, and whether it works on floating-point values."""
    for expression in _expressions(frame):
        if expression.getClass().getSimpleName() == "AggregateExpression":
            function = expression.aggregateFunction()
            inputs = [child.dataType().simpleString() for child in _items(function.children())]
            yield function.getClass().getSimpleName(), any(kind in ("double", "float") for kind in inputs)


def _expressions(frame: DataFrame) -> Iterator[Any]:
    """Every expression in the top node of the frame's analysed plan, with all that is nested in it."""
    plan: Any = frame._jdf.queryExecution().analyzed()
    pending = list(_items(plan.expressions()))
    while pending:
        expression = pending.pop()
        pending += _items(expression.children())
        yield expression


def _items(sequence: Any) -> Iterator[Any]:
    return (sequence.apply(index) for index in range(sequence.length()))
