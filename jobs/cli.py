"""m2m: every job of the system under one name. ``m2m VERB --help`` says what a verb takes."""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial

from jobs.config import run_job
from m2m_model.contracts.errors import UserError

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "init": ("jobs.init", "inspect your tables, convert them, write a commented TOML"),
        "check": ("jobs.check", "validate a config and its data without building; how large, how long"),
    },
    "A run, in this order": {
        "build": ("jobs.build_dataset", "raw tables to a dataset, or to one day's features"),
        "train": ("jobs.train", "a dataset to a published model"),
        "evaluate": ("jobs.evaluate", "the model and its baselines on the test period"),
        "predict": ("jobs.predict", "one day's features to predictions"),
        "select": ("jobs.select_rewarded", "one day's predictions to lists of whom to help, and how"),
        "report": ("jobs.report", "a page with the results"),
    },
    "Every night": {
        "daily": ("jobs.daily", "one day: features, predictions, lists"),
        "monitor": ("jobs.monitor", "a past night against what happened; drift, freshness, alerts"),
        "dashboard": ("jobs.dashboard", "pages of the nights and of every advertiser"),
        "status": ("jobs.status", "which days are missing, complete, stale or failed"),
        "propose-spec": ("jobs.propose_spec", "new bucket edges from recent days"),
        "retrain": ("jobs.retrain", "a new model of the newest days; promoted if it is no worse"),
        "registry": ("jobs.registry", "versions of the model: register, promote, list"),
        "export": ("jobs.export", "a model as one file that torch alone scores"),
    },
    "Experiments on the platform": {
        "enrol": ("jobs.enrol", "one day's advertisers to arms, and each arm's list"),
        "read-experiment": ("jobs.read_experiment", "what an experiment found, from matured days"),
    },
    "Studies": {
        "search": ("jobs.search", "hyperparameters of every model, on the same budget"),
        "compare": ("jobs.compare", "models x periods x seeds, each cell saved"),
        "exhibits": ("jobs.exhibits", "tables and pictures of a study"),
        "experiments": ("jobs.experiments", "two experiments with a known effect, and what they show"),
    },
    "Data to try it on": {
        "demo": ("jobs.demo", "the whole pipeline on public data"),
        "make-raw": ("jobs.make_raw", "The Complete Journey as raw tables"),
        "make-synthetic": ("jobs.make_synthetic", "a synthetic platform whose truth is known"),
        "floors": ("jobs.floors", "how well the synthetic platform can be forecast at all"),
    },
}
"""Verb -> module with ``main(argv)``, and what it does, by heading."""

MODULES = {verb: module for verbs in VERBS.values() for verb, (module, _) in verbs.items()}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    verb, *rest = words
    if verb not in MODULES:
        near = get_close_matches(verb, MODULES, n=1, cutoff=0.0)[0]
        raise UserError(f"there is no verb {verb!r} (did you mean {near!r}?): m2m --help lists them")
    sys.argv = [f"m2m {verb}", *rest]  # what argparse calls the program
    return int(importlib.import_module(MODULES[verb]).main(rest))


def _help() -> str:
    width = max(map(len, MODULES))
    lines = ["usage: m2m VERB [arguments]        m2m VERB --help says what a verb takes", ""]
    for heading, verbs in VERBS.items():
        lines += [f"{heading}:", *(f"  {verb:<{width}}  {text}" for verb, (_, text) in verbs.items()), ""]
    lines.append(
        "Runs are described in one TOML file: --config FILE, and --set section.key=value overrides a line of it."
    )
    return "\n".join(lines)


def run() -> int:
    """The ``m2m`` command."""
    return run_job(partial(main, None))


if __name__ == "__main__":
    sys.exit(run())
