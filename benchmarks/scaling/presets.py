"""Named sizes for scaling runs, on rows of the paper's shape."""

from pathlib import Path

from benchmarks.synthetic import Shape, make_spec, write_dataset
from m2m_model.config import ModelConfig

PRESETS = {
    "small": ModelConfig(
        embedding_dim=8, experts=4, view_dim=32, knowledge_dim=16, meta_layers=2, tower_layers=1, offset="history"
    ),
    "paper_shared": ModelConfig(share_meta_across_tasks=True, offset="history"),
    "paper_per_task": ModelConfig(offset="history"),
}
"""``small`` fits two workers on two cores many times over; the others are the paper's sizes (5.1.3)."""


def dataset(work: Path, *, rows: int, row_group_rows: int) -> str:
    """Location of a published dataset of the paper's row shape, made if it is not there."""
    location = work / f"rows_{rows}_{row_group_rows}"
    if not (location / "manifest.json").exists():
        sizes = {"train": rows, "validation": row_group_rows}
        write_dataset(
            str(location), make_spec(Shape()), rows=sizes, rows_per_file=rows // 8, row_group_rows=row_group_rows
        )
    return str(location)
