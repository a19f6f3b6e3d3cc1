"""A month in which things go wrong, replayed: what ``docs/operations.md`` says that the keeper says of each night."""

from collections.abc import Iterator

import pytest

from jobs.exit_codes import ExitCode
from m2m_model.contracts.schema import KEYS
from tests.nightly.disturbances import DISTURBANCES, DRIFTING, STILL_DRIFTED
from tests.nightly.month import NIGHTS, SCENARIOS, Month, Told
from tests.nightly.processes import ray_cluster
from tests.nightly.run import read_predictions
from training.nightly.summary import night_folder, read_summary

pytestmark = [
    pytest.mark.month,
    pytest.mark.spark,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(7200),
]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Month]:
    with ray_cluster() as ray_address:
        month = Month(folder=tmp_path_factory.mktemp("month"), ray_address=ray_address)
        month.play()
        yield month


def night(month: Month, number: int) -> Told:
    return next(told for told in month.told if told.number == number)


def alerts(told: Told) -> set[str]:
    """Checks that the night names."""
    return {line.partition(": ")[0] for line in told.said if not line.startswith(("`", "error: ", "20"))}


def steps(month: Month, number: int) -> dict[str, str]:
    summary = read_summary(night_folder(str(month.out / "daily"), month.date(number)))
    assert summary is not None
    return {step.name: step.status for step in summary.steps}


def test_an_undisturbed_night_is_calm(month: Month) -> None:
    """Also one on which others were caught up."""
    disturbed = {*DISTURBANCES, *STILL_DRIFTED} - {14}
    for told in month.told:
        if told.number not in disturbed:
            assert (told.status, alerts(told)) == (ExitCode.OK, set()), told


def test_rows_that_are_late_are_missed_and_then_mended_by_hand(month: Month) -> None:
    told = night(month, 6)
    assert (told.status, alerts(told)) == (ExitCode.ALERT, {"table_rows.performance"})
    before, _, _, after = night(month, 8).said
    assert before == f"`status` ends with 3: {month.date(6)} stale, {month.date(7)} stale"
    assert after == "`status` ends with 0: all complete"


def test_a_table_without_rows_is_missed(month: Month) -> None:
    told = night(month, 10)
    assert told.status == ExitCode.ALERT
    assert {"days_behind.performance", "table_rows.performance"} <= alerts(told)
    assert night(month, 11).status == ExitCode.OK


def test_forecasts_made_without_a_days_rows_are_found_wrong_when_their_labels_mature(month: Month) -> None:
    """Night 10 went on without them; its week is over on night 17, the only other that says anything of forecasts.

    How far off they are depends on the model, which is trained on the machine: in their spread, often in their sum too.
    """
    of_forecasts = {alert.partition(".")[0] for alert in alerts(night(month, 17))}
    assert {"calibration"} <= of_forecasts <= {"calibration", "bias"}
    assert night(month, 17).status == ExitCode.ALERT


def test_a_night_that_was_not_started_is_caught_up_by_the_next(month: Month) -> None:
    told = night(month, 14)
    assert (night(month, 13).status, told.status) == (None, ExitCode.OK)
    assert told.said == [f"{month.date(13)} was caught up"]


def test_another_schema_stops_the_night_and_the_next_one_heals_it(month: Month) -> None:
    told = night(month, 16)
    assert told.status == ExitCode.FEATURES_FAILED
    (said,) = told.said
    assert said.startswith(f"error: night of {month.date(16)}: features failed: ")
    assert "files must have the same columns, however: 'cost' is only in one of" in said
    assert night(month, 17).said[0] == f"{month.date(16)} was caught up"
    assert set(steps(month, 16).values()) == {"done"}


def test_drift_is_said_while_it_is_in_the_week_that_is_looked_at(month: Month) -> None:
    for number in (*DRIFTING[1:], *STILL_DRIFTED):
        told = night(month, number)
        (said,) = (line for line in told.said if line.startswith("drift: "))
        assert "behavior.logins" in said
        assert told.status == ExitCode.ALERT
    assert not any("drift" in alerts(told) for told in month.told if told.number not in (*DRIFTING, *STILL_DRIFTED))


def test_a_bad_model_is_refused_and_the_promoted_one_goes_on(month: Month) -> None:
    (said,) = (line for line in night(month, 28).said if line.startswith("`retrain`"))
    assert said.startswith("`retrain` ends with 6: NMAE of the point forecast: ")
    registry = month.registry()
    assert [decision["promoted"] for decision in registry["decisions"]] == [True, False]
    assert registry["promoted"] == registry["decisions"][0]["version"]
    for number in range(1, NIGHTS + 1):
        versions = read_predictions(month.out, month.date(number))["model_version"].unique().to_pylist()
        assert versions == [registry["promoted"]]


def test_no_day_is_missing_and_no_pair_is_there_twice(month: Month) -> None:
    for number in range(1, NIGHTS + 1):
        predictions = read_predictions(month.out, month.date(number))
        keys = set(zip(*(predictions[key].to_pylist() for key in KEYS), strict=True))
        assert len(keys) == len(predictions) > 0
        assert {scenario for _, scenario, _ in keys} == set(SCENARIOS)
        assert {as_of for _, _, as_of in keys} == {month.date(number)}


def test_what_is_stale_at_the_end_is_the_day_that_nobody_made_again(month: Month) -> None:
    assert night(month, 30).said[-1] == f"`status` ends with 3: {month.date(10)} stale"
