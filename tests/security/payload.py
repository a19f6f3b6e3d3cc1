"""What an attacker would put into a pickle: a call that leaves a trace."""

import os
from pathlib import Path
from typing import Any


class Payload:
    """Pickles to ``os.system("touch <trace>")``."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)
