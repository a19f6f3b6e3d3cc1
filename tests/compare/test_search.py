"""The search of a study: the same trials whether interrupted or not, on validation rows alone."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from m2m_model.contracts.errors import UserError
from training.compare.results import CellKey
from training.compare.search import Range, SearchSection, Setting, Trials, overrides
from training.compare.study import Study

SPACE = {
    "train.learning_rate": Range(low=1e-4, high=1e-2, log=True),
    "model.view_dim": Range(choices=(16, 32)),
    "model.transformer": Range(choices=(True, False)),
}
STUDY = """
[study]
name = "tiny"
run = "run.toml"
results = "{folder}/cells"
work = "{folder}/work"
seeds = [3]
best = "m2m"
design_period = "late"

[search]
trials = 2
period = "late"
set_dataset = ["split.train_stride=9"]
results = "{folder}/search"
model = {{ "model.view_dim" = {{ choices = [16, 32] }} }}

[periods.late]
train = [2017-02-09, 2017-09-01]
validation = [2017-09-09, 2017-10-08]
test = [2017-10-16, 2017-11-05]

[contenders.m2m]
set = ["model.heads=2"]

[contenders.mmoe]
set = ["model.name=mmoe"]
searched = false

[contenders.ablated]
like = "m2m"
set = ["model.meta_tower=none"]

[contenders.last_week]
baseline = "last_7_days"
"""


def section(folder: Path, trials: int = 4) -> SearchSection:
    return SearchSection(trials=trials, period="late", results=folder, model=SPACE)


def judge(settings: Mapping[str, Setting]) -> dict[str, float]:
    wide, rate = settings["model.view_dim"] == 32, float(settings["train.learning_rate"])
    return {"nmae": 0.5 - 0.1 * wide, "smape": 0.6 + rate, "seconds": 1.0}


def run(trials: Trials, how_many: int) -> list[dict[str, object]]:
    for _ in range(how_many):
        settings = trials.propose()
        trials.add(settings, judge(settings))
    return trials.rows


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = run(Trials(section(tmp_path / "whole"), "m2m", SPACE), 4)
    run(Trials(section(tmp_path / "halves"), "m2m", SPACE), 2)
    second = Trials(section(tmp_path / "halves"), "m2m", SPACE)
    assert not second.finished
    assert run(second, 2) == whole
    assert second.finished
    assert len({row["train.learning_rate"] for row in whole}) == 4


def test_the_best_trial_has_the_least_sum_of_both_metrics(tmp_path: Path) -> None:
    trials = Trials(section(tmp_path), "m2m", SPACE)
    for settings, nmae, smape in [((0.001, 16, True), 0.5, 0.7), ((0.002, 32, False), 0.55, 0.6)]:
        trials.add(dict(zip(SPACE, settings, strict=True)), {"nmae": nmae, "smape": smape, "seconds": 1.0})
    again = Trials(section(tmp_path), "m2m", SPACE)
    assert again.best == {"train.learning_rate": 0.002, "model.view_dim": 32, "model.transformer": False}
    assert overrides(again.best) == ["train.learning_rate=0.002", "model.view_dim=32", "model.transformer=false"]


def test_a_trial_that_diverged_is_kept_and_never_the_best(tmp_path: Path) -> None:
    trials = Trials(section(tmp_path), "m2m", SPACE)
    first = trials.propose()
    trials.add(first, {"nmae": math.inf, "smape": math.inf, "seconds": 1.0})
    with pytest.raises(UserError, match=r"every trial in .* diverged"):
        _ = trials.best
    second = (again := Trials(section(tmp_path), "m2m", SPACE)).propose()
    assert second != first
    again.add(second, judge(second))
    assert again.best == second


def test_trials_of_other_hyperparameters_are_refused(tmp_path: Path) -> None:
    run(Trials(section(tmp_path), "m2m", SPACE), 1)
    with pytest.raises(UserError, match=r"there is none of train\.batch_size"):
        Trials(section(tmp_path), "m2m", SPACE | {"train.batch_size": Range(choices=(256,))})
    with pytest.raises(UserError, match=r"model\.view_dim was \d+, which is no choice"):
        Trials(section(tmp_path), "m2m", SPACE | {"model.view_dim": Range(choices=(64,))})
    with pytest.raises(UserError, match=r"train\.learning_rate was .*, which is out of range"):
        Trials(section(tmp_path), "m2m", SPACE | {"train.learning_rate": Range(low=0.5, high=0.6)})
    with pytest.raises(UserError, match=r"model\.transformer is not searched"):
        Trials(section(tmp_path), "m2m", {name: SPACE[name] for name in SPACE if name != "model.transformer"})


def test_cells_have_the_settings_of_their_search(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(folder=tmp_path))
    study = Study.read(path)
    key = CellKey(model="m2m", period="late", seed=3)
    with pytest.raises(UserError, match="must have the trials of the study's search for m2m, however: 0 of 2"):
        study.overrides(key)
    trials = study.trials("m2m")
    assert trials is not None
    for width, error in ((32, 0.5), (16, 0.6)):
        trials.add({"model.view_dim": width}, {"nmae": error, "smape": error, "seconds": 1.0})
    assert study.overrides(key) == ["model.view_dim=32", "model.heads=2", "train.seed=3"]
    assert study.overrides(CellKey(model="mmoe", period="late", seed=3)) == ["model.name=mmoe", "train.seed=3"]
    everybody = study.study.model_copy(update={"set": ("model.view_dim=4", "train.epochs=1")})
    of_all = study.model_copy(update={"study": everybody}).overrides(key)
    assert of_all.index("model.view_dim=4") < of_all.index("model.view_dim=32"), "the last wins: the search's"
    ablated = study.overrides(CellKey(model="ablated", period="late", seed=3))
    assert ablated == ["model.view_dim=32", "model.meta_tower=none", "train.seed=3"]
    assert study.trials("last_week") is None  # the study gives baselines no space
    assert study.search is not None
    folder, build = study.search_dataset(study.search, "m2m")
    assert folder.name == "late_split-train_stride-9"
    assert build == [*study.periods["late"].overrides, "split.train_stride=9"]


def test_a_range_is_choices_or_bounds() -> None:
    for fields in ({}, {"choices": (1,), "low": 0.1, "high": 0.2}, {"low": 0.2, "high": 0.1}):
        with pytest.raises(ValidationError, match="either choices or low < high"):
            Range(**fields)
    with pytest.raises(ValidationError, match="log needs low > 0"):
        Range(high=0.1, log=True)
