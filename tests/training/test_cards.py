"""The cards say what was trained on what, from the spec and the manifest, and lie beside the model they are of."""

import datetime
from pathlib import Path

from m2m_model.contracts.store import Folder, Manifest, read_manifest
from tests.training.test_checkpoint import CONTENT, RULES, snapshot
from tests.training.tiny import SPEC, publish_tables, random_table
from training.cards import DATA_CARD, MODEL_CARD, cards
from training.checkpoint import load_model, publish_model

DAY = datetime.date(2017, 3, 1)


def dataset(folder: Path, **content: object) -> Manifest:
    table = random_table(30, seed=0, day=DAY, labels=True)
    made = publish_tables(str(folder / "dataset"), "dataset", {"part-0": (table, {"split": "train", "dt": str(DAY)})})
    known = {
        "run": "tiny",
        "splits": {"train": ["2017-03-01", "2017-03-01"]},
        "as_of_days": {"train": 1},
        "rows_by_scenario": {"train": {"a": 17, "b": 13}},
        "inputs": {"performance": {"2017-03-01": "1 files", "2017-03-02": "1 files"}, "profile": None},
        "drift": {"test": {"performance.sales": 0.3124}},
        "config": {"checks": {"null_keys": "drop"}},
    }
    return made.model_copy(update={"content": known | content})


def written(folder: Path, **content: object) -> dict[str, str]:
    return cards(
        spec=SPEC,
        dataset=dataset(folder, **content),
        snapshot=snapshot(),
        content=CONTENT,
        rules=RULES,
        parameters=1234,
    )


def test_the_model_card_says_how_it_was_trained_and_how_well(tmp_path: Path) -> None:
    page = written(tmp_path)[MODEL_CARD]
    for said in (
        f"generation g1, features {SPEC.feature_fingerprint}",
        "| parameters | 1,234 |",
        "| training rows | 30 |",
        "| 1 | 0.3000 | 0.3333 |",
        "| units | count | units | 0.25 | 0.9 |",
    ):
        assert said in page


def test_the_data_card_says_what_rows_are_and_where_they_come_from(tmp_path: Path) -> None:
    page = written(tmp_path)[DATA_CARD]
    for said in (
        "| train | 2017-03-01 .. 2017-03-01 (1) | 30 | 17 | 13 |",
        "| performance | 2 parts, 2017-03-01 .. 2017-03-02 |",
        "| profile | a catalog table that names no files |",
        "No row was left out, though null_keys might have been.",
        "performance.sales 0.312",
        "| performance | sales | `sum(sales)` over performance | own | 5 |",
    ):
        assert said in page


def test_rows_left_out_are_counted(tmp_path: Path) -> None:
    page = written(tmp_path, dropped={"unknown_scenarios": 1200})[DATA_CARD]
    assert "Rows left out by `[checks]`: 1,200 with unknown scenarios." in page


def test_cards_are_published_with_their_model_and_copied_beside_its_manifest(tmp_path: Path) -> None:
    pages = written(tmp_path)
    where = tmp_path / "model"
    publish_model(
        str(where), snapshot=snapshot(), spec=SPEC, content=CONTENT, rules=RULES, grace_seconds=0, cards=pages
    )
    manifest = read_manifest(Folder.at(where), kind="model", build_hint="")
    for name, text in pages.items():
        (entry,) = manifest.select(role=name)
        assert (where / entry.path).read_text() == (where / name).read_text() == text
    assert load_model(str(where)).spec == SPEC
