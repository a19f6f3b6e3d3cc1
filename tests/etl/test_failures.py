"""What a task of Spark meets becomes what the driver would have met."""

import errno
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from etl.failures import spark_failures
from jobs.config import run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import store_failed

pytestmark = pytest.mark.spark
STORE = "When initiating multiple part upload: AWS Error NETWORK_CONNECTION during CreateMultipartUpload operation"


def run_task_that_raises(spark: SparkSession, error: Exception) -> None:
    def raises(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise error

    with spark_failures():
        spark.range(1).mapInArrow(raises, "id long").collect()


def test_a_full_disk(spark: SparkSession) -> None:
    with pytest.raises(OSError, match="No space") as raised:
        run_task_that_raises(spark, OSError(errno.ENOSPC, "No space left on device"))
    assert raised.value.errno == errno.ENOSPC


def test_a_store_that_is_away(spark: SparkSession) -> None:
    with pytest.raises(OSError, match="AWS Error") as raised:
        run_task_that_raises(spark, OSError(STORE))
    assert store_failed(raised.value)


def test_a_users_error(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"^clicks must not be negative$"):
        run_task_that_raises(spark, UserError("clicks must not be negative"))


def test_the_job_ends_with_the_status_of_a_failed_store(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    def job() -> int:
        run_task_that_raises(spark, OSError(STORE))
        return 0

    assert run_job(job) == ExitCode.STORE_FAILED
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the object store failed (When initiating")
