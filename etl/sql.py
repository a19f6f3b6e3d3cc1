"""What an expression may never be, wherever it comes from: a config, or a spec that came with somebody's dataset.

An expression computes a value from the rows that it is given. A statement, a query of its own (which reads any table
or file) and a call into the JVM are more than that. Spark's own parse tree tells, so that neither case, quotes nor
comments hide them. What expressions mean and may give is checked in :mod:`etl.expressions`.
"""

from collections.abc import Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.errors import ParseException
from pyspark.sql import SparkSession

from m2m_model.contracts.errors import UserError

QUERY = "org.apache.spark.sql.catalyst.expressions.PlanExpression"
CALLS = {"reflect", "java_method", "try_reflect"}
"""Functions that call any static Java method."""


def check_expression(expr: str, *, owner: str) -> None:
    """Check that ``expr`` is an expression and no more.

    Raises:
        UserError: it is not.
    """
    spark: Any = SparkSession.active()
    try:
        root = spark._jsparkSession.sessionState().sqlParser().parseExpression(expr)
    except ParseException as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{owner}: expression {expr!r} is not valid: {reason}") from None
    for node in _tree(root):
        name = node.getClass().getSimpleName()
        if is_instance_of(spark.sparkContext._gateway, node, QUERY):
            raise UserError(f"{owner}: expression {expr!r} holds a subquery: use the table's own columns")
        if name == "ExpressionWithUnresolvedIdentifier":
            raise UserError(f"{owner}: expression {expr!r} computes a name: write the column or function itself")
        if name == "UnresolvedFunction" and (called := node.nameParts().last().lower()) in CALLS:
            raise UserError(f"{owner}: expression {expr!r} calls {called}, which runs Java code: use SQL functions")


def _tree(root: Any) -> Iterator[Any]:
    pending = [root]
    while pending:
        node = pending.pop()
        children = node.children()
        pending += [children.apply(index) for index in range(children.length())]
        yield node
