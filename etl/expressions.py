"""Validation of the Spark SQL expressions that features, tasks and attributes are declared with."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.sql import check_expression
from m2m_model.contracts.errors import UserError

ANY_ORDER = {"Count", "CountIf", "Min", "Max", "BoolAnd", "BoolOr", "BitAndAgg", "BitOrAgg", "BitXorAgg", "Percentile"}
ANY_ORDER_IF_EXACT = {"Sum", "Average", "TrySum", "TryAverage"}
"""Aggregates whose result does not depend on row order, the latter only over integers and decimals."""
CLOCKS = {
    "CurrentDate": "current_date",
    "CurrentTime": "current_time",
    "CurrentTimestamp": "current_timestamp",
    "Now": "now",
    "LocalTimestamp": "localtimestamp",
}
"""Expressions that read the clock, so that a rerun would give other rows."""
SURROUNDINGS = {"CurrentUser", "CurrentDatabase", "CurrentCatalog", "CurrentTimeZone", "SparkVersion"}
"""Expressions that read who runs the job, and where."""


def aggregate_type(frame: DataFrame, expr: str, *, owner: str) -> T.DataType:
    """Type of an aggregate expression over ``frame``.

    Raises:
        UserError: it does not parse or resolve, is no number, its result depends on the order of rows, on chance or on
            the clock, or it sees more than the rows of its own key and day.
    """
    aggregated = _analysed(lambda: frame.groupBy("advertiser_id").agg(F.expr(expr).alias("value")), expr, owner)
    _refuse_other_rows(aggregated, frame, "Aggregate", expr, owner)
    for function, is_floating in _aggregate_functions(aggregated):
        if function in ANY_ORDER or (function in ANY_ORDER_IF_EXACT and not is_floating):
            continue
        reason = "sums floating-point values" if function in ANY_ORDER_IF_EXACT else f"uses {function}"
        raise UserError(
            f"{owner}: expression {expr!r} {reason}, whose result depends on the order of rows: "
            "use DECIMAL or integer units and order-independent aggregates"
        )
    kind = aggregated.schema["value"].dataType
    if not isinstance(kind, T.NumericType | T.BooleanType):
        raise UserError(f"{owner}: expression {expr!r} must give a number, however: {kind.simpleString()}")
    return kind


def check_scalar(frame: DataFrame, expr: str, *, kind: str, owner: str) -> None:
    """Check an attribute's expression over the snapshots ``frame``; ``kind`` is ``bucket`` or ``vocabulary``.

    Raises:
        UserError: it does not parse or resolve, has not the kind's type, depends on chance or on the clock, or sees
            more than its own row.
    """
    selected = _analysed(lambda: frame.select(F.expr(expr)), expr, owner)
    _refuse_other_rows(selected, frame, "Project", expr, owner)
    if len(selected.columns) != 1:
        raise UserError(f"{owner}: expression {expr!r} must give one value, however: {len(selected.columns)}")
    allowed: Any = T.NumericType | T.BooleanType
    if kind == "vocabulary":
        allowed |= T.StringType | T.DateType
    actual = selected.schema[0].dataType
    if not isinstance(actual, allowed):
        wanted = "a number" if kind == "bucket" else "a word, a number or a date"
        raise UserError(f"{owner}: expression {expr!r} must give {wanted}, however: {actual.simpleString()}")


def finite_double(column: Column, what: str) -> Column:
    """``column`` as a double; NaN and infinities, which have no bucket, stop the job when it meets them."""
    value = column.cast("double")
    message = f"{what} gives NaN or infinity: mend the rows, or make them null in the expression, which means missing"
    return F.when(value.isNull() | (F.abs(value) < float("inf")), value).otherwise(F.raise_error(F.lit(message)))


def power_of_ten(exponent: int) -> Column:
    return F.lit(Decimal(10) ** exponent)


def _analysed(build: Callable[[], DataFrame], expr: str, owner: str) -> DataFrame:
    check_expression(expr, owner=owner)
    try:
        return build()
    except (AnalysisException, ParseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{owner}: expression {expr!r} is not valid: {reason}") from None


def _refuse_other_rows(frame: DataFrame, before: DataFrame, node: str, expr: str, owner: str) -> None:
    """Refuse what is not a function of the rows that the expression is given, the same in every run.

    Window functions, generators and file metadata show in the plan: something else than one ``node`` over ``before``.
    """
    plan, input_plan = (f._jdf.queryExecution().analyzed() for f in (frame, before))
    children = list(_items(plan.children()))
    is_plain = plan.getClass().getSimpleName() == node and children[0].equals(input_plan)
    for expression in _expressions(plan):
        name = expression.getClass().getSimpleName()
        if clock := CLOCKS.get(name):
            raise UserError(
                f"{owner}: expression {expr!r} reads the clock ({clock}), so that a rerun would give other rows: "
                "use the dates of the rows, or as_of in a scenario attribute"
            )
        if name in SURROUNDINGS or _is_source_of_chance(expression):
            raise UserError(
                f"{owner}: expression {expr!r} uses {name}, whose result is another one in every run or place: "
                "use the columns of the rows alone"
            )
    if not is_plain:
        wanted = "one aggregate over the rows of a day" if node == "Aggregate" else "one value of the row"
        raise UserError(
            f"{owner}: expression {expr!r} must be {wanted}, without window functions, generators and file metadata"
        )


def _is_source_of_chance(expression: Any) -> bool:
    return not expression.deterministic() and all(child.deterministic() for child in _items(expression.children()))


def _aggregate_functions(frame: DataFrame) -> Iterator[tuple[str, bool]]:
    """Class name of every aggregate function in the frame's plan, and whether it works on floating-point values."""
    for expression in _expressions(frame._jdf.queryExecution().analyzed()):
        if expression.getClass().getSimpleName() == "AggregateExpression":
            function = expression.aggregateFunction()
            inputs = [child.dataType().simpleString() for child in _items(function.children())]
            yield function.getClass().getSimpleName(), any(kind in ("double", "float") for kind in inputs)


def _expressions(plan: Any) -> Iterator[Any]:
    """Every expression in the top node of an analysed plan, with all that is nested in it."""
    pending = list(_items(plan.expressions()))
    while pending:
        expression = pending.pop()
        pending += _items(expression.children())
        yield expression


def _items(sequence: Any) -> Iterator[Any]:
    return (sequence.apply(index) for index in range(sequence.length()))
