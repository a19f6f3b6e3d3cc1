"""All exhibits of a study from its finished cells: CSV for machines, Markdown and pictures for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.baselines.lightgbm import OBJECTIVES
from training.compare.data_exhibits import data_markdown
from training.compare.figures import overall_errors, reliability, sensitivity
from training.compare.records import (
    CALIBRATION_COLUMNS,
    PERIOD_COLUMNS,
    by_period,
    calibration,
    calibration_markdown,
    costs_markdown,
    unseen_markdown,
)
from training.compare.results import Resampled, Results
from training.compare.study import Study
from training.compare.tables import (
    BIAS_COLUMNS,
    PAIRED_COLUMNS,
    TABLE4_COLUMNS,
    VIEW_COLUMNS,
    aim_markdown,
    bias,
    by_view,
    cells_markdown,
    compared_in_views,
    compared_markdown,
    overall_markdown,
    paired,
    table4,
    to_csv,
    verdict_markdown,
    verdicts,
    view_markdown,
)
from training.metrics import AIMED, OVERALL, Metric


@dataclass(frozen=True, kw_only=True)
class View:
    """The results over some periods and advertisers, which has tables of its own."""

    name: str
    """Ends the names of its CSV files."""
    title: str
    resampled: Resampled


def write_exhibits(study: Study, folder: Path) -> Path:
    """Fill ``folder``: over all periods, over the design period alone, and without the advertisers that
    ``evaluation.leave_out`` names; returns the page's path.

    Raises:
        UserError: no cell is finished.
    """
    results = Results.load(study.study.results, study.planned())
    shape = results.shape()
    folder.mkdir(parents=True, exist_ok=True)
    views = [View(name="", title="Mean over all periods", resampled=Resampled.of(results))]
    design = study.study.design_period
    alone = Resampled.of(results, periods=(design,))
    views.append(View(name="_design", title=f"Period {design} alone", resampled=alone))
    if results.has_left_out:
        title = "Mean over all periods, without the advertisers of `evaluation.leave_out`"
        without = Resampled.of(results, without_left_out=True)
        views.append(View(name="_some_left_out", title=title, resampled=without))
    everything = views[0].resampled
    comparisons = {view.name: paired(view.resampled, study.study.best, besides=study.floors) for view in views}
    for view in views:
        (folder / f"{study.study.table}{view.name}.csv").write_text(to_csv(TABLE4_COLUMNS, table4(view.resampled)))
        (folder / f"bias{view.name}.csv").write_text(to_csv(BIAS_COLUMNS, bias(view.resampled)))
        (folder / f"paired{view.name}.csv").write_text(to_csv(PAIRED_COLUMNS, comparisons[view.name]))
    said = f"{results.completeness}. Means over periods and seeds; NMAE of the `point` forecast, SMAPE of `smape`."
    page_of_cells = [f"# {study.study.name}, cell by cell", said, cells_markdown(table4(everything), study.titles)]
    (folder / f"{study.study.table}.md").write_text("\n\n".join(page_of_cells) + "\n")
    figure = overall_errors(everything, forecasts=AIMED, best=study.study.best, titles=study.titles)
    (folder / "overall.svg").write_text(figure)
    (folder / "periods.csv").write_text(to_csv(PERIOD_COLUMNS, by_period(results)))
    page = [
        f"# {study.study.name}",
        f"{results.completeness}. Made by `m2m exhibits`; periods: "
        + ", ".join(f"{name} (test {p.test[0]} .. {p.test[1]})" for name, p in study.periods.items())
        + ". NMAE is given for the `point` forecast, SMAPE for the `smape` forecast, both also for the others. "
        f"Every scenario and task: [{study.study.table}.md]({study.study.table}.md); every period, and scenarios "
        "pooled: [periods.csv](periods.csv).",
        *_cautions(study, results),
        "![overall errors](overall.svg)",
    ]
    best = study.titles[study.study.best]
    if study.aim is not None and study.study.best in results.models:
        page += [
            "## The aim",
            f"Of {best}. A share is met if it is reached and its interval, which is not corrected for the number of "
            "rivals, leaves 0 out.",
        ]
        for view in views:
            page += [f"{view.title}:", aim_markdown(view.resampled, study.study.best, study.aim, study.titles)]
    for view in views:
        page += [f"## {view.title}", overall_markdown(table4(view.resampled), study.titles)]
        found = [v for v in verdicts(comparisons[view.name]) if AIMED[v.metric] == v.forecast]
        page += [f"{best} minus the other, negative is better for {best}:", verdict_markdown(found, study.titles)]
    if apart := by_view(everything, study.study.views):
        (folder / "views.csv").write_text(to_csv(VIEW_COLUMNS, apart))
        named = "; ".join(f"{name}: {', '.join(scenarios)}" for name, scenarios in study.study.views.items())
        page += ["## Some scenarios apart", f"Macro averages with 95 % intervals. {named}."]
        page.append(view_markdown(apart, study.titles))
    if comparisons_in_views := compared_in_views(everything, study.study.views, study.compared):
        (folder / "compared.csv").write_text(to_csv(PAIRED_COLUMNS, comparisons_in_views))
        page.append("The first minus the other, negative is better for the first:")
        page.append(compared_markdown(comparisons_in_views, study.titles))
    everywhere = {OVERALL: shape.scenarios, **study.study.views}
    for floor in (name for name in study.floors if name in results.models):
        rows = by_view(everything, everywhere, over=floor)
        (folder / f"over_{floor}.csv").write_text(to_csv(VIEW_COLUMNS, rows))
        page += [f"## Times {study.titles[floor]}", "The multiple of the floor's macro average, with 95 % intervals."]
        page.append(view_markdown(rows, study.titles))
    if curves := _curves(study, everything):
        for metric in AIMED:
            preset = everything.values[study.study.best, AIMED[metric], metric][0, -1, -1]
            figure = sensitivity(
                curves[metric],
                label=f"{metric.upper()} beside the preset's {preset:.3f}",
                current=_current(study),
                completeness=results.completeness,
            )
            (folder / f"sensitivity_{metric}.svg").write_text(figure)
            page.append(f"![sensitivity of {metric.upper()}](sensitivity_{metric}.svg)")
    if told := list(calibration(results)):
        (folder / "calibration.csv").write_text(to_csv(CALIBRATION_COLUMNS, told))
        figure = reliability(told, titles=study.titles, completeness=results.completeness)
        (folder / "reliability.svg").write_text(figure)
        page += [
            "## Calibration",
            "Shares of labels below each forecast quantile and at most it, which should have the level between them: "
            "the means over scenarios and tasks, then how many of these cells have it there or within .02.",
            calibration_markdown(told, study.titles),
            "![reliability of the models' quantiles](reliability.svg)",
        ]
    if unseen := unseen_markdown(results, study.titles):
        page += [
            "## Advertisers unseen in training",
            "Macro averages over the cells that they have rows in. Contenders whose training rows know other "
            "advertisers than those of the largest group of contenders are left out.",
            unseen,
        ]
    if costs := costs_markdown(results, study.titles):
        page += [
            "## What it takes",
            "To fit a cell, all its members together and the search's trials not counted, on one busy core:",
            costs,
        ]
    page += data_markdown(folder)
    target = folder / "README.md"
    target.write_text("\n\n".join(page) + "\n")
    return target


def _cautions(study: Study, results: Results) -> list[str]:
    """What a reader must know of these tables."""
    weeks = sorted({results.weeks(period) for period in results.periods})
    weeks_said = ", ".join(map(str, weeks))
    said = [
        f"Intervals resample advertisers, the weeks of a period ({weeks_said}) and seeds, of an ensemble that was made "
        "once its members, by the jackknife, with Student's quantiles as weeks and seeds are few, and neighbouring "
        "weeks taken to share label days. p is corrected by Holm's rule over the contenders of a metric and table; "
        "intervals and cells won or lost are not. A tie is a difference that is not shown."
    ]
    alone = [name for name in results.models if results.replicates(name) == 1]
    if noisy := [study.titles[name] for name in alone if name not in _without_randomness(study)]:
        said.append(f"One seed alone, whose noise their intervals do not know: {', '.join(noisy)}.")
    if seen := study.seen_by_the_search:
        said.append(
            "Settings were chosen by trials whose training and validation days reach into the test of "
            f"{', '.join(seen)}: as many for all contenders, but not out of sample there."
        )
    if other := study.study.search_of:
        said.append(
            f"Settings are those that the search of {other} chose, for every contender; none was searched here."
        )
    said += study.study.notes
    if results.incomplete:
        missing = ", ".join(study.titles[name] for name in results.incomplete)
        said.append(f"Left out, without a seed that all periods have: {missing}.")
    return said


def _without_randomness(study: Study) -> set[str]:
    """Contenders that need no second seed: floors, and baselines of which nothing is drawn."""
    drawn = {"", *OBJECTIVES}
    return {name for name, contender in study.contenders.items() if contender.floor or contender.baseline not in drawn}


Curves = dict[str, Sequence[tuple[float, float, float, float]]]


def _curves(study: Study, resampled: Resampled) -> dict[Metric, Curves]:
    """By metric and swept hyperparameter: (value, difference from the best contender, low, high), ascending."""
    swept = [(name, *item) for name, c in study.contenders.items() for item in c.swept.items()]
    models = resampled.results.models
    swept = [item for item in swept if item[0] in models and study.study.best in models]
    curves: dict[Metric, Curves] = {}
    for metric, forecast in AIMED.items() if swept else ():
        points: dict[str, list[tuple[float, float, float, float]]] = {}
        for model, parameter, value in swept:
            draws, preset = (resampled.values[name, forecast, metric][:, -1, -1] for name in (model, study.study.best))
            low, high = resampled.interval(draws - preset, model, study.study.best)
            points.setdefault(parameter, []).append((value, float(draws[0] - preset[0]), float(low), float(high)))
        curves[metric] = {parameter: sorted(found) for parameter, found in points.items()}
    return curves


def _current(study: Study) -> Mapping[str, float]:
    """The swept values of the best contender, which is the preset; where it sweeps nothing, the middle value."""
    values: dict[str, list[float]] = {}
    for contender in study.contenders.values():
        for parameter, value in contender.swept.items():
            values.setdefault(parameter, []).append(value)
    middle = {parameter: sorted(found)[len(found) // 2] for parameter, found in values.items()}
    return middle | study.contenders[study.study.best].swept
