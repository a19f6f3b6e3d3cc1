"""A stranger's tables: what is found in them, what is guessed, what is written, and what is said where that fails."""

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.intake.columns import InputTable, inspect
from etl.intake.convert import RawTables, write_raw
from etl.intake.draft import draft_toml
from etl.intake.roles import Guess, guess_roles
from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError

FIRST = datetime.date(2024, 1, 1)


def csv(folder: Path, name: str, *lines: str) -> InputTable:
    path = folder / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return inspect(path, name)


def kinds(table: InputTable) -> dict[str, str]:
    return {name: column.kind for name, column in table.columns.items()}


def sales(folder: Path, *, days: int = 60, name: str = "sales") -> InputTable:
    lines = ["seller_id,channel,day,clicks,revenue"]
    for number in range(days):
        day = FIRST + datetime.timedelta(number)
        lines += [f"{s},{c},{day},{number % 5},{number}.25" for s in ("007", "a") for c in ("search", "feed")]
    return csv(folder, name, *lines)


def converted(folder: Path, *tables: InputTable, timezone: str = "UTC", **options: str) -> tuple[RawTables, Guess]:
    guess = guess_roles(tables, **options)  # type: ignore[arg-type]
    (folder / "raw").mkdir()
    return write_raw(list(tables), guess, folder / "raw", timezone=timezone), guess


def read(folder: Path, table: str) -> pa.Table:
    return pq.read_table(folder / "raw" / table / "part-0.parquet", partitioning=None)


def test_kinds_are_what_every_value_is(tmp_path: Path) -> None:
    table = csv(
        tmp_path,
        "t",
        "n,d,day,at,ok,code,mixed,none",
        "1,1.5,2024-01-01,2024-01-01 10:00,true,007,x,",
        "-20,3,2024-01-02,2024-01-01T10:00:00Z,false,008,1,NULL",
        ",,,,,,,",
    )
    assert kinds(table) == {
        "n": "int",
        "d": "decimal",
        "day": "date",
        "at": "timestamp",
        "ok": "bool",
        "code": "text",
        "mixed": "text",
        "none": "empty",
    }
    assert (table.columns["n"].low, table.columns["n"].high, table.columns["n"].nulls) == (-20.0, 1.0, 1)
    assert table.columns["d"].digits == 1


def test_other_separators_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('﻿name;n\n"Smith; Sons\nLtd";1\n'.encode())
    assert kinds(inspect(path, "t")) == {"name": "text", "n": "int"}


def test_parquet_of_any_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table(
        {
            "price": [1.25, 2.5, float("nan")],
            "word": pa.array(["a", "b", None]).dictionary_encode(),
            "at": pa.array([datetime.datetime(2024, 1, 1)] * 3, pa.timestamp("ns")),
            "whole": pa.array([1, 2, 3], pa.int16()),
        }
    )
    pq.write_table(table, path)
    found = inspect(path, "t")
    assert kinds(found) == {"price": "decimal", "word": "text", "at": "timestamp", "whole": "int"}
    assert found.columns["price"].digits == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a,b"], "must have rows"),
        (["a,b", "1,2,3"], "cannot be read"),
        (["n", *map(str, range(30)), "12;5"], "1 of 31 values of column 'n' are no number"),
        (["day", *["2024-01-01"] * 20, "31.01.2024"], "no date like 2024-12-31, the first in row 21: '31.01.2024'"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        csv(tmp_path, "bad", *lines)


def test_no_table_and_no_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: name CSV or Parquet files"):
        inspect(tmp_path / "none.csv", "none")
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"must be \.csv or \.parquet"):
        inspect(tmp_path / "t.xlsx", "t")


def test_roles_of_an_advertising_platform(tmp_path: Path) -> None:
    logins = csv(
        tmp_path,
        "logins",
        "seller_id,at,action",
        *(f"{s},2024-01-{d:02} 08:00,{a}" for s in ("007", "a") for d in range(1, 21) for a in ("login", "edit")),
    )
    profile = csv(tmp_path, "sellers", "seller_id,city", "007,Rome", "a,Rome")
    channels = csv(tmp_path, "channels", "channel,pricing", "search,click", "feed,view")
    guess = guess_roles([sales(tmp_path), logins, profile, channels])
    assert (guess.advertiser, guess.scenario) == ("seller_id", "channel")
    assert guess.roles == {
        "sales": "performance",
        "logins": "behavior",
        "sellers": "profile",
        "channels": "scenarios",
    }
    assert guess.times == {"sales": "day", "logins": "at"}


def test_options_overrule_guesses_and_are_checked(tmp_path: Path) -> None:
    table = sales(tmp_path)
    with pytest.raises(UserError, match="--advertiser must be a column"):
        guess_roles([table], advertiser="seller")
    with pytest.raises(UserError, match="--role must name a table among"):
        guess_roles([table], roles={"sale": "profile"})
    with pytest.raises(UserError, match="one table must hold what is forecast"):
        guess_roles([table], scenario="channel", roles={"sales": "profile"})
    both = guess_roles([table, sales(tmp_path, name="clicks")], roles={"sales": "behavior", "clicks": "performance"})
    assert both.roles == {"sales": "behavior", "clicks": "performance"}


def test_what_cannot_be_guessed_names_the_option(tmp_path: Path) -> None:
    twins = csv(tmp_path, "t", "left_id,right_id,day,c", "1,1,2024-01-01,x", "2,2,2024-01-01,y")
    with pytest.raises(UserError, match="which column is the advertiser, 'left_id' or 'right_id'"):
        guess_roles([twins])
    lonely = csv(tmp_path, "u", "seller_id,day,n", "1,2024-01-01,1", "2,2024-01-01,2", "1,2024-01-02,2")
    with pytest.raises(UserError, match=r"no column looks like the scenario.*--scenario COLUMN"):
        guess_roles([lonely])


def test_canonical_tables(tmp_path: Path) -> None:
    profile = csv(tmp_path, "sellers", "seller_id,city", "007,Rome", "a,Rome")
    tables, _ = converted(tmp_path, sales(tmp_path), profile)
    assert (tables.first_day, tables.last_day, tables.pairs) == (FIRST, datetime.date(2024, 2, 29), 4)
    facts = read(tmp_path, "performance")
    assert facts.schema.field("revenue").type == pa.decimal128(18, 2)
    assert facts["revenue"][0].as_py() == Decimal("0.25")
    assert facts["advertiser_id"].to_pylist()[:2] == ["007", "007"]
    assert read(tmp_path, "profile")["day"].to_pylist() == [FIRST, FIRST]
    scenarios = read(tmp_path, "scenarios")
    assert dict(zip(scenarios["scenario_id"].to_pylist(), scenarios["day"].to_pylist(), strict=True)) == {
        "feed": FIRST,
        "search": FIRST,
    }


def test_times_are_the_zones_unless_they_say_otherwise(tmp_path: Path) -> None:
    table = csv(
        tmp_path,
        "t",
        "seller_id,channel,at",
        "1,a,2024-01-01 00:30",
        "1,b,2024-01-01T00:30:00Z",
        "2,a,2024-01-01 00:30:00+02:00",
    )
    converted(tmp_path, table, timezone="Europe/Berlin")
    hours = [moment.replace(tzinfo=None).isoformat() for moment in read(tmp_path, "performance")["at"].to_pylist()]
    assert hours == ["2023-12-31T23:30:00", "2024-01-01T00:30:00", "2023-12-31T22:30:00"]


def test_lines_of_one_day_are_events_at_noon(tmp_path: Path) -> None:
    table = csv(tmp_path, "t", "seller_id,channel,day,n", *["1,a,2024-07-01,1"] * 2, "2,b,2024-07-02,1")
    tables, _ = converted(tmp_path, table, timezone="Asia/Shanghai")
    assert not tables.facts[0].is_daily
    assert read(tmp_path, "performance")["day"][0].as_py().isoformat() == "2024-07-01T04:00:00+00:00"
    assert (tables.first_day, tables.last_day) == (datetime.date(2024, 7, 1), datetime.date(2024, 7, 2))


def test_the_draft_is_a_valid_config(tmp_path: Path) -> None:
    odd = csv(
        tmp_path,
        "odd",
        "seller_id,channel,day,Net sales,rows,balance,order_id,flag",
        *(
            f"{s},{c},{FIRST + datetime.timedelta(n)},{n}.5,{n},{n - 5},{n},true"
            for n in range(60)
            for s in (1, 2)
            for c in ("search", "feed")
        ),
    )
    tables, guess = converted(tmp_path, odd)
    text = draft_toml(tables, guess, name="odd", out=str(tmp_path), timezone="UTC", command="m2m init odd.csv")
    (tmp_path / "odd.toml").write_text(text)
    config = RunConfig.read(tmp_path / "odd.toml")
    assert config.features.performance["net_sales"].expr == "sum(`Net sales`)"
    assert config.features.performance["rows_2"].expr == "count(*)"
    assert set(config.tasks) == {"net_sales", "rows", "orders", "flag", "active_days"}
    assert "# no task: balance has negative values" in text
    assert config.sequence.length == 14


def test_too_few_days_to_learn_from(tmp_path: Path) -> None:
    tables, guess = converted(tmp_path, sales(tmp_path, days=30))
    with pytest.raises(UserError, match="must span 56 days or more to learn 7 days ahead, however: 30"):
        draft_toml(tables, guess, name="x", out="x", timezone="UTC", command="")
