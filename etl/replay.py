"""The kernel of a replaying build: features as known on each as-of day, labels from matured history.

Facts come in versions (:mod:`etl.arrivals`), each with the whole daily value as known from as-of day ``seen`` on. Every
as-of day takes the latest version known by it, and goes through the same kernel as any other build.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from etl.calendars import Calendars
from etl.chunk import Facts
from etl.plan import AsOf, WindowPlan
from etl.windows import chosen_pairs, feature_columns, label_columns, profile_ids, record_batch
from m2m_model.contracts.spec import DatasetSpec


def replayed_rows(facts: Facts, plan: WindowPlan) -> Iterator[tuple[AsOf, pa.RecordBatch, np.ndarray]]:
    """Like :func:`etl.windows.dataset_rows`, but features as known on each as-of day; and how matured ones differ.

    The last item counts per name of :func:`compared_features` [features, 4]: ids, ids that differ, rows, rows that
    differ.
    """
    truth, profile = Calendars(facts.matured(), plan), profile_ids(facts, plan)
    for index, as_of in enumerate(plan.as_of):
        one = replace(
            plan,
            as_of=(as_of,),
            attribute_ids=plan.attribute_ids[index : index + 1],
            live=plan.live[index : index + 1],
        )
        calendars = Calendars(facts.known(as_of.day, first=one.start), one)
        p, eligible = chosen_pairs(calendars, 0)
        if not len(p):
            continue
        columns = feature_columns(calendars, profile, 0, p)
        truly = feature_columns(truth, profile, index, p)
        _, truly_eligible = chosen_pairs(truth, index)
        counts = _differences(columns, truly, plan.spec)
        counts.append((0, 0, eligible.size, int((eligible != truly_eligible).sum())))
        columns |= label_columns(truth, index, p)
        yield as_of, record_batch(columns, plan), np.array(counts, np.int64)


def compared_features(spec: DatasetSpec) -> list[str]:
    """Names of what replay compares: sequence columns, histories, and eligibility over all pairs."""
    names = [f"{name}.{column.name}" for name in ("behavior", "performance") for column in spec.sequence(name)]
    return [*names, *(f"history_{task}" for task in spec.task_names), "eligible"]


def difference_table(spec: DatasetSpec, counts: np.ndarray) -> list[dict[str, Any]]:
    """Shares of rows and ids that differ between what was known and matured history, per feature.

    ``counts``: summed over the build, [features, 4].
    """
    return [
        {
            "feature": name,
            "rows": int(rows),
            "rows_differing": _share(rows_differing, rows),
            "ids_differing": _share(ids_differing, ids) if ids else None,
        }
        for name, (ids, ids_differing, rows, rows_differing) in zip(
            compared_features(spec), counts.tolist(), strict=True
        )
    ]


def _differences(known: dict[str, Any], truly: dict[str, Any], spec: DatasetSpec) -> list[tuple[int, int, int, int]]:
    counts = []
    for name in ("behavior_ids", "performance_ids"):
        differs = known[name] != truly[name]  # [rows, T, columns]
        for column in range(differs.shape[2]):
            of_column = differs[:, :, column]
            counts.append((of_column.size, int(of_column.sum()), len(of_column), int(of_column.any(axis=1).sum())))
    for task in spec.task_names:
        differs = (known[f"history_{task}"] != truly[f"history_{task}"]).any(axis=1)
        counts.append((0, 0, len(differs), int(differs.sum())))
    return counts


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
