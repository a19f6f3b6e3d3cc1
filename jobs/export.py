"""The model that forecasts as one file for ``torch.export.load``, without this package: ``<out>/export/model.pt2``.

``examples/score_exported.py`` scores a feature day with it.
"""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from training.checkpoint import load_model
from training.export import FILE, export_model


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="", help="published model; default: the promoted one, or the run's")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    model, out = load_model(arguments.model or config.forecasting_model().location), config.run.path("export")
    about = export_model(model, out)
    print(f"exported model {model.version} to {out}/{FILE}: {len(about['inputs'])} columns to {len(about['outputs'])}")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(run_job(main))
