"""The advertisers of one predicted day, as files that a page without a server loads one at a time.

A page opened from a disk may not fetch, but may add script tags: every file is a script that hands its data over.

Letters: N rows, A advertisers, S scenarios, M tasks, W weeks, F forecasts kept, k expert views.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, task_columns
from m2m_model.contracts.store import FileEntry, Folder, Manifest, read_manifest
from training.checkpoint import LoadedModel
from training.dashboard.explain import explain, explainable
from training.published import paired_files, parquet_files, read_rows, read_spec
from training.scoring import Source

KEPT = ("mean", "p10", "p50", "p90")
DIGITS = 4
"""Significant digits of what a page shows."""


@dataclass(frozen=True, kw_only=True)
class AdvertiserDay:
    """Rows of a predicted day, in the order of their advertisers."""

    spec: DatasetSpec
    ids: Sequence[str]
    """A ids, ascending."""
    advertiser: Int[np.ndarray, "N"]
    """Positions among ``ids``, ascending."""
    scenario: np.ndarray
    eligible: Bool[np.ndarray, "N"]
    history: Float[np.ndarray, "N M W"]
    """Weekly values, the oldest first."""
    forecasts: Float[np.ndarray, "N M F"]
    """:data:`KEPT`; NaN where the model gives none."""
    attention: Float[np.ndarray, "N M k"]
    """NaN of rows that are not explained; k = 0 of a model that has none."""
    knowledge: Float[np.ndarray, "N K"]
    """Likewise."""

    def files(self, per_file: int) -> Iterator[dict[str, Any]]:
        """What the page of each advertiser shows, ``per_file`` at a time."""
        bounds = np.searchsorted(self.advertiser, np.arange(len(self.ids) + 1))
        history, forecasts = _rounded(self.history), _rounded(self.forecasts)
        attention, knowledge = _rounded(self.attention), self.knowledge
        for first in range(0, len(self.ids), per_file):
            found = {}
            for position in range(first, min(first + per_file, len(self.ids))):
                rows = slice(bounds[position], bounds[position + 1])
                found[self.ids[position]] = {
                    "scenarios": self.scenario[rows].tolist(),
                    "eligible": self.eligible[rows].tolist(),
                    "history": _plain(history[rows]),
                    "forecasts": _plain(forecasts[rows]),
                    "attention": _plain(attention[rows]),
                    "alike": _plain(similarity(knowledge[rows])),
                }
            yield found


def similarity(knowledge: Float[np.ndarray, "R K"]) -> Float[np.ndarray, "R R"]:
    """Cosines between rows; NaN with a row that is not explained."""
    lengths = np.linalg.norm(knowledge, axis=1, keepdims=True)
    unit = knowledge / np.where(lengths > 0, lengths, 1.0)
    cosines: Float[np.ndarray, "R R"] = (unit @ unit.T).round(3)
    return cosines


def read_advertisers(
    *, features: str, predictions: str, model: LoadedModel | None, explained_rows: int
) -> AdvertiserDay:
    """The rows of a published day; the ``explained_rows`` of the largest advertisers are put through the model again.

    ``model``: None, or one of another spec, explains nothing.

    Raises:
        UserError: the day is not published, or its predictions are not of its features.
    """
    day, scored = Folder.at(features), Folder.at(predictions)
    made = read_manifest(day, kind="features", build_hint="run m2m build --date D")
    published = read_manifest(scored, kind="predictions", build_hint="run m2m predict --date D")
    if published.content["features_generation"] != made.generation:
        raise UserError(f"{predictions} is not of the features that are published now: predict the day again")
    spec = read_spec(day, made)
    columns = ["advertiser_id", "scenario_id", "eligible", *task_columns(spec, "history")]
    rows = _table(day, parquet_files(made), columns)
    forecasts = _table(scored, [forecasts for _, forecasts in paired_files(made, published)], None)
    ids, advertiser = np.unique(np.array(rows["advertiser_id"].to_pylist()).astype(str), return_inverse=True)
    history = np.stack([_weeks(rows[name], spec) for name in task_columns(spec, "history")], axis=1)
    attention, knowledge = _explained(day, made, model, spec, _largest(advertiser, history, explained_rows))
    order = np.argsort(advertiser, kind="stable")
    return AdvertiserDay(
        spec=spec,
        ids=ids.tolist(),
        advertiser=advertiser[order],
        scenario=np.array(rows["scenario_id"].to_pylist(), str)[order],
        eligible=rows["eligible"].to_numpy()[order],
        history=history[order],
        forecasts=np.stack([_kept(forecasts, task) for task in spec.task_names], axis=1)[order],
        attention=attention[order],
        knowledge=knowledge[order],
    )


def script(function: str, *arguments: Any) -> bytes:
    """A script that calls ``function`` of the pages with data. Its text is ASCII, and holds no NaN."""
    texts = (json.dumps(argument, allow_nan=False, separators=(",", ":")) for argument in arguments)
    return f"Dashboard.{function}({','.join(texts)});".encode()


def _largest(advertiser: Int[np.ndarray, "N"], history: Float[np.ndarray, "N M W"], rows: int) -> Bool[np.ndarray, "N"]:
    """All rows of the advertisers with the largest recent sum of the first task, up to about ``rows`` rows."""
    sizes = np.bincount(advertiser, weights=history[:, 0].sum(axis=1))
    counts = np.bincount(advertiser)
    order = np.argsort(-sizes, kind="stable")
    chosen = np.zeros(len(sizes), bool)
    chosen[order[counts[order].cumsum() <= rows]] = True
    found: Bool[np.ndarray, N] = chosen[advertiser]
    return found


def _explained(
    day: Folder, made: Manifest, model: LoadedModel | None, spec: DatasetSpec, wanted: Bool[np.ndarray, "N"]
) -> tuple[np.ndarray, np.ndarray]:
    m2m = None if model is None or model.spec.feature_fingerprint != spec.feature_fingerprint else explainable(model)
    if m2m is None or not wanted.any():
        return np.zeros((len(wanted), len(spec.tasks), 0)), np.zeros((len(wanted), 0))
    source = Source(location=day.uri, spec=spec, batch_size=8192)
    attention = np.full((len(wanted), len(spec.tasks), m2m.config.experts), np.nan)
    knowledge = np.full((len(wanted), m2m.config.knowledge_dim), np.nan)
    first = 0
    for entry in parquet_files(made):
        for table in source.tables(entry):
            rows = first + np.flatnonzero(wanted[first : first + len(table)])
            if len(rows):
                found = explain(m2m, source.batch(table.take(pa.array(rows - first))))
                attention[rows], knowledge[rows] = found.attention, found.knowledge
            first += len(table)
    return attention, knowledge


def _table(folder: Folder, entries: Sequence[FileEntry], columns: list[str] | None) -> pa.Table:
    return pa.concat_tables([read_rows(folder, entry, columns) for entry in entries])


def _weeks(column: pa.ChunkedArray, spec: DatasetSpec) -> Float[np.ndarray, "N W"]:
    flat = pa.concat_arrays([chunk.flatten() for chunk in column.chunks]).to_numpy(zero_copy_only=False)
    weeks: Float[np.ndarray, "N W"] = flat.reshape(-1, spec.history_size)[:, spec.history_weeks - 1 :: -1]
    return weeks


def _kept(forecasts: pa.Table, task: str) -> Float[np.ndarray, "N F"]:
    names = [f"{task}_{kind}" for kind in KEPT]
    nothing = np.full(len(forecasts), np.nan)
    return np.stack([forecasts[n].to_numpy() if n in forecasts.column_names else nothing for n in names], axis=1)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To :data:`DIGITS` significant digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(values != 0, np.floor(np.log10(np.abs(values))), 0.0)
    scale = 10.0 ** np.clip(DIGITS - 1 - np.nan_to_num(power), -12, 12)
    rounded: np.ndarray = np.round(values * scale) / scale
    return rounded


def _plain(values: np.ndarray) -> Any:
    """Nested lists, null for what is no number."""
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()
