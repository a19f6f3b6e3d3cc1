"""Configuration of the training side: optimisation, readers, cluster, prediction, baselines."""

from typing import Literal, Self

from pydantic import Field, model_validator

from m2m_model.config import LossConfig
from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.locations import Location
from training.dashboard.config import DashboardConfig
from training.engagement.config import EngagementConfig, ListName
from training.experiments.config import ExperimentConfig
from training.monitor.config import MonitorConfig
from training.nightly.config import KeeperConfig
from training.registry.config import RegistryConfig
from training.tracking.config import TrackingConfig

Precision = Literal["fp32", "bf16"]


class TrainConfig(StrictConfig):
    """Optimisation; the defaults are the paper's (5.1.3)."""

    seed: int = 0
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=1)
    """Rows per update of the weights: of all workers together, or of one where ``sync`` is ``async``."""
    learning_rate: float = Field(default=2e-3, gt=0)
    learning_rate_decay: float = Field(default=1.0, gt=0, le=1)
    """An epoch's learning rate over that of the epoch before."""
    betas: tuple[float, float] = (0.9, 0.998)
    eps: float = 1e-9
    clip_value: float = Field(default=3.0, gt=0)
    precision: Precision = "fp32"
    """Of matrix products and generated weights, in training and validation; weights, loss and optimizer stay fp32."""
    l2_meta: float = Field(default=0.0, ge=0)
    """alpha of eq. 19 for W1, the meta units' parameters."""
    l2_network: float = Field(default=0.0, ge=0)
    """alpha of eq. 19 for W2, the other weights; embeddings and biases excluded."""
    loss: LossConfig = LossConfig()
    task_weights: dict[str, float] = {}
    """What a task counts beside the others, in every term of the loss; default 1. lambda_t of eq. 19 is this times 1 /
    mean training label of a count or rate, its root of a spend, 1 of a binary task."""
    early_stopping_patience: int = Field(default=3, ge=1)
    """Epochs without a better validation loss after which training stops."""
    refit: bool = False
    """Train anew, as many epochs as had the best validation loss, on the eligible rows of training and validation
    together. Forecast rules stay those that were fitted with the first model, which had not seen validation rows."""
    checkpoint_every_steps: int = Field(default=500, ge=1)
    sync: Literal["ddp", "local_sgd", "async"] = "ddp"
    """How several workers make one model; docs/decisions/ says which when."""
    all_reduce: Literal["fp32", "bf16"] = "fp32"
    """What gradients travel as (``ddp``)."""
    bucket_mib: int = Field(default=25, ge=1)
    """Gradients are sent in buckets of this size while the backward pass goes on (``ddp``)."""
    shard_optimizer: bool = False
    """Each worker keeps Adam's moments of its share of the weights alone (``ddp``), where memory binds."""
    sync_period: int = Field(default=8, ge=1)
    """Steps between averages of the weights (``local_sgd``)."""
    staleness: int = Field(default=16, ge=0)
    """Updates that the weights may get between a gradient's pull and its own update (``async``). With less than
    the number of workers some of them wait."""
    parameter_servers: int = Field(default=1, ge=1)
    """Actors that hold the weights (``async``); each takes a core's time to update its share."""

    def rows_per_worker(self, workers: int) -> int:
        """Rows of a worker's batch."""
        return self.batch_size if self.sync == "async" else -(-self.batch_size // workers)


class ReaderConfig(StrictConfig):
    name: Literal["parquet", "ray_data", "petastorm"] = "parquet"
    shuffle_blocks: int = Field(default=16, ge=1)
    """Row groups mixed together before rows are dealt into batches; bounds memory. Ray Data mixes as many rows, out of
    files in a random order; petastorm the rows of each row group alone."""
    group_rows: int = Field(default=1, ge=1)
    """Up to so many rows of one knowledge key follow each other, so that batches generate fewer weights; 1: a plain
    shuffle. Larger ``shuffle_blocks`` find more rows of a key, and mix more as-of days. The Parquet reader's alone."""


class ClusterConfig(StrictConfig):
    address: Location = ""
    """Ray address to join; empty: RAY_ADDRESS if set, else a local cluster that lives as long as the job."""
    workers: int = Field(default=1, ge=1)
    cpus_per_worker: float = Field(default=1, gt=0)
    max_failures: int = Field(default=2, ge=0)


class PredictConfig(StrictConfig):
    actors: int = Field(default=1, ge=1)
    batch_size: int = Field(default=262_144, ge=1)
    """Rows read at a time, and scored in the order of their knowledge keys: the more, the more rows share what is
    generated from a key. Bounds memory: a row's tensors are 1.9 KB at the paper's sizes, beside Arrow's own."""
    precision: Precision = "fp32"
    """Of a model's matrix products and generated weights."""
    grace_seconds: float = Field(default=3600.0, ge=0)


class EvaluationConfig(StrictConfig):
    leave_out: tuple[str, ...] = ()
    """Advertiser ids that results are also given without, for instance one that is a fifth of all sales."""


class BaselinesConfig(StrictConfig):
    names: tuple[str, ...] = ("last_7_days", "mean_28_days", "median_5_weeks", "lightgbm_poisson")
    """Keys of ``training.baselines.registry.BASELINES``: those that ``evaluate`` fits."""
    lightgbm_rounds: int = Field(default=200, ge=1)
    lightgbm_max_rows: int = Field(default=200_000, ge=1)
    """Training rows for LightGBM, the most recent as-of days first."""
    lightgbm_learning_rate: float = Field(default=0.1, gt=0)
    lightgbm_leaves: int = Field(default=31, ge=2)
    lightgbm_min_rows: int = Field(default=50, ge=1)
    """Of a leaf."""
    lightgbm_inputs: float = Field(default=0.2, gt=0, le=1)
    """Share of the inputs that each tree sees."""


class TrainingConfig(StrictConfig):
    """All sections of a run's TOML that the training side owns, the model's aside."""

    train: TrainConfig = TrainConfig()
    reader: ReaderConfig = ReaderConfig()
    cluster: ClusterConfig = ClusterConfig()
    predict: PredictConfig = PredictConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    engagement: EngagementConfig = EngagementConfig()
    experiments: dict[ListName, ExperimentConfig] = {}
    monitor: MonitorConfig = MonitorConfig()
    dashboard: DashboardConfig = DashboardConfig()
    keeper: KeeperConfig = KeeperConfig()
    registry: RegistryConfig = RegistryConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _lists_exist(self) -> Self:
        for name, experiment in self.experiments.items():
            if experiment.list not in self.engagement.lists:
                raise ValueError(
                    f"experiments.{name}.list must be one of {sorted(self.engagement.lists)} of [engagement.lists], "
                    f"however: {experiment.list!r}"
                )
        return self
