"""The public peer, deep-rec-kit 1.0.2 (TensorFlow), at the paper's sizes: run by an environment of its own.

    .venv-peer/bin/python benchmarks/train/peer.py --steps 4

Shared meta units, L = 1: what the package can do at these sizes. Its tasks have one unit of each kind, every row has
its weight matrices. Same batch, features, loss, clipping and Adam; one core. Prints one JSON object.
"""

import argparse
import json
import os
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # without AVX-512 it is off by default, and the peer 1.7 times slower
import numpy as np
import tensorflow as tf
from recsys.feature import Field, Task
from recsys.multidomain.m2m import m2m

ROWS, TASKS, DAYS, FEATURES, KNOWLEDGE, BUCKETS = 256, 5, 40, 5, 4, 13


def fields() -> list[Field]:
    """Two sequences of 40 days and 5 features, 4 scenario and 4 profile attributes, an id for each task."""
    sequences = [
        Field(name=f"{name}{i}", vocabulary_size=BUCKETS + 1, dim=16, belong="history", length=DAYS, group=name)
        for name in ("behavior", "performance")
        for i in range(FEATURES)
    ]
    knowledge = [
        Field(name=f"{kind}{i}", vocabulary_size=BUCKETS, dim=16, belong=kind)
        for kind in ("domain", "user")
        for i in range(KNOWLEDGE)
    ]
    tasks = [Field(name=f"id{t}", vocabulary_size=2, dim=16, belong="task", group=f"task{t}") for t in range(TASKS)]
    return sequences + knowledge + tasks


def inputs(random: np.random.Generator) -> dict[str, tf.Tensor]:
    shapes = {field.name: (ROWS, DAYS) if field.belong == "history" else (ROWS,) for field in fields()}
    return {
        name: tf.constant(random.integers(1, 2 if name.startswith("id") else BUCKETS, shape), tf.int32)
        for name, shape in shapes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4, help="the first one is not timed")
    steps = parser.parse_args().steps
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = m2m(
        fields(),
        [Task(name=f"task{t}", belong="regression") for t in range(TASKS)],
        num_experts=4,
        view_dim=256,
        scenario_dim=64,
        meta_tower_depth=1,
        meta_unit_depth=3,
        meta_unit_shared=True,
        history_agg="transformer",
        agg_kwargs={"position_merge": "concat"},
    )
    optimizer = tf.keras.optimizers.legacy.Adam(1e-4, beta_1=0.9, beta_2=0.998, epsilon=1e-9)

    @tf.function
    def step(rows: dict[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(rows, training=True)
            log_rates = tf.concat([tf.reshape(outputs[t], (-1, 1)) for t in range(TASKS)], axis=1)
            loss = tf.reduce_mean(tf.reduce_sum(tf.exp(log_rates) - labels * log_rates, axis=1))
        gradients = tape.gradient(loss, model.trainable_variables)
        pairs = [
            (tf.clip_by_value(tf.convert_to_tensor(gradient), -3.0, 3.0), variable)
            for gradient, variable in zip(gradients, model.trainable_variables, strict=True)
            if gradient is not None
        ]
        optimizer.apply_gradients(pairs)
        return loss

    random = np.random.default_rng(0)
    seconds = []
    for _ in range(steps):
        rows, labels = inputs(random), tf.constant(random.poisson(3.0, (ROWS, TASKS)), tf.float32)
        start = time.process_time()
        step(rows, labels).numpy()
        seconds.append(time.process_time() - start)
    best = seconds[1:]
    print(json.dumps({"samples_per_core_s": ROWS * len(best) / sum(best), "seconds": seconds}))


if __name__ == "__main__":
    main()
