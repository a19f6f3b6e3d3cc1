"""What a day's list is made from beside its predictions: it is made again only where some of it changed."""

import datetime
import hashlib
from collections.abc import Collection, Iterable
from typing import Any

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder, below, read_manifest
from training.engagement.config import ListConfig

KIND = "list"


def list_inputs(
    name: str, rule: ListConfig, *, date: datetime.date, lists: str, among: Collection[str] | None = None
) -> dict[str, Any]:
    """The rule, a hash of the excluded advertisers and of those that alone are in question, if not all are, and the
    generations of the lists that cool down; as JSON has it."""
    recent = recent_lists(name, rule, date=date, lists=lists)
    return {
        "rule": rule.model_dump(mode="json"),
        "excluded": _hash(excluded_advertisers(rule)),
        **({} if among is None else {"among": _hash(among)}),
        "cooling": {
            day: read_manifest(folder, kind=KIND, build_hint="select that day again").generation
            for day, folder in recent.items()
        },
    }


def is_current(
    name: str,
    rule: ListConfig,
    *,
    date: datetime.date,
    predictions_generation: str,
    lists: str,
    among: Collection[str] | None = None,
) -> bool:
    """Whether the day's published list is of these predictions and of all that it would be made from now."""
    folder = Folder.at(below(lists, name, f"dt={date}"))
    if not folder.exists(MANIFEST):
        return False
    content = read_manifest(folder, kind=KIND, build_hint="select that day again").content
    wanted = list_inputs(name, rule, date=date, lists=lists, among=among)
    wanted["predictions_generation"] = predictions_generation
    return all(content.get(key) == value for key, value in wanted.items())


def recent_lists(name: str, rule: ListConfig, *, date: datetime.date, lists: str) -> dict[str, Folder]:
    """The published days of a list that still cool down on ``date``, newest first."""
    days = (str(date - datetime.timedelta(days=days)) for days in range(1, rule.cool_down_days + 1))
    folders = {day: Folder.at(below(lists, name, f"dt={day}")) for day in days}
    return {day: folder for day, folder in folders.items() if folder.exists(MANIFEST)}


def later_lists(name: str, rule: ListConfig, *, date: datetime.date, lists: str) -> dict[str, Folder]:
    """The published days after ``date`` that it lies in the cool-down of, where a missed day is made up for."""
    days = (str(date + datetime.timedelta(days=days)) for days in range(1, rule.cool_down_days + 1))
    folders = {day: Folder.at(below(lists, name, f"dt={day}")) for day in days}
    return {day: folder for day, folder in folders.items() if folder.exists(MANIFEST)}


def excluded_advertisers(rule: ListConfig) -> list[str]:
    """Those that the rule and its file name.

    Raises:
        UserError: the file cannot be read.
    """
    ids = list(rule.exclude)
    if rule.exclude_file is not None:
        try:
            ids += [line.strip() for line in rule.exclude_file.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise UserError(f"exclude_file {rule.exclude_file} cannot be read: {error.strerror}") from None
    return ids


def _hash(advertisers: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(advertisers)).encode()).hexdigest()[:16]
