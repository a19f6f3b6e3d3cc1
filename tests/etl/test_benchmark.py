"""The benchmark's contenders write equal rows, here at a size that proves the code and no speed."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.etl import naive_spark, ours, plain_spark, polars_build
from benchmarks.etl.growth import scaling_exponent
from benchmarks.etl.rows import Written, written
from benchmarks.etl.world import Shape, make_config, write_world

SHAPE = Shape(advertisers=12, days=40 + 7 + 7 * 12, shards=2, row_group_rows=8, seed=3)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_world(SHAPE, folder)
    return folder


@pytest.fixture(scope="module")
def expected(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    out = tmp_path_factory.mktemp("ours")
    ours.build(spark, make_config(SHAPE), str(raw), str(out))
    return written(out)


def same(found: Written, expected: Written) -> None:
    assert expected.rows > 100
    assert (found.rows, found.digest, found.codecs) == (expected.rows, expected.digest, expected.codecs)
    assert found.codecs == {"ZSTD"}
    assert found.row_groups >= found.rows / SHAPE.row_group_rows, "row groups must not be larger than asked"


@pytest.mark.spark
@pytest.mark.parametrize("contender", [plain_spark, naive_spark], ids=["plain", "naive"])
def test_spark_contenders_write_equal_rows(
    spark: SparkSession, raw: Path, tmp_path: Path, expected: Written, contender: object
) -> None:
    contender.build(spark, make_config(SHAPE), str(raw), str(tmp_path / "out"))  # type: ignore[attr-defined]
    same(written(tmp_path / "out"), expected)


@pytest.mark.spark
def test_polars_writes_equal_rows(raw: Path, tmp_path: Path, expected: Written) -> None:
    polars_build.build(make_config(SHAPE), str(raw), str(tmp_path / "out"))
    same(written(tmp_path / "out"), expected)


def test_the_exponent_of_known_growth() -> None:
    rows = [1000, 2000, 4000, 7000, 10_000]
    for true in (0.9, 1.0, 1.3):
        exponent, fixed = scaling_exponent(rows, [6.0 + (n / 1000) ** true for n in rows])
        assert exponent == pytest.approx(true, abs=0.02)
        assert fixed == pytest.approx(6.0, rel=0.05)
