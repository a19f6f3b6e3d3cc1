"""How well the labels of a synthetic dataset's test split can be forecast at all: ``<out>/floors/floors.csv``.

One line per floor, scenario and task, over eligible rows, as ``metrics.csv`` has them: ``nmae`` is that of the
conditional medians and ``smape`` that of the best forecasts for SMAPE, both on the test labels as they came. ``_se`` is
the Monte Carlo error alone: compare with a model's metrics on the same rows. The forecasts lie beside it as Parquet.
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.session import build_session
from etl.sources.synthetic.floors import FLOORS, write_truth
from etl.sources.synthetic.generate import synthetic_config
from etl.sources.synthetic.simulate import BLOCK_ADVERTISERS
from etl.sources.synthetic.truth import TASKS
from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from training.dataset import open_split
from training.metrics import HEADLINE, OVERALL, MetricRow, MetricSums

FLOORS_CSV = "floors.csv"
KEYS = ("advertiser_id", "scenario_id", "as_of")
LABELS = [f"label_{task}" for task in TASKS]


@dataclass(frozen=True, kw_only=True)
class FloorRow:
    """One line of ``floors.csv``."""

    floor: str
    scenario: str
    task: str
    nmae: float
    smape: float
    n: int
    nmae_se: float
    smape_se: float


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argument_parser(__doc__).parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    if tuple(config.tasks) != TASKS:
        raise UserError(f"floors are known for the tasks {list(TASKS)}, however: the run has {list(config.tasks)}")
    floors = synthetic_config(config).floors
    samples = _eligible_samples(config, floors.blocks)
    out = Folder.at(config.run.path("floors"))
    out.filesystem.delete_dir_contents(out.path, missing_dir_ok=True)
    spark = build_session(config.spark, app_name=f"{config.run.name}: floors")
    try:
        files = write_truth(spark, config, samples, folder=f"{out.uri}/truth")
    finally:
        spark.stop()
    truth = pa.concat_tables([pq.read_table(out.join("truth", name), filesystem=out.filesystem) for name in files])
    rows = list(floor_rows(truth, samples, parts=floors.filters))
    out.replace_bytes(FLOORS_CSV, _to_csv(rows).encode())
    print(f"floors of {len(samples):,} eligible test rows are in {out.uri}/{FLOORS_CSV}; macro averages:")
    for row in rows:
        if row.scenario == OVERALL:
            print(
                f"  {row.floor:<12}{row.task:<14}NMAE {row.nmae:.4f} ± {row.nmae_se:.4f}"
                f"  SMAPE {row.smape:.4f} ± {row.smape_se:.4f}"
            )
    return 0


def _eligible_samples(config: RunConfig, blocks: int) -> pa.Table:
    """Keys and labels of the eligible test rows, of the first ``blocks`` blocks or (0) of all."""
    split = open_split(config.run.path("dataset"), "test")
    tables = []
    for entry in split.files:
        with split.folder.filesystem.open_input_file(split.folder.join(entry.path)) as stream:
            tables.append(pq.ParquetFile(stream).read(columns=[*KEYS, "eligible", *LABELS]))
    samples = pa.concat_tables(tables)
    samples = samples.filter(samples["eligible"]).drop_columns(["eligible"])
    if blocks:
        samples = samples.filter(pc.less_equal(samples["advertiser_id"], blocks * BLOCK_ADVERTISERS))
    return samples.sort_by([(key, "ascending") for key in KEYS])


def floor_rows(truth: pa.Table, samples: pa.Table, *, parts: int) -> Iterator[FloorRow]:
    """The floors of each cell and their macro averages; ``parts`` independent parts give the Monte Carlo error."""
    for floor in FLOORS:
        of_floor = truth.filter(pc.equal(truth["floor"], floor))
        whole = _metrics(of_floor, samples, part=0)
        apart = [_metrics(of_floor, samples, part=part) for part in range(1, parts + 1)]
        for index, (nmae, smape) in enumerate(whole):
            yield FloorRow(
                floor=floor,
                scenario=nmae.scenario,
                task=nmae.task,
                nmae=nmae.nmae,
                smape=smape.smape,
                n=nmae.n,
                nmae_se=_error([part[index][0].nmae for part in apart]),
                smape_se=_error([part[index][1].smape for part in apart]),
            )


def _metrics(truth: pa.Table, samples: pa.Table, *, part: int) -> list[tuple[MetricRow, MetricRow]]:
    """Headline metrics of the medians and of the best forecasts for SMAPE, line by line."""
    rows = truth.filter(pc.equal(truth["part"], part)).sort_by([(key, "ascending") for key in KEYS])
    assert all(rows[key].equals(samples[key].cast(rows.schema.field(key).type)) for key in KEYS)
    labels = np.stack([samples[name].to_numpy() for name in LABELS], axis=1)
    lines = []
    for forecast in ("median", "smape"):
        values = np.stack([rows[f"{task}_{forecast}"].to_numpy() for task in TASKS], axis=1)
        sums = MetricSums(tasks=TASKS)
        everyone, active = np.ones(len(samples), bool), np.ones(len(samples), np.int64)
        sums.add(np.array(samples["scenario_id"].to_pylist()), everyone, active, values, labels)
        lines.append([r for r in sums.rows(model="floor", forecast=forecast) if r.segment == HEADLINE])
    return list(zip(*lines, strict=True))


def _error(values: Sequence[float]) -> float:
    """Standard error of a mean of independent ``values``."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _to_csv(rows: Sequence[FloorRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[field.name for field in fields(FloorRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(run_job(main))
