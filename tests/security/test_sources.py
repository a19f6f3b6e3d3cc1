"""No source file calls a shell, runs text as code, or loads what is pickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for package in ("etl", "jobs", "m2m_model", "training") for path in sorted((ROOT / package).rglob("*.py"))
]
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "os.system", "os.popen", "os.execv", "marshal.loads", "yaml.load", "joblib.load"),
    *("pickle.load", "pickle.loads", "cloudpickle.loads", "pandas.read_pickle", "ray.cloudpickle.loads"),
}
WITHIN_SPARK = {("etl/pack.py", "pickle.loads")}
"""Between two stages of one Spark job, whose own protocol with its Python workers is pickle; it is never stored."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_that_runs_what_it_reads(path: Path) -> None:
    for name, call in calls(path):
        where = f"{path}:{call.lineno}"
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (str(path.relative_to(ROOT)), name) not in WITHIN_SPARK:
            assert name not in FORBIDDEN_CALLS, where
        assert "shell" not in arguments, where
        assert arguments.get("allow_pickle", "False") == "False", where
        if name == "torch.load":
            assert arguments["weights_only"] == "True", where
