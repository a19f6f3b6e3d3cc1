"""One repetition of a kind of fault: its random numbers, and what was seen."""

import os
import random
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

SEED = int(os.environ.get("FAULT_SEED", "0"))
REPETITIONS = {
    "cheap": int(os.environ.get("FAULT_REPETITIONS", "1")),
    "costly": int(os.environ.get("FAULT_COSTLY_REPETITIONS", "1")),
}
ROOT = Path(__file__).parent.parent.parent
COMMIT = subprocess.run(
    ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
).stdout.strip()


@dataclass(kw_only=True)
class Fault:
    kind: str
    repetition: int
    saw: list[str] = field(default_factory=list)
    """Short words for what happened; the results count them."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What was measured; the results give the range."""

    @cached_property
    def random(self) -> random.Random:
        """The same for a seed, a kind and a repetition, whichever other tests run."""
        return random.Random(f"{SEED} {self.kind} {self.repetition}")
