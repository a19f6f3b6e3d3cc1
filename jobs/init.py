"""A run from your own tables: CSV or Parquet files are inspected, converted, and described in a commented TOML.

m2m init sales.csv stores.csv --name shop

Guesses which table holds what is forecast (performance), what advertisers did themselves (behavior), profiles and
scenarios, and which columns are ids, days and numbers; every guess is in the TOML to be mended, and the options
overrule it. Tables are converted into <out>/raw. `m2m check` says whether the result holds.
"""

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from etl.intake.columns import InputTable, inspect
from etl.intake.convert import RawTables, write_raw
from etl.intake.draft import draft_toml
from etl.intake.roles import ROLES, Guess, guess_roles
from jobs.config import RunConfig, run_job
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import is_uri


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tables", nargs="+", type=Path, metavar="TABLE", help="CSV or Parquet files, or folders of them"
    )
    parser.add_argument("--name", default="mine", help="the run's name; its TOML is NAME.toml (default: mine)")
    parser.add_argument("--out", default="", help="folder of the run (default: out/NAME)")
    parser.add_argument("--advertiser", default="", metavar="COLUMN", help="id of those whose future is forecast")
    parser.add_argument("--scenario", default="", metavar="COLUMN", help="where they act: a channel, a department")
    parser.add_argument(
        "--role", action="append", default=[], metavar="TABLE=ROLE", help=f"what a table is: {', '.join(ROLES)}"
    )
    parser.add_argument("--timezone", default="", help="of days, and of times without an offset (default: UTC)")
    parser.add_argument("--force", action="store_true", help="replace NAME.toml and the converted tables")
    parser.add_argument("--keep-toml", action="store_true", help="convert newer tables, leave NAME.toml as it is")
    arguments = parser.parse_args(argv)
    config = Path(f"{arguments.name}.toml")
    kept = _kept(config, arguments) if arguments.keep_toml else None
    if config.exists() and not (arguments.force or kept):
        raise UserError(f"{config} is there already: --force replaces it, --keep-toml converts the tables alone")
    out = arguments.out or f"out/{arguments.name}"
    raw = Path(kept.run.path("raw") if kept else f"{out}/raw")
    timezone = kept.raw.timezone if kept else arguments.timezone or "UTC"
    if timezone not in available_timezones():
        raise UserError(f"--timezone must be a name like 'Asia/Shanghai' or 'UTC', however: {timezone!r}")
    tables = [inspect(path, _table_name(path)) for path in arguments.tables]
    if len({table.name for table in tables}) < len(tables):
        raise UserError(f"tables must have different names, however: {sorted(table.name for table in tables)}")
    guess = guess_roles(
        tables, advertiser=arguments.advertiser, scenario=arguments.scenario, roles=_roles(arguments.role)
    )
    staging = raw.with_name(f"{raw.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    written = write_raw(tables, guess, staging, timezone=ZoneInfo(timezone).key)
    if kept is None:
        command = shlex.join(["m2m", "init", *(sys.argv[1:] if argv is None else argv)])
        text = draft_toml(written, guess, name=arguments.name, out=out, timezone=timezone, command=command)
        config.write_text(text)
    shutil.rmtree(raw, ignore_errors=True)
    staging.rename(raw)
    RunConfig.read(config)
    _say(tables, guess, written)
    if kept is None:
        print(f"wrote {config} and the converted tables in {raw}; next: m2m check --config {config}")
    else:
        print(f"wrote the converted tables in {raw} and left {config} as it is; next: m2m check --config {config}")
        if written.last_day > kept.raw.last_day:
            print(
                f"{config} goes up to {kept.raw.last_day}: set raw.last_day to {written.last_day}, and move [split] on"
            )
    return 0


def _kept(config: Path, arguments: argparse.Namespace) -> RunConfig:
    """The run whose TOML stays: it says where raw tables lie, and in which time zone days are.

    Raises:
        UserError: there is none, its raw tables are not in a folder of its own, or an option says what the TOML says.
    """
    if not config.exists():
        raise UserError(f"--keep-toml needs {config}, however: there is none; without the option it is drafted")
    if arguments.out or arguments.timezone:
        raise UserError(f"--keep-toml takes the folder and the time zone of {config}: leave out --out and --timezone")
    kept = RunConfig.read(config)
    if kept.run.raw or is_uri(kept.run.path("raw")):
        raise UserError(
            f"m2m init replaces the folder raw of a run, however: {config} has its raw tables in "
            f"{kept.run.path('raw')}; write the newer ones there yourself"
        )
    return kept


def _say(tables: Sequence[InputTable], guess: Guess, written: RawTables) -> None:
    for table in tables:
        time = guess.times.get(table.name)
        print(f"{table.path}: {guess.roles[table.name]}, {table.rows:,} rows" + (f", by {time}" if time else ""))
    print(f"advertiser: {guess.advertiser}; scenario: {guess.scenario} ({', '.join(written.scenario_ids)})")
    print(f"days: {written.first_day} .. {written.last_day}; {written.pairs:,} advertiser x scenario pairs")


def _roles(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    if wrong := next((option for option in options if "=" not in option), None):
        raise UserError(f"--role must be TABLE=ROLE, however: {wrong!r}")
    return {table: role for table, _, role in pairs}


def _table_name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "table"


if __name__ == "__main__":
    sys.exit(run_job(main))
