"""Freed memory is used again: a second large tensor costs no page faults."""

import subprocess
import sys

CODE = """
import resource, torch
from training.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {tuned}:
    keep_freed_memory()
for _ in range(2):
    before = faults()
    torch.ones(64 << 20)
    spent = faults() - before
print(spent)
"""


def second_tensor_faults(*, tuned: bool) -> int:
    code = CODE.format(tuned=tuned)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def test_a_second_tensor_costs_no_page_faults() -> None:
    assert second_tensor_faults(tuned=True) < 100 < second_tensor_faults(tuned=False)
