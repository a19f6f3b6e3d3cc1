"""The model registry of ``[registry]``: register the run's model, list what is there, promote a version.

``promote`` refuses (exit status 6) a version that is worse than the promoted one on the test period of the dataset;
``--force`` promotes it all the same, and is recorded. docs/operations.md shows it.
"""

import argparse
import datetime
import getpass
import json
import sys
from collections.abc import Sequence
from typing import Any

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from jobs.processes import common_arguments, run_module
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below
from training.checkpoint import load_model
from training.nightly.lock import locked
from training.registry.backtest import Verdict, backtest, judge, tested
from training.registry.store import Decision, PublishedModel, Registry


def main(argv: Sequence[str] | None = None, *, keep: int | None = None) -> int:
    """``keep``: a file descriptor that processes of this job inherit, such as a lock's."""
    parser = argument_parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    register = actions.add_parser("register", help="copy the run's model into a version of its own")
    register.add_argument("--model", default="", help="published model; default: the run's")
    promote = actions.add_parser("promote", help="let a version forecast, if it is not worse than the promoted one")
    promote.add_argument("version")
    promote.add_argument("--force", action="store_true", help="although it is worse, or cannot be compared; recorded")
    for action in (register, promote):
        action.add_argument("--why", required=True, help="for whoever asks later")
        action.add_argument("--by", default=getpass.getuser(), help="who; default: the user that runs this")
        action.add_argument("--dataset", default="", help="what it was trained on; default: the run's")
    actions.add_parser("list", help="versions and decisions").add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    if not config.registry.location:
        raise UserError("there is no registry: give its folder or URI in [registry] location")
    registry = Registry(config.registry.location)
    if arguments.action == "list":
        return _list(registry, as_json=arguments.json)
    dataset = arguments.dataset or config.run.path("dataset")
    if arguments.action == "register":
        model = arguments.model or config.run.path("model")
        made = registry.register(model, dataset=dataset, by=arguments.by, why=arguments.why, at=_now())
        print(f"registered {made.version} in {registry.location} by {made.about['registered_by']}")
        return ExitCode.OK
    return _promote(registry, config, arguments, dataset, keep)


def _promote(
    registry: Registry, config: RunConfig, arguments: argparse.Namespace, dataset: str, keep: int | None
) -> ExitCode:
    candidate, decision = registry.version(arguments.version), registry.decision()
    if decision is not None and decision.version == candidate.version:
        print(f"{candidate.version} is promoted already, since {decision.at:%Y-%m-%d %H:%M} by {decision.by}")
        return ExitCode.OK
    found: Verdict | None = None
    if decision is None:
        verdict = "nothing was promoted before: there is nothing to compare with"
    else:
        try:
            found = _compare(candidate, registry.version(decision.version), config, arguments, dataset, keep)
            verdict = found.text
        except UserError as error:
            if not arguments.force:
                raise
            verdict = f"not compared: {error}"
    refused = decision is not None and (found is None or found.worse)
    promoted = arguments.force or not refused
    decided = Decision(
        version=candidate.version,
        previous=decision.version if decision else "",
        promoted=promoted,
        forced=promoted and refused,
        by=arguments.by,
        at=_now(),
        why=arguments.why,
        verdict=verdict,
        evidence=found.evidence() if found else {},
    )
    with locked(registry.location):
        if registry.decision() != decision:
            raise UserError(
                f"{candidate.version} must be compared with the promoted model, however: another was promoted "
                "meanwhile; run the same command again"
            )
        registry.record(decided)
    print(verdict, flush=True)
    if not promoted:
        print(f"error: {candidate.version} is worse and was not promoted (--force does it)", file=sys.stderr)
        return ExitCode.WORSE
    print(f"promoted {candidate.version}{' by force' if refused else ''}, {arguments.why}")
    return ExitCode.OK


def _compare(
    candidate: PublishedModel,
    promoted: PublishedModel,
    config: RunConfig,
    arguments: argparse.Namespace,
    dataset: str,
    keep: int | None,
) -> Verdict:
    manifest = tested(dataset)
    theirs = dataset
    if promoted.spec.feature_fingerprint != candidate.spec.feature_fingerprint:
        theirs = _same_rows(promoted, config, arguments, manifest, keep)
    ours = backtest(load_model(candidate.location), dataset, config.predict)
    others = backtest(load_model(promoted.location), theirs, config.predict)
    origins = len({entry.partition["dt"] for entry in manifest.select(split="test")})
    return judge(ours, others, config.registry, origins=origins)


def _same_rows(
    promoted: PublishedModel, config: RunConfig, arguments: argparse.Namespace, of: Manifest, keep: int | None
) -> str:
    """The test rows of dataset ``of`` with the features of the promoted model; built unless it is there."""
    out = config.run.path("backtests", f"{of.generation}-{promoted.spec.feature_fingerprint}")
    built_in = below(out, "dataset")
    if not Folder.at(built_in).exists(MANIFEST):
        built = of.content["config"]
        splits = [f"split.{name}=[{first}, {last}]" for name, (first, last) in of.content["splits"].items()]
        # Of training and validation one day each is enough.
        strides = ["split.train_stride=7305", "split.validation_stride=7305"]
        strides.append(f"split.test_stride={built['split']['test_stride']}")
        last_day = f"raw.last_day={built['raw']['last_day']}"
        overrides = [f"run.out={out}", f"run.raw={config.run.path('raw')}", last_day, *splits, *strides]
        known: list[str] = []
        if of.content["as_known_at"]:
            known = ["--as-known-at", of.content["as_known_at"]]
        common = common_arguments(arguments.config, [*arguments.overrides, *overrides])
        run_module("jobs.build_dataset", [*common, "--spec", promoted.spec_location, *known], keep=keep)
    return built_in


def _list(registry: Registry, *, as_json: bool) -> ExitCode:
    versions, decisions, current = registry.versions(), registry.decisions(), registry.decision()
    if as_json:
        document = {
            "promoted": current.version if current else None,
            "versions": [_described(version) for version in versions],
            "decisions": [decision.model_dump(mode="json") for decision in decisions],
        }
        print(json.dumps(document, indent=1))
        return ExitCode.OK
    for version in versions:
        mark = "*" if current and current.version == version.version else " "
        about = _described(version)
        print(f"{mark} {version.version}  {about['registered_at']}  {about['registered_by']}: {about['why']}")
    for decision in decisions:
        what = ("forced" if decision.forced else "promoted") if decision.promoted else "refused"
        print(f"{decision.at:%Y-%m-%d %H:%M}  {what} {decision.version} by {decision.by}: {decision.why}")
        print(f"    {decision.verdict}")
    return ExitCode.OK


def _described(version: PublishedModel) -> dict[str, Any]:
    return {"version": version.version, "feature_fingerprint": version.spec.feature_fingerprint, **version.about}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


if __name__ == "__main__":
    sys.exit(run_job(main))
