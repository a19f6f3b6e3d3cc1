"""The C library's allocator, told to keep what is freed."""

import ctypes

# Parameters of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
NEVER = 2**31 - 1
PAD_BYTES = 64 << 20
"""Asked for beyond what is needed, so that small objects do not eat into the room that a large tensor leaves."""
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For the environment that a process starts with: glibc asks for memory in huge pages, which spares looking up
addresses. A study's cells take an eighth less time by it; first steps of large models take longer, so that jobs do
without (benchmarks/training.md)."""


def keep_freed_memory() -> None:
    """Have large tensors reuse freed memory instead of getting it from the kernel page by page, every step anew.

    Generated weights are hundreds of megabytes that live for a moment: page faults make a step 1.6 to 1.8 times as
    long. A process stays as large as it has been. Without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
        mallopt(M_TOP_PAD, PAD_BYTES)
        mallopt(M_ARENA_MAX, 1)  # other arenas, as of a worker's thread, cannot hold large tensors
