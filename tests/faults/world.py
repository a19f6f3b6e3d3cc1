"""A run with a published model and a day's features, as the prediction job finds it, and what it publishes."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from m2m_model.contracts.schema import KEYS, sorted_rows_hash
from m2m_model.contracts.store import Folder, Manifest, below, read_manifest
from m2m_model.zoo.registry import build_model
from tests.training.run_toml import write_run
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot

PREDICT = """
[predict]
grace_seconds = {grace}
batch_size = {batch_size}
"""
FEATURES = Path(f"features/dt={DAY}")
PREDICTIONS = Path(f"predictions/dt={DAY}")
PARTS = 3


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day's rows as a reader finds them; doubled or missing rows make days unequal."""

    keys: tuple[tuple[object, ...], ...]
    """Sorted."""
    rows: str
    """Hash of all columns, in the order of the keys."""


def ready_run(
    config: Path, out: str, *, rows: int = 20, batch_size: int = 32, grace: float = 0, seed: int = 0
) -> list[str]:
    """Publish the model and the features below ``out``; returns the prediction job's arguments."""
    write_run(config, out=out, more=PREDICT.format(batch_size=batch_size, grace=grace))
    torch.manual_seed(0)
    publish_model(
        below(out, "model"),
        snapshot=Snapshot(model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(best_loss=1.0)),
        spec=SPEC,
        content=run_content(MODEL, TrainingConfig(), dataset_generation="g"),
        rules=same_rules(0.5, 0.9),
        grace_seconds=0,
    )
    publish_features(out, rows=rows, seed=seed)
    return ["--config", str(config), "--date", str(DAY)]


def publish_features(out: str, *, rows: int = 20, seed: int) -> Manifest:
    """``PARTS`` files of ``rows`` rows."""
    tables = {
        f"part-{part}": (random_table(rows, seed=PARTS * seed + part, labels=False), {"dt": str(DAY)})
        for part in range(PARTS)
    }
    return publish_tables(below(out, str(FEATURES)), "features", tables)


def read_day(out: str, what: Path = PREDICTIONS) -> Day:
    """The day's predictions or features, following the manifest."""
    folder = Folder.at(below(out, str(what)))
    manifest = read_manifest(folder, kind=what.parts[0], build_hint="")
    paths = [file.path for file in manifest.files if file.path.endswith(".parquet")]
    table = pa.concat_tables([pq.read_table(pa.BufferReader(folder.read_bytes(path))) for path in paths])
    keys = sorted(zip(*(table[name].to_pylist() for name in KEYS), strict=True))
    return Day(keys=tuple(keys), rows=sorted_rows_hash(table))


def whole(out: str) -> bool:
    """Whether predictions have each row of the features once."""
    return read_day(out).keys == read_day(out, FEATURES).keys
