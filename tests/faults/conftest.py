"""Repetitions of faults: how often, drawn from which seed, and what was seen of each."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fault import COMMIT, REPETITIONS, SEED, Fault

KIND = pytest.StashKey[Fault]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat every test that takes a ``fault``: cheap kinds, and costly ones, which are marked ``slow``."""
    if "fault" in metafunc.fixturenames:
        cost = "costly" if metafunc.definition.get_closest_marker("slow") else "cheap"
        metafunc.parametrize("fault", range(REPETITIONS[cost]), indirect=True)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """One repetition, with its random numbers; its line goes into the log that FAULT_LOG names."""
    marker = request.node.get_closest_marker("faults")
    kind = " ".join([marker.args[0], *_variants(request)])
    fault = Fault(kind=kind, repetition=request.param)
    print(f"FAULT_SEED={SEED}")
    request.node.stash[KIND] = fault
    return fault


def _variants(request: pytest.FixtureRequest) -> list[str]:
    """What other parameters the test has, in words."""
    parameters = request.node.callspec.params
    return [f"({value})" for name, value in parameters.items() if name != "fault"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    fault, log = item.stash.get(KIND, None), os.environ.get("FAULT_LOG")
    if fault and log and report.when == "call":
        line = {
            "kind": fault.kind,
            "repetition": fault.repetition,
            "seed": SEED,
            "commit": COMMIT,
            "outcome": report.outcome,
            "saw": fault.saw,
            "numbers": fault.numbers,
        }
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with Path(log).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    return report
