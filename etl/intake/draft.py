"""The first TOML of a run on a stranger's tables: commented, complete, and meant to be edited."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etl.intake.columns import Column, InputTable
from etl.intake.convert import Facts, RawTables
from etl.intake.roles import Guess, event_column
from m2m_model.contracts.errors import UserError

LENGTHS = ((40, 120), (28, 84), (14, 56))
"""T, and the days of facts from which on it is taken."""
HORIZON = 7
MOST_FEATURES, MOST_TASKS, MOST_WORDS = 8, 4, 12
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class _Measure:
    name: str
    expr: str
    column: Column | None
    unit: str

    @property
    def is_task(self) -> bool:
        return self.column is None or (self.column.low is not None and self.column.low >= 0)


def draft_toml(tables: RawTables, guess: Guess, *, name: str, out: str, timezone: str, command: str) -> str:
    """The TOML's text.

    Raises:
        UserError: the tables span too few days to learn from.
    """
    performance = tables.facts[0]
    measures = list(_measures(performance, guess))
    length = _length(tables)
    lines = [
        f"# Drafted by: {command}",
        "# Every line is a guess from the tables' columns: change what is wrong, then run `m2m check` on this file.",
        "",
        "[run]",
        f"name = {json.dumps(name)}",
        f"out = {json.dumps(out)}  # everything of the run lies here; the converted tables are in its raw/",
        "",
        "[raw]",
        f"timezone = {json.dumps(timezone)}  # in which events are laid on days",
        f"first_day = {tables.first_day}",
        f"last_day = {tables.last_day}  # the last complete day: of a day that was still running, take the one before",
        *_facts(tables, guess),
        "",
        "[sequence]",
        f"length = {length}  # days of history that a forecast sees",
        f"horizon = {HORIZON}  # days that it is for",
        f"history_weeks = {min(5, length // 7)}",
        "",
        "# A feature is a Spark SQL aggregate over a day's rows, in the own scenario, in each_scenario, or over all of",
        "# them (scope = advertiser). dense: beside the bucket, the model also sees the value.",
        "[features.performance]",
        *_performance(measures),
        "",
        "[features.behavior]",
        *_behavior(tables, guess, measures),
        "",
        "[features.profile]",
        *_profile(tables, guess),
        "",
        "[features.scenario]",
        *_scenario(tables, guess),
        "",
        "# What is forecast: a Spark SQL aggregate per day, summed over the next days. It must not be negative.",
        "[tasks]",
        *_tasks(measures, performance),
        "",
        "[population]",
        "min_active_days = 1  # days with a row, of those above, from which on a pair is trained on and evaluated",
        "",
        *_split(tables, length),
        "",
        "# Small, for a first result; what the paper has is the default of every line.",
        "[model]",
        "embedding_dim = 8",
        "view_dim = 32",
        "knowledge_dim = 16",
        "meta_layers = 2",
        "tower_layers = 1",
        "dense_inputs = true",
        'offset = "history"',
        "distribution = true  # also quantiles, from which personal targets are taken",
        "",
        "[train]",
        "epochs = 3",
        "batch_size = 256",
        "",
        "[train.loss]",
        "distribution = 0.3",
        "",
        "[baselines]",
        "lightgbm_rounds = 60",
        "",
        "# Who gets a rewarded task: pairs whose next days look least active, at most budget per scenario and day; the",
        "# task is a number of active days that they would reach unaided with a chance of 0.3 at most.",
        "[engagement.lists.fading]",
        'task = "active_days"',
        "at_most = 2.0",
        "budget = 20",
        'reward = { task = "active_days", probability = 0.3 }',
        "",
        "[spark]",
        'conf = { "spark.sql.shuffle.partitions" = "2" }  # for tables of this size; on a cluster take more',
        "",
    ]
    return "\n".join(lines)


def _facts(tables: RawTables, guess: Guess) -> Iterator[str]:
    for facts in tables.facts:
        yield ""
        yield f"[raw.facts.{facts.name}]  # from {facts.table.path}, {facts.table.rows:,} rows"
        kind = "daily" if facts.is_daily else "events"
        why = "a row per advertiser, scenario and day" if facts.is_daily else "several rows a day"
        yield f'kind = "{kind}"  # {why}'
        yield f"time = {json.dumps(facts.time)}"
    yield ""
    yield f"# advertiser_id is {guess.advertiser!r}, scenario_id is {guess.scenario!r}: " + ", ".join(
        json.dumps(word) for word in tables.scenario_ids[:MOST_WORDS]
    )


def _length(tables: RawTables) -> int:
    days = (tables.last_day - tables.first_day).days + 1
    for length, least in LENGTHS:
        if days >= least:
            return length
    raise UserError(
        f"the facts must span {LENGTHS[-1][1]} days or more to learn {HORIZON} days ahead, however: {days} "
        f"({tables.first_day} .. {tables.last_day})"
    )


def _measures(facts: Facts, guess: Guess) -> Iterator[_Measure]:
    """What the columns of facts give: sums of numbers, and numbers of different ids."""
    names: set[str] = set()
    for column in facts.table.columns.values():
        if column.name in (guess.advertiser, guess.scenario, facts.time) or column.kind == "empty":
            continue
        if column.name.lower().endswith("id") and column.kind in ("int", "text"):
            if column.distinct > 1:
                stem = re.sub(r"_?id$", "", column.name, flags=re.IGNORECASE)
                name = _fresh(f"{stem}s", names)
                yield _Measure(name, f"count(distinct {quoted(column.name)})", None, name)
        elif column.is_number:
            name = _fresh(column.name, names)
            yield _Measure(name, f"sum({quoted(column.name)})", column, name)
        elif column.kind == "bool":
            name = _fresh(column.name, names)
            yield _Measure(name, f"count_if({quoted(column.name)})", None, name)


def _performance(measures: list[_Measure]) -> Iterator[str]:
    shown = measures[:MOST_FEATURES]
    names = {measure.name for measure in shown}
    for number, measure in enumerate(shown):
        yield _feature(measure.name, measure.expr, dense=number < 3)
    yield _feature(_fresh("rows", names), "count(*)")
    if shown:
        yield _feature(_fresh(f"all_{shown[0].name}", names), shown[0].expr, scope="advertiser", dense=True)
        yield _feature(_fresh(f"scenario_{shown[0].name}", names), shown[0].expr, scope="each_scenario")


def _behavior(tables: RawTables, guess: Guess, measures: list[_Measure]) -> Iterator[str]:
    others = tables.facts[1:]
    if not others:
        yield "# No table of what advertisers did themselves (logins, edits, promotions): rows of performance instead."
    names: set[str] = set()
    for facts in others or tables.facts[:1]:
        table = "" if facts.name == "behavior" else facts.name
        scope = "own" if facts.has_scenario else "advertiser"
        event = event_column(facts.table)
        words = [word for word in event.words if "'" not in word and "\\" not in word] if event else []
        if event and words:
            for word in words[:MOST_WORDS]:
                expr = f"count_if({quoted(event.name)} = '{word}')"
                yield _feature(_fresh(word, names), expr, scope=scope, dense=True, table=table)
        elif others:
            for measure in list(_measures(facts, guess))[:MOST_FEATURES]:
                yield _feature(_fresh(measure.name, names), measure.expr, scope=scope, dense=True, table=table)
        total = _fresh("rows" if not others else f"{facts.name}_rows", names)
        yield _feature(total, "count(*)", scope="advertiser", table=table)


def _profile(tables: RawTables, guess: Guess) -> Iterator[str]:
    if tables.profile is None:
        yield "# No profile table: one row per advertiser was made, without attributes."
        return
    if not tables.profile_has_days:
        yield f"# {tables.profile.path} has no snapshot days: its rows hold from the first day on. What they say must"
        yield "# have been known then, or the model learns from the future."
    yield from _attributes(tables.profile, (guess.advertiser, guess.times.get(tables.profile.name)))


def _scenario(tables: RawTables, guess: Guess) -> Iterator[str]:
    if tables.scenarios is not None:
        yield from _attributes(tables.scenarios, (guess.scenario, guess.times.get(tables.scenarios.name)))
    else:
        yield "# No table of scenarios: each is there from the day of its first row on."
    yield 'name = { expr = "scenario_id" }'
    yield 'weekday = { expr = "weekday(as_of)" }'


def _attributes(table: InputTable, leave_out: tuple[str | None, ...]) -> Iterator[str]:
    names = {"name", "weekday"}
    for column in table.columns.values():
        if column.name in leave_out:
            continue
        expr = json.dumps(quoted(column.name))
        if column.is_number and not column.name.lower().endswith("id"):
            yield f'{_fresh(column.name, names)} = {{ expr = {expr}, kind = "bucket", buckets = 8 }}'
        elif column.kind == "bool" or (column.kind in ("text", "int") and column.distinct <= table.rows / 2):
            yield f"{_fresh(column.name, names)} = {{ expr = {expr} }}"
        else:
            yield f"# not used: {column.name!r} ({column.kind}, {column.distinct:,} different values)"


def _tasks(measures: list[_Measure], performance: Facts) -> Iterator[str]:
    for measure in [m for m in measures if m.is_task][:MOST_TASKS]:
        spend = measure.column is not None and measure.column.kind == "decimal"
        kind = ', kind = "spend"' if spend else ""
        yield f"{measure.name} = {{ expr = {json.dumps(measure.expr)}{kind}, unit = {json.dumps(measure.unit)} }}"
    for measure in measures:
        if not measure.is_task:
            yield f"# no task: {measure.name} has negative values"
    yield 'active_days = { expr = "cast(count(*) > 0 as int)", unit = "days", daily_max = 1 }'


def _split(tables: RawTables, length: int) -> Iterator[str]:
    """By dates: the last sixth of the possible as-of days is the test period, the sixth before it validation."""
    first, last = tables.first_day + DAY * (length - 1), tables.last_day - DAY * HORIZON
    part = max(1, ((last - first).days + 1 - 2 * (HORIZON - 1)) // 6)
    test = (last - DAY * (part - 1), last)
    validation = (test[0] - DAY * (HORIZON + part - 1), test[0] - DAY * HORIZON)
    train = (first, validation[0] - DAY * HORIZON)
    yield "# As-of days by split; the days that labels of two splits would share lie between them, unused."
    yield "[split]"
    for split, days in {"train": train, "validation": validation, "test": test}.items():
        yield f"{split} = [{days[0]}, {days[1]}]"
    yield "train_stride = 2  # every second day: days that follow each other tell nearly the same"
    yield "validation_stride = 2"
    yield "test_stride = 2"


def _feature(name: str, expr: str, *, scope: str = "own", dense: bool = False, table: str = "") -> str:
    parts: Mapping[str, str] = {
        "expr": json.dumps(expr),
        **({"scope": json.dumps(scope)} if scope != "own" else {}),
        **({"table": json.dumps(table)} if table else {}),
        **({"dense": "true"} if dense else {}),
    }
    return f"{name} = {{ " + ", ".join(f"{key} = {value}" for key, value in parts.items()) + " }"


def _fresh(text: str, taken: set[str]) -> str:
    """A name as the TOML wants it, not among ``taken``, to which it is added."""
    bare = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "value"
    bare = bare if bare[0].isalpha() else f"n_{bare}"
    number, name = 2, bare
    while name in taken or name == "active_days":
        name, number = f"{bare}_{number}", number + 1
    taken.add(name)
    return name


def quoted(column: str) -> str:
    """A column in a Spark SQL expression.

    Example:
        >>> quoted("sales"), quoted("Net sales")
        ('sales', '`Net sales`')
    """
    return column if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", column) else f"`{column.replace('`', '``')}`"
