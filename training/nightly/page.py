"""A night for people: one self-contained HTML page beside its summary."""

import importlib.resources

import jinja2

from m2m_model.contracts.store import Folder
from training.nightly.summary import PAGE, Summary

VERDICTS = {
    "complete": "Everything is published and no check found anything.",
    "alert": "Everything is published; look at what the checks found.",
    "failed": "The night did not get through. What was published before is still in force.",
}
PUBLISHED = "The forecasts and lists are published, but the night did not get through after them."
LAST_PUBLISHING = "lists"


def verdict(summary: Summary) -> str:
    """What the night came to, in a sentence."""
    published = any(step.name == LAST_PUBLISHING and step.status in ("done", "skipped") for step in summary.steps)
    return PUBLISHED if summary.status == "failed" and published else VERDICTS[summary.status]


def write_page(folder: Folder, name: str, summary: Summary) -> None:
    """Write the page of ``summary`` into the night's folder, whole or not at all; ``name`` is the run's."""
    source = importlib.resources.files("training.nightly").joinpath("night.html").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(
        name=name,
        night=summary,
        verdict=verdict(summary),
        seconds=(summary.finished - summary.started).total_seconds(),
    )
    folder.replace_bytes(PAGE, page.encode())
