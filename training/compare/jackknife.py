"""How much an ensemble's errors depend on which members it happens to have: those of the ensemble without each of them.

The delete-one jackknife (Tukey 1958; Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982): without a
member the ensemble gets forecast rules of its own from the validation rows, as it did whole, and is summed up over the
test rows. :mod:`training.compare.intervals` makes noise of the differences.

Letters: K members, S scenarios, M tasks.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from m2m_model.contracts.store import FileEntry
from training.compare.ensembles import Together
from training.compare.period import period_sums
from training.compare.sums import NUMERATORS, SUMS, Without
from training.forecast import ForecastRules
from training.groups import LEFT_OUT
from training.scoring import Scored, Source, scored_rows


def rules_without_each(
    source: Source, together: Together, validation: Sequence[FileEntry]
) -> list[list[ForecastRules]]:
    """The rules without each member, per ensemble and member; none of a single forecaster."""
    scored: list[list[list[Scored]]] = []
    for entry in validation if together.several else ():
        for table in source.tables(entry):
            table = table.filter(table["eligible"])
            if not len(table):
                continue
            found = together.without_each(source.batch(table))
            scored = scored or [[[] for _ in of_part] for of_part in found]
            for parts, of_part in zip(scored, found, strict=True):
                for kept, forecasts in zip(parts, of_part, strict=True):
                    kept.append(scored_rows(table, source.spec, forecasts))
    return [[Scored.concatenate(kept).fit_rules(source.spec) for kept in of_part] for of_part in scored]


def sums_without_each(
    source: Source,
    together: Together,
    rules: Sequence[Sequence[ForecastRules]],
    test: Sequence[FileEntry],
    *,
    scenarios: tuple[str, ...],
    leave_out: Collection[str] = (),
) -> Without:
    """The sums of all test rows by these rules; nothing where there are none."""
    if not rules:
        return {}

    def answer(table: pa.Table) -> Mapping[str, Float[np.ndarray, "N M"]]:
        found = together.without_each(source.batch(table))
        return {
            f"{kind} {part} {member}": values
            for part, of_part in enumerate(found)
            for member, forecasts in enumerate(of_part)
            for kind, values in rules[part][member].apply(forecasts).items()
        }

    sums = period_sums(source, answer, test, scenarios=scenarios, leave_out=leave_out).forecasts
    positions = [SUMS.index(name) for name in NUMERATORS]
    totals = {name: of_name[positions].sum(axis=2) for name, of_name in sums.items()}  # [2, G, S, M]
    kinds = dict.fromkeys(name.split()[0] for name in totals)

    def of(name: str) -> Float[np.ndarray, "2 2 S M"]:
        return np.stack([totals[name][:, :LEFT_OUT].sum(axis=1), totals[name][:, LEFT_OUT]], axis=1)

    return {
        kind: tuple(
            np.stack([of(f"{kind} {part} {member}") for member in range(len(members))])
            for part, members in enumerate(rules)
            if members
        )
        for kind in kinds
    }
