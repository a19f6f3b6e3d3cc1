"""A study's plan, and the exhibits that come of its cells."""

import csv
from pathlib import Path
from types import ModuleType

import pytest

from jobs import compare, search
from jobs.compare import DATASET_SETTINGS, build_study_dataset, cell_job, check_settings, chosen, dataset_settings
from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST
from tests.compare.test_intervals import random_cell
from training.baselines.registry import BASELINES
from training.compare.exhibits import write_exhibits
from training.compare.results import CellKey, Results, save_cell
from training.compare.study import Study
from training.compare.sums import CellSums

ROOT = Path(__file__).parents[2]

STUDY = """
[study]
name = "tiny"
run = "run.toml"
results = "{folder}/cells"
work = "{folder}/work"
seeds = [3, 5]
best = "m2m"
design_period = "late"
views = {{ head = ["a"] }}

[periods.early]
train = [2017-02-09, 2017-08-01]
validation = [2017-08-09, 2017-09-07]
test = [2017-09-15, 2017-10-05]

[periods.late]
train = [2017-02-09, 2017-09-01]
validation = [2017-09-09, 2017-10-08]
test = [2017-10-16, 2017-11-05]

[contenders.m2m]
title = "M2M"
swept = {{ d = 64 }}

[contenders.small]
set = ["model.knowledge_dim=8"]
swept = {{ d = 8 }}

[contenders.short]
set_dataset = ["sequence.length=20"]

[contenders.last_week]
baseline = "last_7_days"
seeds = 1

[compared.head]
best = "small"
others = ["m2m", "short", "last_week"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(folder=tmp_path))
    return Study.read(path)


def with_forecasts(cell: CellSums) -> CellSums:
    cell.forecasts["smape"] = cell.forecasts["point"]
    return cell


def test_cells_are_planned_first_seeds_first(study: Study) -> None:
    planned = study.planned()
    assert len(planned) == 2 * (2 * 3 + 1)
    assert [key.seed for key in planned] == [3] * 8 + [5] * 6
    assert CellKey(model="last_week", period="early", seed=5) not in planned


def test_any_models_periods_and_seeds_can_be_chosen(study: Study) -> None:
    assert chosen(study) == list(study.planned())
    found = chosen(study, models=["m2m", "last_week"], periods=["late"], seeds=[5])
    assert found == [CellKey(model="m2m", period="late", seed=5)]
    with pytest.raises(UserError, match=r"--period must be among \['early', 'late'\], however: 'noon'"):
        chosen(study, periods=["noon"])
    with pytest.raises(UserError, match=r"--seed must be among \[3, 5\], however: 0"):
        chosen(study, seeds=[0])


def test_a_cells_run_and_dataset(study: Study) -> None:
    short = CellKey(model="short", period="late", seed=5)
    small = CellKey(model="small", period="late", seed=3)
    assert study.overrides(short) == ["sequence.length=20", "train.seed=5"]
    everybody = study.study.model_copy(update={"set": ("model.view_dim=4",)})
    changed = study.model_copy(update={"study": everybody}).overrides(small)
    assert changed == ["model.view_dim=4", "model.knowledge_dim=8", "train.seed=3"]
    assert study.dataset_folder(short).name == "late_sequence-length-20"
    assert study.dataset_folder(small).name == "late"
    assert study.dataset_overrides(small)[0] == "split.train=[2017-02-09, 2017-09-01]"


def test_names_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(folder=tmp_path).replace('best = "m2m"', 'best = "m3m"'))
    with pytest.raises(UserError, match="study names 'm3m'"):
        Study.read(path)
    for told, changed, named in (
        ('others = ["m2m"', 'others = ["m4m"', "m4m"),
        ("[compared.head]", "[compared.tail]", "tail"),
    ):
        path.write_text(STUDY.format(folder=tmp_path).replace(told, changed))
        with pytest.raises(UserError, match=f"study names '{named}'"):
            Study.read(path)


def test_exhibits_say_how_much_of_the_plan_they_are_made_of(study: Study, tmp_path: Path) -> None:
    for key in study.planned():
        if key.model != "short":
            shift = 0.5 if key.model == "last_week" else 0.0
            save_cell(study.study.results, key, with_forecasts(random_cell(key.seed, shift=shift)), {"seconds": "1"})
    page = write_exhibits(study, tmp_path / "exhibits").read_text()
    assert "10 of 14 planned cells" in page
    assert "| last week |" in page
    assert "win" in page
    assert "sensitivity_nmae.svg" in page
    rows = list(csv.DictReader((tmp_path / "exhibits" / "table4.csv").open()))
    assert set(rows[0]) == {"model", "forecast", "scenario", "task", "nmae", "smape", "seeds", "periods"}
    assert {row["model"] for row in rows} == {"m2m", "small", "last_week"}
    pairs = list(csv.DictReader((tmp_path / "exhibits" / "paired.csv").open()))
    overall = [p for p in pairs if p["scenario"] == p["task"] == "overall" and p["metric"] == "nmae"]
    assert {(p["model_a"], p["model_b"]) for p in overall} == {("m2m", "small"), ("m2m", "last_week")}
    assert all(float(p["low"]) <= float(p["difference"]) <= float(p["high"]) for p in overall)
    for name in ("table4", "bias"):
        for of_view, periods in (("", "2"), ("_design", "1")):
            lines = list(csv.DictReader((tmp_path / "exhibits" / f"{name}{of_view}.csv").open()))
            assert {row["periods"] for row in lines} == {periods}
    views = list(csv.DictReader((tmp_path / "exhibits" / "views.csv").open()))
    assert {(row["model"], row["view"]) for row in views} == {(m, "head") for m in ("m2m", "small", "last_week")}
    compared = list(csv.DictReader((tmp_path / "exhibits" / "compared.csv").open()))
    who = [(row["model_a"], row["model_b"], row["metric"], row["scenario"]) for row in compared]
    assert who == [("small", other, m, "head") for m in ("nmae", "smape") for other in ("m2m", "last_week")]
    assert "| head, SMAPE: small | last week | -" in page
    assert "One seed alone" not in page
    of_a = [float(r["nmae"]) for r in rows if (r["model"], r["scenario"], r["task"]) == ("m2m", "a", "overall")]
    assert float(views[0]["value"]) == pytest.approx(of_a[0])
    cells = (tmp_path / "exhibits" / "table4.md").read_text()
    aimed = {
        row["forecast"]: row
        for row in rows
        if (row["model"], row["scenario"], row["task"]) == ("small", "a", "overall")
    }
    both = f"{float(aimed['point']['nmae']):.3f} / {float(aimed['smape']['smape']):.3f} |"
    assert [line for line in cells.partition("Scenario a")[2].splitlines() if line.endswith(both)]


def test_a_damaged_cell_is_named(study: Study) -> None:
    key = study.planned()[0]
    path = key.path(study.study.results)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="remove it and run make compare again"):
        Results.load(study.study.results, study.planned())


def test_a_model_that_is_planned_with_one_seed_is_cautioned_of(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(path.read_text().replace("[contenders.small]", "[contenders.small]\nseeds = 1"))
    study = Study.read(path)
    for key in study.planned():
        if key.model != "short":
            save_cell(study.study.results, key, with_forecasts(random_cell(key.seed)), {"seconds": "1"})
    page = write_exhibits(study, tmp_path / "exhibits").read_text()
    assert "One seed alone, whose noise their intervals do not know: small." in page


def test_cells_of_other_settings_are_refused(study: Study) -> None:
    study = study.model_copy(update={"study": study.study.model_copy(update={"run": ROOT / "jobs/configs/best.toml"})})
    key = CellKey(model="small", period="late", seed=5)
    job = cell_job(study, key)
    assert '"knowledge_dim": 8' in job.settings
    assert "seed" not in job.settings
    for about in ({"leave_out": '["69"]'}, {}):
        save_cell(study.study.results, key, random_cell(5), {"settings": job.settings} | about)
        check_settings(study)
        left_out = study.study.model_copy(update={"set": ("evaluation.leave_out=[]",)})
        if about:
            with pytest.raises(UserError, match=r"its leave_out was \['69'\] and is \[\]"):
                check_settings(study.model_copy(update={"study": left_out}))
    changed = study.study.model_copy(update={"set": ("train.batch_size=64",)})
    with pytest.raises(UserError, match=r"seed-5\.parquet must be made with the settings .*'batch_size': 64"):
        check_settings(study.model_copy(update={"study": changed}))
    changed = study.study.model_copy(update={"set_dataset": ("split.train_stride=5",)})
    with pytest.raises(UserError, match=r"seed-5\.parquet must be made with the settings .* its dataset was"):
        check_settings(study.model_copy(update={"study": changed}))


def test_a_dataset_of_other_settings_is_refused(study: Study, tmp_path: Path) -> None:
    study = study.model_copy(update={"study": study.study.model_copy(update={"run": ROOT / "jobs/configs/best.toml"})})
    overrides = study.dataset_overrides(CellKey(model="small", period="late", seed=5))
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / MANIFEST).touch()
    (tmp_path / DATASET_SETTINGS).write_text(dataset_settings(study, overrides))
    build_study_dataset(study, tmp_path, [*overrides, "spark.master=local[1]"])
    with pytest.raises(UserError, match="must be a dataset of the settings that the study has now"):
        build_study_dataset(study, tmp_path, [*overrides, "split.train_stride=5"])


def test_a_study_has_the_periods_and_the_search_of_its_base(study: Study, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    text = STUDY[: STUDY.index("[periods")].format(folder=tmp_path) + "[contenders.m2m]\n"
    other.write_text(text.replace("[study]", f'[study]\nbase = "{tmp_path}/study.toml"'))
    assert Study.read(other).periods == study.periods
    moved = Study.read(other, ("study.seeds=[9]", "periods.late.test=[2017-10-16, 2017-10-20]"))
    assert moved.study.seeds == (9,)
    assert str(moved.periods["late"].test[1]) == "2017-10-20"

    other.write_text(other.read_text() + STUDY[STUDY.index("[periods.late") : STUDY.index("[contenders")])
    with pytest.raises(UserError, match=r"has the \[periods\] of .*study.toml"):
        Study.read(other)


def test_a_study_of_other_data_has_the_settings_that_a_search_chose(tmp_path: Path) -> None:
    text = STUDY[: STUDY.index("[contenders")].format(folder=tmp_path)
    searching = text + (
        f'[search]\ntrials = 1\nperiod = "late"\nresults = "{tmp_path}/search"\n'
        '[search.model]\n"model.view_dim" = { choices = [4, 8] }\n[contenders.m2m]\n'
    )
    (tmp_path / "searching.toml").write_text(searching)
    other = tmp_path / "other.toml"
    named = text.replace("[study]", f'[study]\nsearch_of = "{tmp_path}/searching.toml"').replace("late", "later")
    other.write_text(named + "[contenders.m2m]\n")
    (tmp_path / "search").mkdir()
    (tmp_path / "search/m2m.csv").write_text("trial,model.view_dim,nmae,smape\n0,8,0.5,0.6\n")
    study = Study.read(other)
    assert "model.view_dim=8" in study.overrides(CellKey(model="m2m", period="later", seed=study.study.seeds[0]))
    assert study.seen_by_the_search == ()

    ablations = tmp_path / "ablations.toml"
    without_periods = named[: named.index("[periods")].replace("search_of", "base").replace("searching", "other")
    ablations.write_text(without_periods + "[contenders.m2m]\n")
    assert Study.read(ablations).seen_by_the_search == ()
    with pytest.raises(UserError, match="has the settings of the search of"):
        search.main(["--config", str(ablations)])

    other.write_text(other.read_text() + searching[searching.index("[search]") : searching.index("[contenders")])
    with pytest.raises(UserError, match=r"has the \[search\] of"):
        Study.read(other)


@pytest.mark.parametrize("parts", ['["m2m"]', '["m2m", "both"]', '["m2m", "nobody"]'])
def test_a_combination_is_of_other_contenders(study: Study, tmp_path: Path, parts: str) -> None:
    path = tmp_path / "combined.toml"
    path.write_text(STUDY.format(folder=tmp_path) + f"\n[contenders.both]\nparts = {parts}\n")
    with pytest.raises(UserError, match="the parts of both must be two or more of"):
        Study.read(path)


@pytest.mark.parametrize("own", ['set_dataset = ["sequence.length=20"]', 'floor = "observable"', "members = 5"])
def test_a_combination_has_nothing_of_its_own(study: Study, tmp_path: Path, own: str) -> None:
    path = tmp_path / "combined.toml"
    parts = list(study.contenders)[:2]
    path.write_text(STUDY.format(folder=tmp_path) + f"\n[contenders.both]\nparts = {parts}\n{own}\n".replace("'", '"'))
    with pytest.raises(UserError, match="both has parts and nothing of its own, however: "):
        Study.read(path)


@pytest.mark.parametrize("job", [compare, search])
def test_no_process_at_all_is_refused(job: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job.main(["--config", "study.toml", "--processes", "0"])
    assert "--processes: must be at least 1, however: 0" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(ROOT.glob("jobs/configs/studies/*.toml")), ids=lambda path: path.stem)
def test_the_studies_that_come_with_the_project_can_be_run(path: Path) -> None:
    study = Study.read(path)
    for name, contender in study.contenders.items():
        key = CellKey(model=name, period=study.study.design_period, seed=study.study.seeds[0])
        RunConfig.read(ROOT / study.study.run, [*study.dataset_overrides(key), *study.study.set, *contender.set])
        assert contender.baseline in ("", *BASELINES)
