"""Freed memory is used again: a large tensor after a larger one costs no page faults."""

import subprocess
import sys

CODE = """
import resource, torch
from training.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {tuned}:
    keep_freed_memory()
torch.ones(32 << 20)
before = faults()
torch.ones(16 << 20)
print(faults() - before)
"""


def second_tensor_faults(*, tuned: bool) -> int:
    code = CODE.format(tuned=tuned)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def test_a_second_tensor_costs_no_page_faults() -> None:
    assert second_tensor_faults(tuned=True) < 1000 < second_tensor_faults(tuned=False)
