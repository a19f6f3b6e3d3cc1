"""Best forecasts of given samples, block by block in Spark tasks: the truth as Parquet, keyed like predictions.

A row is a sample's best forecasts under one ``floor`` and ``part``. Floors: ``bayes`` knows the latent state of the
as-of day, ``observable`` knows what can be seen by then (less the availability lag). ``part`` 0 uses all draws; parts 1
to Q use the draws of one of the Q independent filters each (for ``bayes``: a Q-th of the draws), so that their spread
gives the Monte Carlo error.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from etl.config import EtlConfig, FloorsConfig, SyntheticConfig
from etl.sources.synthetic.generate import make_world, map_blocks, synthetic_config
from etl.sources.synthetic.particle_filter import FilterSize
from etl.sources.synthetic.posterior import posterior_states
from etl.sources.synthetic.simulate import BLOCK_ADVERTISERS, TRUTH, Block, block_sizes, simulate, stream
from etl.sources.synthetic.truth import FORECASTS, TASKS, Samples, States, best_forecasts, draw_labels, true_states
from etl.sources.synthetic.world import World
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder

FLOORS = ("bayes", "observable")
COLUMNS = [f"{task}_{forecast}" for task in TASKS for forecast in FORECASTS]
SCHEMA = pa.schema(
    [
        ("advertiser_id", pa.int64()),
        ("scenario_id", pa.string()),
        ("as_of", pa.date32()),
        ("floor", pa.string()),
        ("part", pa.int32()),
        *((name, pa.float64()) for name in COLUMNS),
    ]
)
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Job:
    """What a task needs: ``keys`` are the samples of each block as Arrow IPC bytes."""

    world: World
    config: SyntheticConfig
    horizon: int
    lag: int
    keys: Mapping[int, bytes]
    folder: str


def write_truth(spark: SparkSession, config: EtlConfig, samples: pa.Table, *, folder: str) -> list[str]:
    """Write the best forecasts of ``samples`` under ``folder``; returns the paths of the files.

    ``samples`` has advertiser_id, scenario_id, as_of and a ``label_<task>`` per task of :data:`TASKS`.

    Raises:
        UserError: the labels are not those of the world that ``config`` describes.
    """
    world, synthetic = make_world(config.raw), synthetic_config(config)
    number = pc.divide(pc.subtract(samples["advertiser_id"], 1), BLOCK_ADVERTISERS)
    keys = {}
    for block in pc.unique(number).to_pylist():
        sink = io.BytesIO()
        chosen = samples.filter(pc.equal(number, block))
        with pa.ipc.new_stream(sink, chosen.schema) as writer:
            writer.write_table(chosen)
        keys[block] = sink.getvalue()
    sequence = config.sequence
    job = Job(world, synthetic, sequence.horizon, sequence.availability_lag_days, keys, folder)
    results = map_blocks(spark, partial(write_blocks, job=job), len(block_sizes(synthetic.advertisers)))
    if wrong := [row for row in results if row.startswith("error: ")]:
        raise UserError(wrong[0].removeprefix("error: "))
    return sorted(results)


def write_blocks(batches: Iterator[pa.RecordBatch], job: Job) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column(0).to_pylist():
            if number in job.keys:
                yield pa.RecordBatch.from_pydict({"result": [_write_block(job, number)]})


def _write_block(job: Job, number: int) -> str:
    world, config = job.world, job.config
    block = simulate(world, seed=config.seed, block=number, count=block_sizes(config.advertisers)[number])
    table = pa.ipc.open_stream(job.keys[number]).read_all()
    by_day = _by_day(world, block, table)
    if problem := _other_labels(block, table, by_day, job.horizon):
        return f"error: {problem}"
    rng = stream(config.seed, number, TRUTH)
    floors = config.floors
    parts = [_rows(world, block, *_bayes(block, day), "bayes", job, rng) for day in by_day.values()]
    parts += [
        _rows(world, block, samples, states, "observable", job, rng)
        for samples, states in _observable(world, block, by_day, job, floors, rng)
    ]
    path = f"block-{number:06d}.parquet"
    folder = Folder.at(job.folder)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
    folder.make_parents(path)
    folder.replace_bytes(path, sink.getvalue().to_pybytes())
    return path


def _by_day(world: World, block: Block, table: pa.Table) -> dict[int, Samples]:
    """The samples of each as-of day, in the order of the table's rows."""
    first = world.first_day.toordinal() - 719_163
    day = table["as_of"].cast(pa.int32()).to_numpy() - first
    advertiser = table["advertiser_id"].to_numpy() - block.population.first_id
    names = pa.array(world.parameters.names, pa.string())
    scenario = pc.index_in(table["scenario_id"], value_set=names).to_numpy()
    return {
        int(one): Samples(int(one), advertiser[day == one], scenario[day == one].astype(np.int64))
        for one in np.unique(day)
    }


def _other_labels(block: Block, table: pa.Table, by_day: Mapping[int, Samples], horizon: int) -> str:
    """What is wrong if the labels of ``table`` are not the block's, else nothing."""
    expected = np.concatenate([true_labels(block, samples, horizon) for samples in by_day.values()])
    order = np.argsort(table["as_of"].cast(pa.int32()).to_numpy(), kind="stable")
    for index, task in enumerate(TASKS):
        stated = table[f"label_{task}"].to_numpy()[order]
        different = int((np.abs(stated - expected[:, index]) > TOLERANCE).sum())
        if different:
            return (
                f"label_{task} must be what the synthetic world of this config brought about, however: it differs on "
                f"{different} of {len(stated)} samples: make the raw tables and the dataset again with this config"
            )
    return ""


def true_labels(block: Block, samples: Samples, horizon: int) -> np.ndarray:
    """[N, M]: what happened in the ``horizon`` days after ``samples.day``."""
    window = (slice(samples.day + 1, samples.day + horizon + 1), samples.advertiser, samples.scenario)
    sums = [getattr(block, name)[window].sum(axis=0) for name in ("impressions", "clicks", "spend", "gmv")]
    active = (block.impressions[window] > 0).sum(axis=0)
    return np.stack([sums[0], sums[1], sums[2] / 100, sums[3] / 100, active], axis=-1)


def _bayes(block: Block, samples: Samples) -> tuple[Samples, States]:
    return samples, true_states(block, samples)


def _observable(
    world: World, block: Block, by_day: Mapping[int, Samples], job: Job, floors: FloorsConfig, rng: np.random.Generator
) -> Iterator[tuple[Samples, States]]:
    size = FilterSize(filters=floors.filters, particles=floors.particles)
    known_on = {day - job.lag: samples for day, samples in by_day.items()}
    return posterior_states(world, block, known_on, size=size, draws=floors.draws, rng=rng)


def _rows(
    world: World, block: Block, samples: Samples, states: States, floor: str, job: Job, rng: np.random.Generator
) -> pa.Table:
    floors = job.config.floors
    labels = draw_labels(world, block.population, samples, states, draws=floors.draws, horizon=job.horizon, rng=rng)
    parts = [labels, *np.split(labels, floors.filters, axis=1)]
    return pa.concat_tables([_part(world, block, samples, floor, i, best_forecasts(p)) for i, p in enumerate(parts)])


def _part(world: World, block: Block, samples: Samples, floor: str, part: int, forecasts: np.ndarray) -> pa.Table:
    rows = len(samples)
    names: Sequence[str] = world.parameters.names
    keys = {
        "advertiser_id": block.population.first_id + samples.advertiser,
        "scenario_id": pa.array(names, pa.string()).take(pa.array(samples.scenario)),
        "as_of": pa.array(np.full(rows, world.first_day.toordinal() - 719_163 + samples.day, np.int32), pa.date32()),
        "floor": pa.array([floor] * rows, pa.string()),
        "part": np.full(rows, part, np.int32),
    }
    values = dict(zip(COLUMNS, forecasts.reshape(rows, -1).T, strict=True))
    return pa.table(keys | values, schema=SCHEMA)
