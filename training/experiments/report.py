"""The exhibit of the two designs on a platform whose effects are known: Markdown, and one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from training.experiments.designs import (
    MEASURES,
    WEEK,
    Experiment,
    Market,
    holdout,
    select,
    selected_groups,
    whole_arms,
)
from training.experiments.effects import Effect
from training.experiments.power import detectable_effect, units_needed
from training.report.plots import PALETTE, STYLE, to_svg

WANTED = 0.03
"""Effect on the active rate that an experiment should be able to find."""
DIGITS = {"active rate": 4, "ARPU": 2}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What something says of a measure, with what is true."""

    name: str
    found: Effect
    truth: float


def write_exhibit(
    market: Market, models: tuple[str, str], *, budgets: Sequence[int], salt: str, command: str, folder: Path
) -> Path:
    """Run both designs and the comparison of selected groups once, and write ``README.md`` and ``effects.svg``."""
    help_, better = (
        holdout(market, models[1], budgets=budgets, salt=f"{salt} holdout"),
        whole_arms(market, models, budgets=budgets, salt=f"{salt} arms"),
    )
    groups = {has: selected_groups(market, models, budgets=budgets, has_incentive=has) for has in (True, False)}
    lines = {measure: list(_lines(measure, help_, better, groups)) for measure in MEASURES}
    page = [
        "# Two experiments whose truth is known",
        f"Made by `{command}`: {len(market.advertisers):,} advertisers of the synthetic platform "
        "([docs/synthetic_world.md](../../synthetic_world.md)), one week, an incentive that makes idle days active "
        "with a chance that depends on the advertiser's hidden engagement. What it adds is known for every pair, "
        f"which no real platform tells. Each model has a budget of {sum(budgets):,} pairs, a fifth of those eligible "
        f"in each scenario; `{models[0]}` selects those least active last week, `{models[1]}` those with the lowest "
        "fitted forecast.",
        "![effects, intervals and truths](effects.svg)",
        "## (a) Does the incentive help?",
        "The model selects; advertisers with a selected pair are dealt to incentive and holdout, half each, by a "
        "stable hash within strata of scenario and scale. Active rate is over the selected pairs, ARPU over all "
        f"scenarios, an advertiser counting {market.cap:,.0f} yuan at most (the 99 % quantile of the week before).",
        _plan(market, select(market.forecast_before, market.eligible, budgets)),
        _ratio(help_),
        _table(help_),
        "## (b) Which model selects better?",
        "All advertisers are dealt to two arms **before** anything is selected. In each arm its model selects with "
        "half of the budget, everybody selected gets the incentive, and whole arms are compared, selected and not. "
        "The truth is of either model selecting from everybody.",
        _ratio(better),
        _table(better),
        "Most of an arm is not selected, so a difference between models is small on the arm's scale: "
        + _needed(better)
        + " The interval says how little one week and this platform can tell, and it is right about that.",
        "## (c) Why the two selected groups must not be compared",
        "Table 6 of the paper sets the active rate and ARPU of the advertisers that one model selected beside those "
        "that another selected. Here the same, with the incentive for both groups, and with **no incentive at all**, "
        "where the truth is 0:",
        _group_table(groups),
        _why(groups, models),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "effects.svg").write_text(_picture(lines))
    target = folder / "README.md"
    target.write_text("\n\n".join(page) + "\n")
    return target


Groups = Mapping[bool, Mapping[str, tuple[Effect, float]]]


def _lines(measure: str, help_: Experiment, better: Experiment, groups: Groups) -> list[Line]:
    lines = []
    for title, experiment in (("(a) incentive - holdout", help_), ("(b) arm - arm", better)):
        reading = experiment.readings[measure]
        lines.append(Line(name=title, found=reading.plain, truth=reading.truth))
        lines.append(Line(name=f"{title}, CUPED", found=reading.adjusted, truth=reading.truth))
    for has, title in ((True, "(c) group - group"), (False, "(c) the same, no incentive")):
        found, truth = groups[has][measure]
        lines.append(Line(name=title, found=found, truth=truth))
    return lines


def _plan(market: Market, chosen: np.ndarray) -> str:
    """The power calculation, from what is known beforehand: what those selected a week earlier then did."""
    rows = chosen.any(axis=1)
    rates = (market.last_week * chosen)[rows].sum(axis=1) / (WEEK * chosen[rows].sum(axis=1))
    deviation, units = float(rates.std()), int(rows.sum())
    smallest = detectable_effect(deviation=deviation, units=units)
    return (
        "*Power*, beforehand: of those that the model would have selected a week earlier, the active rate then had a "
        f"deviation of {deviation:.2f} between advertisers; {units:,} find a true effect of {smallest:.3f} with a "
        f"chance of 80 %; one of {WANTED} needs {units_needed(deviation=deviation, difference=WANTED):,}."
    )


def _ratio(experiment: Experiment) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in experiment.counts.items())
    verdict = "as dealt" if experiment.ratio_p >= 0.001 else "**units were lost: do not read on**"
    return f"*Sample ratio*: {counts}; p = {experiment.ratio_p:.2f}, {verdict}."


def _table(experiment: Experiment) -> str:
    rows = [
        "| measure | control | effect [95 %] | with CUPED [95 %] | the same, relative | variance taken out | truth |",
        "|---|---|---|---|---|---|---|",
    ]
    for measure, unit in MEASURES.items():
        reading, digits = experiment.readings[measure], DIGITS[measure]
        plain, adjusted = reading.plain, reading.adjusted
        rows.append(
            f"| {measure}, {unit} | {plain.control_mean:.{digits}f} | {_interval(plain, digits)} | "
            f"{_interval(adjusted, digits)} | {adjusted.relative:+.1%} | {adjusted.variance_reduction:.0%} | "
            f"{reading.truth:+.{digits}f} |"
        )
    return "\n".join(rows)


def _group_table(groups: Groups) -> str:
    rows = ["| measure | incentive | groups' difference [95 %] | true difference of the effects |", "|---|---|---|---|"]
    for has in (True, False):
        for measure in MEASURES:
            found, truth = groups[has][measure]
            digits = DIGITS[measure]
            given = "both groups" if has else "nobody"
            rows.append(f"| {measure} | {given} | {_interval(found, digits)} | {truth:+.{digits}f} |")
    return "\n".join(rows)


def _why(groups: Groups, models: tuple[str, str]) -> str:
    found, _ = groups[False]["active rate"]
    direction = "less" if found.difference < 0 else "more"
    verdict = "an interval that leaves out 0" if found.is_significant else "an interval that happens to hold 0"
    return (
        f"Without any incentive the group of `{models[1]}` is {abs(found.difference):.1%} of the days {direction} "
        f"active than that of `{models[0]}`, with {verdict}, although nothing was done to either. The difference is "
        "the selection: a better model finds those who will be *less* active, so its group looks worse the better it "
        "is, and a model that selects by chance looks best. The incentive's own part is lost in it. Randomisation "
        "must come before selection (b), or between those already selected (a); then the groups differ by the "
        "treatment alone. CUPED narrows an interval and cannot mend this: covariates that are balanced by chance are "
        "what it needs."
    )


def _needed(experiment: Experiment) -> str:
    reading = experiment.readings["active rate"]
    units, error = reading.adjusted.units, reading.adjusted.standard_error
    if reading.truth == 0:
        return "the two models have the same effect."
    deviation = error * np.sqrt(units) / 2
    needed = units_needed(deviation=float(deviation), difference=abs(reading.truth))
    return f"to find the true difference with a chance of 80 %, {needed:,} advertisers would be needed."


def _interval(found: Effect, digits: int) -> str:
    return f"{found.difference:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def _picture(lines: Mapping[str, Sequence[Line]]) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        axes = figure.subplots(1, len(lines), sharey=True)
        for axis, (measure, found) in zip(axes, lines.items(), strict=True):
            for place, line in enumerate(reversed(found)):
                colour = PALETTE[5] if line.name.startswith("(c)") else PALETTE[0]
                axis.plot([line.found.low, line.found.high], [place, place], color=colour, linewidth=2)
                axis.plot(line.found.difference, place, "o", color=colour, markersize=5)
                axis.plot(line.truth, place, "D", color="#222b36", markersize=6, markerfacecolor="none")
            axis.set_yticks(range(len(found)), [line.name for line in reversed(found)])
            axis.axvline(0.0, color="#8a94a3", linewidth=0.9)
            axis.set_xlabel(f"difference of {measure}, {MEASURES[measure]}")
            axis.locator_params(axis="x", nbins=6)
            axis.grid(visible=False, axis="y")
        axes[-1].plot([], [], "D", color="#222b36", markerfacecolor="none", label="truth")
        axes[-1].plot([], [], "o-", color=PALETTE[0], label="found, 95 %")
        figure.legend(loc="outside upper right", ncols=2)
        return to_svg(figure)
