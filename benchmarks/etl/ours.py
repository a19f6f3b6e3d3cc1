"""The real dataset build, published and all."""

from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.config import EtlConfig


def build(spark: SparkSession, config: EtlConfig, raw: str, out: str) -> None:
    build_dataset(spark, config, raw=raw, out=out)
