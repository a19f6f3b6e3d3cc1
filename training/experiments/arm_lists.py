"""Each arm's list of a day: of a holdout the published list, dealt; of arms what each arm's model selects within it."""

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest
from training.engagement.config import ListConfig
from training.engagement.inputs import KIND, is_current
from training.engagement.publish import publish_list, publish_pairs
from training.experiments.config import ExperimentArm, ExperimentConfig
from training.experiments.enrolment import members
from training.published import parquet_files, read_rows

LISTS = "lists"
SELECT_HINT = "run m2m select --date D first"


def read_list(location: str) -> tuple[Manifest, pa.Table]:
    """A published list of a day.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind=KIND, build_hint=SELECT_HINT)
    (entry,) = parquet_files(manifest)
    return manifest, read_rows(folder, entry, None)


def deal_list(
    folder: str,
    experiment: ExperimentConfig,
    assignment: pa.Table,
    *,
    date: datetime.date,
    published: Manifest,
    listed: pa.Table,
    grace_seconds: float,
) -> dict[str, int]:
    """Publish each arm's part of the day's list below ``folder``, where it is not there; pairs by arm."""
    pairs = {}
    for arm in experiment.arms:
        out = below(folder, LISTS, arm.name, f"dt={date}")
        manifest = _published(out)
        if manifest is None or manifest.content["list_generation"] != published.generation:
            inside = pa.array(members(assignment, arm.name, by=date), pa.string())
            mine = listed.filter(pc.is_in(listed["advertiser_id"].cast(pa.string()), value_set=inside))
            content = {"list": arm.name, "dealt_from": experiment.list, "list_generation": published.generation}
            manifest = publish_pairs(out, mine, content, grace_seconds=grace_seconds)
        pairs[arm.name] = manifest.rows
    return pairs


def select_within_arms(
    folder: str,
    experiment: ExperimentConfig,
    assignment: pa.Table,
    rule: ListConfig,
    *,
    date: datetime.date,
    features: str,
    predictions: str,
    grace_seconds: float,
) -> dict[str, int]:
    """Publish what each arm's model selects among its advertisers below ``folder``, where it is not there.

    Args:
        features: the day's published folder.
        predictions: folder of the run's daily predictions, for arms that name none.

    Returns:
        Pairs by arm.

    Raises:
        UserError: an arm's predictions of the day are not published, or not of these features.
    """
    lists, pairs = below(folder, LISTS), {}
    for arm in experiment.arms:
        mine, scored = arm_rule(rule, arm, experiment), below(arm.predictions or predictions, f"dt={date}")
        inside = members(assignment, arm.name, by=date)
        generation = read_manifest(
            Folder.at(scored), kind="predictions", build_hint=f"predict the day for arm {arm.name} first"
        ).generation
        if not is_current(arm.name, mine, date=date, predictions_generation=generation, lists=lists, among=inside):
            publish_list(
                arm.name,
                mine,
                date=date,
                features=features,
                predictions=scored,
                lists=lists,
                grace_seconds=grace_seconds,
                among=inside,
            )
        pairs[arm.name] = read_list(below(lists, arm.name, f"dt={date}"))[0].rows
    return pairs


def arm_rule(rule: ListConfig, arm: ExperimentArm, experiment: ExperimentConfig) -> ListConfig:
    """The rule with the arm's share of every budget.

    Example:
        >>> import datetime
        >>> day = datetime.date(2018, 1, 1)
        >>> arms = (ExperimentArm(name="a"), ExperimentArm(name="b"))
        >>> experiment = ExperimentConfig(
        ...     design="arms", arms=arms, salt="s", first=day, last=day, spend="sales", cap=1.0
        ... )
        >>> arm_rule(ListConfig(budget=100), arms[0], experiment).budget
        50
    """
    total = sum(one.share for one in experiment.arms)
    budgets = {scenario: budget * arm.share // total for scenario, budget in rule.budgets.items()}
    return rule.model_copy(update={"budget": rule.budget * arm.share // total, "budgets": budgets})


def _published(location: str) -> Manifest | None:
    folder = Folder.at(location)
    return read_manifest(folder, kind=KIND, build_hint=SELECT_HINT) if folder.exists(MANIFEST) else None
