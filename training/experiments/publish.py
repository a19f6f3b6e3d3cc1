"""A reading of an experiment, published as a whole: ``experiment.json`` for machines, ``index.html`` for people."""

import importlib.resources

import jinja2

from m2m_model.contracts.store import (
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    remove_superseded,
)
from training.experiments.reading import Comparison, Found, Reading

KIND = "reading"
REPORT, PAGE = "experiment.json", "index.html"
UNITS = {"active rate": "share of the days", "ARPU": "per advertiser and horizon, capped"}
DIGITS = {"active rate": 4, "ARPU": 2}


def publish_reading(location: str, reading: Reading, *, grace_seconds: float) -> Manifest:
    """Publish at ``location``, with copies of both files beside the manifest for people."""
    folder, generation = Folder.at(location), new_generation()
    texts = {REPORT: reading.model_dump_json(indent=1) + "\n", PAGE: page(reading)}
    files = [folder.write_bytes(data_path(generation, name), text.encode()) for name, text in texts.items()]
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=reading.created_at,
        files=tuple(files),
        content={"experiment": reading.name, "is_complete": reading.is_complete, "refused": reading.refused},
    )
    publish(folder, manifest)
    for name, text in texts.items():
        folder.replace_bytes(name, text.encode())
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def page(reading: Reading) -> str:
    """One self-contained HTML page."""
    source = importlib.resources.files("training.experiments").joinpath("reading.html").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"interval": interval, "bar": bar}
    return environment.from_string(source).render(reading=reading, units=UNITS, digits=DIGITS)


def interval(found: Found, measure: str) -> str:
    """
    Example:
        >>> found = Found(difference=0.02, low=-0.01, high=0.05, relative=None, variance_reduction=0.0)
        >>> interval(found, "active rate")
        '+0.0200 [-0.0100, +0.0500]'
    """
    digits = DIGITS[measure]
    return f"{found.difference:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def bar(found: Found, comparison: Comparison) -> dict[str, float]:
    """Where an interval lies on a line of 0 .. 100 with no effect at 50, the same for both of a comparison."""
    ends = [abs(end) for of in (comparison.plain, comparison.adjusted) for end in (of.low, of.high)]
    extent = max(*ends, 1e-12)
    return {name: 50 + 48 * getattr(found, name) / extent for name in ("low", "difference", "high")}
