"""How far features lie from what training saw: PSI and small pictures, from the histograms that builds publish."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2m_model.contracts.drift import LARGE, MODERATE, Histograms

WIDTH, HEIGHT = 168, 34
BARS = 42
"""Most bars of a picture; of more ids, neighbours stand in one bar."""
TRAINED, FOUND = "#c3ccd6", "#0072B2"


@dataclass(frozen=True, kw_only=True)
class DriftCell:
    text: str
    shade: str
    """CSS class: empty, ``moderate`` or ``large``."""


@dataclass(frozen=True, kw_only=True)
class DriftRow:
    feature: str
    picture: str
    """SVG: training as bars, the last column's rows as a line, heights as the root of the share."""
    cells: tuple[DriftCell, ...]


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """Rows from the worst feature to the best; columns are populations that are compared with training."""

    columns: tuple[str, ...]
    rows: tuple[DriftRow, ...]
    newest_days: int
    large: int
    """Features beyond the customary bound in the last column."""


def drift_report(dataset: Histograms, days: Mapping[str, Histograms]) -> DriftReport:
    """Drift of the dataset's other splits, and of feature ``days`` by name, from the dataset's training rows."""
    psi = dict(dataset.drift())
    found = {split: dataset.splits[split] for split in psi}
    for name, histograms in days.items():
        for split, values in histograms.drift(dataset).items():
            psi[name], found[name] = values, histograms.splits[split]
    columns = tuple(psi)
    names = sorted(dataset.splits["train"], key=lambda name: (-max((psi[c][name] for c in columns), default=0), name))
    rows = tuple(
        DriftRow(
            feature=name,
            picture=picture(dataset.splits["train"][name], found[columns[-1]][name] if columns else ()),
            cells=tuple(_cell(psi[column][name]) for column in columns),
        )
        for name in names
    )
    large = sum(psi[columns[-1]][name] > LARGE for name in names) if columns else 0
    return DriftReport(columns=columns, rows=rows, newest_days=dataset.newest_days, large=large)


def _cell(psi: float) -> DriftCell:
    return DriftCell(text=f"{psi:.3f}", shade="large" if psi > LARGE else "moderate" if psi > MODERATE else "")


def picture(trained: Sequence[int], found: Sequence[int]) -> str:
    """Two histograms of ids in one small SVG: ``trained`` as bars, ``found`` as a stepped line."""
    bars, line = _heights(trained), _heights(found)
    highest = max([*bars, *line, 1e-9])
    step = WIDTH / max(len(bars), 1)
    tops = [HEIGHT - 1 - (HEIGHT - 3) * height / highest for height in bars]
    filled = "".join(f"M{i * step:.1f} {HEIGHT}V{top:.1f}h{step * 0.86:.1f}V{HEIGHT}z" for i, top in enumerate(tops))
    stepped = "".join(f"V{HEIGHT - 1 - (HEIGHT - 3) * height / highest:.1f}h{step:.2f}" for height in line)
    outline = f'<path d="M0 {HEIGHT - 1}{stepped}" fill="none" stroke="{FOUND}" stroke-width="1.4"/>' if line else ""
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram">'
        f'<path d="{filled}" fill="{TRAINED}"/>{outline}</svg>'
    )


def _heights(counts: Sequence[int]) -> list[float]:
    """Roots of shares, of at most :data:`BARS` groups of neighbouring ids."""
    total = sum(counts)
    group = math.ceil(len(counts) / BARS) or 1
    sums = [sum(counts[first : first + group]) for first in range(0, len(counts), group)]
    return [math.sqrt(count / total) if total else 0.0 for count in sums]
