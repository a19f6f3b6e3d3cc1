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
    parser.add_argument("--timezone", default="UTC", help="of days, and of times without an offset (default: UTC)")
    parser.add_argument("--force", action="store_true", help="replace NAME.toml and the converted tables")
    parser.add_argument("--keep-toml", action="store_true", help="convert newer tables, leave NAME.toml as it is")
    arguments = parser.parse_args(argv)
    config = Path(f"{arguments.name}.toml")
    out = arguments.out or f"out/{arguments.name}"
    if config.exists() and not (arguments.force or arguments.keep_toml):
        raise UserError(f"{config} is there already: --force replaces it, --keep-toml converts the tables alone")
    if arguments.timezone not in available_timezones():
        raise UserError(f"--timezone must be a name like 'Asia/Shanghai' or 'UTC', however: {arguments.timezone!r}")
    tables = [inspect(path, _table_name(path)) for path in arguments.tables]
    if len({table.name for table in tables}) < len(tables):
        raise UserError(f"tables must have different names, however: {sorted(table.name for table in tables)}")
    guess = guess_roles(
        tables, advertiser=arguments.advertiser, scenario=arguments.scenario, roles=_roles(arguments.role)
    )
    staging, raw = Path(out, "raw.staging"), Path(out, "raw")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    written = write_raw(tables, guess, staging, timezone=ZoneInfo(arguments.timezone).key)
    if not arguments.keep_toml:
        command = shlex.join(["m2m", "init", *(sys.argv[1:] if argv is None else argv)])
        text = draft_toml(written, guess, name=arguments.name, out=out, timezone=arguments.timezone, command=command)
        config.write_text(text)
    shutil.rmtree(raw, ignore_errors=True)
    staging.rename(raw)
    RunConfig.read(config)
    _say(tables, guess, written, config, raw)
    return 0


def _say(tables: Sequence[InputTable], guess: Guess, written: RawTables, config: Path, raw: Path) -> None:
    for table in tables:
        time = guess.times.get(table.name)
        print(f"{table.path}: {guess.roles[table.name]}, {table.rows:,} rows" + (f", by {time}" if time else ""))
    print(f"advertiser: {guess.advertiser}; scenario: {guess.scenario} ({', '.join(written.scenario_ids)})")
    print(f"days: {written.first_day} .. {written.last_day}; {written.pairs:,} advertiser x scenario pairs")
    print(f"wrote {config} and the converted tables in {raw}; next: m2m check {config}")


def _roles(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    if wrong := next((option for option in options if "=" not in option), None):
        raise UserError(f"--role must be TABLE=ROLE, however: {wrong!r}")
    return {table: role for table, _, role in pairs}


def _table_name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "table"


if __name__ == "__main__":
    sys.exit(run_job(main))
