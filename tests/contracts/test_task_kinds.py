"""What kinds of tasks mean for the contract: columns, and fingerprints."""

import json

from m2m_model.contracts.schema import QUANTILES, dataset_schema, forecast_names
from m2m_model.contracts.spec import ActivitySpec, DatasetSpec, ExposureSpec, TaskSpec


def make_spec(*tasks: TaskSpec) -> DatasetSpec:
    return DatasetSpec(
        timezone="UTC",
        sequence_length=20,
        horizon=7,
        availability_lag_days=0,
        history_weeks=5,
        advertiser_id_type="string",
        scenarios=("feed",),
        behavior=(),
        performance=(),
        profile=(),
        scenario_attributes=(),
        tasks=tasks,
        activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
    )


COUNT = TaskSpec(name="clicks", unit="", table="t", expr="x", scale=0, mean_label=1.0, max_label=1.0)
RATE = COUNT.model_copy(update={"name": "ctr", "kind": "rate", "exposure": ExposureSpec(expr="y", scale=0)})
CHURN = COUNT.model_copy(update={"name": "churn", "kind": "binary", "outcome": "none"})


def test_rates_alone_have_exposures_and_they_go_with_the_labels() -> None:
    spec = make_spec(COUNT, RATE, CHURN)
    labelled, day = (set(dataset_schema(spec, labels=labels).names) for labels in (True, False))
    assert labelled - day == {"label_clicks", "label_ctr", "label_churn", "exposure_ctr"}


def test_quantiles_are_of_amounts_alone() -> None:
    names = forecast_names(make_spec(COUNT, RATE, CHURN), quantiles=True)
    assert [name for name in names if "_p" in name.replace("_point", "")] == [f"clicks_{name}" for name in QUANTILES]


def test_what_a_rate_is_per_and_what_counts_as_an_outcome_determine_rows() -> None:
    other = RATE.model_copy(update={"exposure": ExposureSpec(expr="z", scale=0)})
    visits = CHURN.model_copy(update={"outcome": "any"})
    specs = [make_spec(task) for task in (COUNT, RATE, other, CHURN, visits)]
    assert len({spec.feature_fingerprint for spec in specs}) == 5


def test_the_fingerprint_of_counts_does_not_hang_on_what_other_kinds_have() -> None:
    spec = make_spec(COUNT)
    content = json.loads(spec.to_json())
    for name in ("exposure", "outcome"):
        del content["tasks"][0][name]
    assert DatasetSpec.from_json(json.dumps(content), source="spec.json") == spec
