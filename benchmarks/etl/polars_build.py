"""The same dataset with Polars: a dense calendar, one flat list of ids per pair, a slice per as-of day."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from benchmarks.etl.world import BEHAVIOR, PERFORMANCE, TASKS
from etl.config import EtlConfig
from etl.split import SPLITS, as_of_days

KEY = ["advertiser_id", "scenario_id"]
SEQUENCES = {"behavior_ids": BEHAVIOR, "performance_ids": PERFORMANCE}


def build(config: EtlConfig, raw: str, out: str) -> None:
    """Write ``out/split=<split>/dt=<day>/part-0.parquet`` for every as-of day."""
    days = as_of_days(config)
    first_day = config.raw.first_day
    calendar_days = (config.raw.last_day - first_day).days + 1
    facts = pl.read_parquet(f"{raw}/daily/*.parquet").with_columns(
        day=(pl.col("day") - first_day).dt.total_days().cast(pl.Int32)
    )
    facts = facts.group_by([*KEY, "day"]).agg(pl.col(name).sum() for name in (*BEHAVIOR, *PERFORMANCE))
    edges = fit_edges(facts.filter(pl.col("day") <= (days["train"][-1] - first_day).days), config)
    pairs = per_pair(facts, edges, calendar_days)
    for split in SPLITS:
        for day in days[split]:
            write_day(pairs, config, day, Path(out, f"split={split}", f"dt={day}"))


def fit_edges(facts: pl.DataFrame, config: EtlConfig) -> dict[str, pl.Series]:
    """Exact quantile edges over non-zero values, as ``etl.discretize`` defines them."""
    edges = {}
    for name, feature in {**config.features.behavior, **config.features.performance}.items():
        values = facts[name].cast(pl.Float64).filter(facts[name] != 0).sort()
        ranks = [-(-k * len(values) // feature.buckets) - 1 for k in range(1, feature.buckets)]
        edges[name] = values[ranks].unique().sort() if len(values) else values
    return edges


def per_pair(facts: pl.DataFrame, edges: Mapping[str, pl.Series], calendar_days: int) -> pl.DataFrame:
    """One row per pair, each over the whole calendar: flat lists of ids, and lists of activity and of the tasks."""
    pairs = facts.select(KEY).unique().sort(KEY).with_row_index("pair")
    calendar = pl.DataFrame({"day": pl.int_range(calendar_days, dtype=pl.Int32, eager=True)})
    dense = (
        pairs.select("pair")
        .join(calendar, how="cross", maintain_order="left_right")
        .join(encoded(facts.join(pairs, on=KEY), edges), on=["pair", "day"], how="left", maintain_order="left")
        .with_columns(pl.col(f"{name}_id").fill_null(1) for name in edges)
        .with_columns(pl.col("active", *TASKS).fill_null(0))
    )
    # Every pair has every day, in order, so that a column is a matrix.
    return pairs.with_columns(
        *(
            dense.select(pl.concat_arr(f"{name}_id" for name in names).explode())
            .to_series()
            .reshape((len(pairs), calendar_days * len(names)))
            .arr.to_list()
            .alias(column)
            for column, names in SEQUENCES.items()
        ),
        *(dense[name].reshape((len(pairs), calendar_days)).arr.to_list() for name in ("active", *TASKS)),
    )


def encoded(facts: pl.DataFrame, edges: Mapping[str, pl.Series]) -> pl.DataFrame:
    """Facts with an id per feature, beside activity and the tasks' values."""
    ids = (
        pl.when(pl.col(name) == 0)
        .then(1)
        .otherwise(2 + edge.search_sorted(facts[name].cast(pl.Float64), side="left"))
        .cast(pl.Int8)
        .alias(f"{name}_id")
        for name, edge in edges.items()
    )
    return facts.select("pair", "day", *TASKS, *ids, active=pl.lit(1, pl.Int64))


def write_day(pairs: pl.DataFrame, config: EtlConfig, day: datetime.date, folder: Path) -> None:
    end, length, horizon = (day - config.raw.first_day).days + 1, config.sequence.length, config.sequence.horizon
    begin = end - length
    rows = pairs.filter(
        pl.col("active").list.slice(begin, length).list.sum() >= config.population.min_active_days
    ).select(
        *KEY,
        pl.lit(day).alias("as_of"),
        *(pl.col(column).list.slice(begin * len(names), length * len(names)) for column, names in SEQUENCES.items()),
        *(pl.col(task).list.slice(end, horizon).list.sum().cast(pl.Float64).alias(f"label_{task}") for task in TASKS),
    )
    folder.mkdir(parents=True)
    rows.write_parquet(folder / "part-0.parquet", compression="zstd", row_group_size=config.dataset.row_group_rows)
