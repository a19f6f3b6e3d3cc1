"""The dashboard: pages that open from a disk, with their data beside them."""

import datetime
import importlib.resources
from dataclasses import dataclass
from typing import Any

import jinja2
import pyarrow.fs as pafs
from plotly.offline import get_plotlyjs

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, below, new_generation
from training.checkpoint import LoadedModel, load_model
from training.dashboard.advertisers import AdvertiserDay, read_advertisers, script
from training.dashboard.config import DashboardConfig
from training.dashboard.overview import overview
from training.dashboard.read import Findings, Places, read_findings

PAGES = ("index.html", "advertiser.html")
ASSETS = ("dashboard.css", "common.js", "overview.js", "advertiser.js")
LIBRARY = "plotly.min.js"
DATA = "data-"
"""Each build's data lies in a folder of its own, that its pages name: a page never meets another build's data."""


@dataclass(frozen=True, kw_only=True)
class Built:
    page: str
    advertisers: int
    missing: list[str]


def build_dashboard(places: Places, out: str, *, name: str, config: DashboardConfig) -> Built:
    """Write the dashboard into ``out``: data first, the pages that name it last, then the data before goes.

    Works with whatever is published, and says on the page what is not.
    """
    findings = read_findings(places, days=config.days)
    missing, day = list(findings.missing), None
    if findings.predicted is not None:
        dt = f"dt={findings.predicted}"
        try:
            day = read_advertisers(
                features=below(places.features, dt),
                predictions=below(places.predictions, dt),
                model=_model(places.model, missing),
                explained_rows=config.explained_rows,
            )
        except UserError as error:
            missing.append(str(error))
    written = write_dashboard(findings, day, out, name=name, missing=missing, per_file=config.advertisers_per_file)
    return Built(page=written, advertisers=0 if day is None else len(day.ids), missing=missing)


def _model(location: str, missing: list[str]) -> LoadedModel | None:
    try:
        return load_model(location)
    except UserError as error:
        if str(error) not in missing:
            missing.append(str(error))
        return None


def write_dashboard(
    findings: Findings, day: AdvertiserDay | None, out: str, *, name: str, missing: list[str], per_file: int
) -> str:
    """Write assets, data and pages; returns the first page's path."""
    target, data = Folder.at(out), f"{DATA}{new_generation()}"
    for asset in ASSETS:
        target.replace_bytes(asset, _asset(asset))
    library = get_plotlyjs().encode()
    if not target.exists(LIBRARY) or target.read_bytes(LIBRARY) != library:
        target.replace_bytes(LIBRARY, library)
    target.write_bytes(f"{data}/overview.js", script("overview", overview(findings)))
    if day is not None:
        for number, advertisers in enumerate(day.files(per_file)):
            target.write_bytes(f"{data}/advertisers-{number}.js", script("advertisers", number, advertisers))
    about = _about(findings, day, per_file)
    target.write_bytes(f"{data}/index.js", script("index", about))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals["thousands"] = lambda value: f"{value:,}"
    for page in PAGES:
        text = environment.from_string(_asset(page).decode()).render(
            name=name,
            data=data,
            findings=findings,
            summary=findings.summaries[-1] if findings.summaries else None,
            report=findings.nights[-1].report if findings.nights else None,
            advertisers=None if day is None else len(day.ids),
            rows=None if day is None else len(day.advertiser),
            missing=missing,
            written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        target.replace_bytes(page, text.encode())
    _remove_others(target, data)
    return f"{out.rstrip('/')}/{PAGES[0]}"


def _about(findings: Findings, day: AdvertiserDay | None, per_file: int) -> dict[str, Any]:
    """What the advertiser page needs to know of all of them."""
    if day is None:
        return {"ids": [], "tasks": [], "per_file": per_file, "horizon": 0, "as_of": None}
    return {
        "ids": list(day.ids),
        "per_file": per_file,
        "as_of": str(findings.predicted),
        "horizon": day.spec.horizon,
        "lag": day.spec.availability_lag_days,
        "tasks": [{"name": task.name, "unit": task.unit, "kind": task.kind} for task in day.spec.tasks],
    }


def _asset(name: str) -> bytes:
    return importlib.resources.files("training.dashboard").joinpath("pages", name).read_bytes()


def _remove_others(target: Folder, live: str) -> None:
    found = target.filesystem.get_file_info(pafs.FileSelector(target.path, recursive=False))
    for info in found:
        if info.type == pafs.FileType.Directory and info.base_name.startswith(DATA) and info.base_name != live:
            target.filesystem.delete_dir(info.path)
