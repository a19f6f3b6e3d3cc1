"""The table of benchmarks/faults.md, from the logs of ``make test-faults``.

``python -m tests.faults.results LOG ...`` puts the rows of the logs' kinds in place of those that are there.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.fault import ROOT

REPORT = ROOT / "benchmarks" / "faults.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
HEAD = "| kind | repetitions | what was seen | seed | commit |\n|---|---|---|---|---|\n"


def table(before: str, lines: list[dict[str, Any]]) -> str:
    """A row per kind: those of the table ``before``, in its order, then new ones in the order of the logs."""
    rows = {line.split(" | ")[0].removeprefix("| "): line + "\n" for line in before.splitlines()[2:]}
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        kinds.setdefault(line["kind"], []).append(line)
    return HEAD + "".join((rows | {kind: row(kind, of_kind) for kind, of_kind in kinds.items()}).values())


def row(kind: str, lines: list[dict[str, Any]]) -> str:
    saw = Counter(words for line in lines for words in line["saw"] or [line["outcome"].upper()])
    words = [f"{what} ({count})" for what, count in saw.most_common()]
    for name in sorted({name for line in lines for name in line["numbers"]}):
        values = sorted(line["numbers"][name] for line in lines if name in line["numbers"])
        words.append(f"{name}: {', '.join(f'{value:g}' for value in values)}")
    seeds, commits = ({str(line[name]) for line in lines} for name in ("seed", "commit"))
    cells = (kind, str(len(lines)), "; ".join(words), ", ".join(sorted(seeds)), ", ".join(sorted(commits)))
    return f"| {' | '.join(cells)} |\n"


def main(logs: list[str]) -> None:
    lines = [json.loads(line) for log in logs for line in Path(log).read_text().splitlines()]
    before, _, rest = REPORT.read_text().partition(BEGIN)
    there, _, after = rest.partition(END)
    REPORT.write_text(before + BEGIN + "\n" + table(there.strip(), lines) + "\n" + END + after)


if __name__ == "__main__":
    main(sys.argv[1:])
