"""Which table is what, and which columns are ids, days and scenarios: guesses, each of which an option overrules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from etl.intake.columns import Column, InputTable
from m2m_model.contracts.errors import UserError

Role = Literal["performance", "behavior", "facts", "profile", "scenarios"]
ROLES: tuple[Role, ...] = ("performance", "behavior", "facts", "profile", "scenarios")
FACTS: tuple[Role, ...] = ("performance", "behavior", "facts")

ADVERTISERS = "advertiser seller merchant shop store vendor supplier brand manufacturer account client customer user"
SCENARIOS = "scenario channel placement department category campaign product_line region country segment"
SNAPSHOT_DAYS = ("day", "date", "dt", "as_of", "snapshot", "snapshot_day", "snapshot_date", "valid_from", "since")
TIMES = ("time", "timestamp", "event_time", "ts", "at", "day", "date", "dt")
KINDS = re.compile(r"^(event|action|kind|type|activity)(_?(type|name|kind))?$", re.IGNORECASE)
"""Columns that say what sort of event a row is."""
BEHAVIOR = re.compile(r"behavio|action|activit|login|log|visit|edit|event|promo|campaign", re.IGNORECASE)
MOST_SCENARIOS = 50
FACTS_PER_ADVERTISER = 10
"""A table without scenarios, with a time and so many rows per advertiser, is one of facts and no profile."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What each table is. Column names are the tables' own."""

    advertiser: str
    scenario: str
    roles: Mapping[str, Role]
    """By table name."""
    times: Mapping[str, str]
    """Of facts, the column of the day or time; of snapshots with one, that of their day."""


def guess_roles(
    tables: Sequence[InputTable], *, advertiser: str = "", scenario: str = "", roles: Mapping[str, str] | None = None
) -> Guess:
    """Guess, from names first and values second; what is given is not guessed.

    Raises:
        UserError: something cannot be guessed; the message names the candidates and the option.
    """
    given = _given_roles(tables, roles or {})
    advertiser = _named(tables, advertiser, "--advertiser") or _advertiser(tables)
    scenario = _named(tables, scenario, "--scenario") or _scenario(tables, advertiser, given)
    found: dict[str, Role] = {}
    for table in tables:
        found[table.name] = given.get(table.name) or _role(table, advertiser, scenario)
    facts = [table for table in tables if found[table.name] == "facts"]
    if facts and "performance" not in found.values():
        best = max(facts, key=lambda t: (t.has(scenario), sum(c.kind == "decimal" for c in t.columns.values()), t.rows))
        found[best.name] = "performance"
        facts.remove(best)
    if facts and "behavior" not in found.values():
        best = max(facts, key=lambda t: (BEHAVIOR.search(t.name) is not None, t.rows))
        found[best.name] = "behavior"
    times = {table.name: _time(table, found[table.name]) for table in tables}
    _check(tables, found, advertiser, scenario)
    return Guess(
        advertiser=advertiser, scenario=scenario, roles=found, times={k: v for k, v in times.items() if v is not None}
    )


def event_column(table: InputTable) -> Column | None:
    """The column that says what sort of event a row is."""
    return next((c for c in table.columns.values() if KINDS.match(c.name) and c.kind == "text" and c.words), None)


def _given_roles(tables: Sequence[InputTable], roles: Mapping[str, str]) -> dict[str, Role]:
    names = [table.name for table in tables]
    for name, role in roles.items():
        if name not in names:
            raise UserError(f"--role must name a table among {names}, however: {name!r}")
        if role not in ROLES:
            raise UserError(f"--role {name} must be one of {list(ROLES)}, however: {role!r}")
    return {name: known for name, role in roles.items() for known in ROLES if known == role}


def _named(tables: Sequence[InputTable], column: str, option: str) -> str:
    if column and not any(table.has(column) for table in tables):
        known = sorted({name for table in tables for name in table.columns})
        raise UserError(f"{option} must be a column of the tables, however: {column!r} is not among {known}")
    return column


def _hint(name: str, hints: str) -> int:
    """Place of the word that the name is, or is the id of, in ``hints``; one more than the last if none."""
    words = hints.split()
    bare = re.sub(r"_?(id|key|code|name|no)$", "", name.lower()) or name.lower()
    return words.index(bare) if bare in words else len(words)


def _advertiser(tables: Sequence[InputTable]) -> str:
    """An id in the most tables; by name where several are in as many."""
    candidates: dict[str, int] = {}
    for table in tables:
        for column in table.columns.values():
            is_id = column.name.lower().endswith("id") or _hint(column.name, ADVERTISERS) < len(ADVERTISERS.split())
            if is_id and column.kind in ("int", "text") and column.distinct > 1:
                candidates[column.name] = candidates.get(column.name, 0) + 1
    ranked = sorted(candidates, key=lambda name: (-candidates[name], _hint(name, ADVERTISERS)))
    if len(ranked) > 1:
        first, second = ((candidates[name], _hint(name, ADVERTISERS)) for name in ranked[:2])
        if first == second:
            raise UserError(f"which column is the advertiser, {ranked[0]!r} or {ranked[1]!r}? say --advertiser COLUMN")
    if not ranked:
        known = sorted({name for table in tables for name in table.columns})
        raise UserError(
            f"no column looks like the advertiser's id (whose future is forecast) among {known}: say --advertiser "
            "COLUMN"
        )
    return ranked[0]


def _scenario(tables: Sequence[InputTable], advertiser: str, given: Mapping[str, Role]) -> str:
    """Few values beside the advertiser in a table of facts; the key of a table without advertisers before others."""
    keys = {c.name for t in tables if not t.has(advertiser) for c in t.columns.values() if c.distinct == t.rows}
    candidates: dict[str, Column] = {}
    for table in tables:
        if not table.has(advertiser) or given.get(table.name) in ("profile", "scenarios"):
            continue
        if table.rows <= table.columns[advertiser].distinct:
            continue
        for column in table.columns.values():
            is_key = column.kind in ("int", "text") and 2 <= column.distinct <= MOST_SCENARIOS
            is_name = column.name != advertiser and not KINDS.match(column.name)
            likely = column.kind == "text" or column.name in keys or _hint(column.name, SCENARIOS) < 10
            if is_key and is_name and likely:
                candidates[column.name] = column
    if not candidates:
        raise UserError(
            f"no column looks like the scenario (2 to {MOST_SCENARIOS} words beside the advertiser, such as a channel "
            "or a department): say --scenario COLUMN"
        )
    return min(candidates, key=lambda name: (name not in keys, _hint(name, SCENARIOS), candidates[name].distinct))


def _role(table: InputTable, advertiser: str, scenario: str) -> Role:
    if not table.has(advertiser):
        if table.has(scenario):
            return "scenarios"
        raise UserError(
            f"{table.path} has neither the advertiser {advertiser!r} nor the scenario {scenario!r} (it has "
            f"{list(table.columns)}): rename its columns, or name others with --advertiser and --scenario"
        )
    has_time = any(column.kind in ("date", "timestamp") for column in table.columns.values())
    if not has_time:
        return "profile"
    many = table.rows >= FACTS_PER_ADVERTISER * table.columns[advertiser].distinct
    return "facts" if table.has(scenario) or many else "profile"


def _time(table: InputTable, role: Role) -> str | None:
    known = [column.name for column in table.columns.values() if column.kind in ("date", "timestamp")]
    if role not in FACTS:
        return next((name for name in known if name.lower() in SNAPSHOT_DAYS), None)
    if not known:
        raise UserError(
            f"{table.path}: facts need a day or a time, however: none of {list(table.columns)} holds dates like "
            "2024-12-31 or times like 2024-12-31 23:59:59"
        )
    places = {name: index for index, name in enumerate(TIMES)}
    return min(known, key=lambda name: (places.get(name.lower(), len(TIMES)), table.columns[name].kind == "date"))


def _check(tables: Sequence[InputTable], roles: Mapping[str, Role], advertiser: str, scenario: str) -> None:
    for role in ("performance", "behavior", "profile", "scenarios"):
        of_role = [table for table in tables if roles[table.name] == role]
        if len(of_role) > 1:
            raise UserError(
                f"{of_role[0].path} and {of_role[1].path} both look like {role}: say --role {of_role[1].name}=ROLE "
                f"(one of {', '.join(ROLES)})"
            )
        wanted = scenario if role in ("performance", "scenarios") else advertiser
        for table in of_role:
            if not table.has(wanted):
                raise UserError(f"{table.path} is {role} and must have {wanted!r}, however: {list(table.columns)}")
    if "performance" not in roles.values():
        raise UserError(
            "one table must hold what is forecast (a row per advertiser, scenario and day, or per event), however: "
            + ", ".join(f"{name} looks like {role}" for name, role in roles.items())
        )
