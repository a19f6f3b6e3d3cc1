"""make bench-train: full training steps per core-second, ours against the bmm twin and the public peer.

Every variant runs in a process of its own, one after the other, on one core, with the allocator tuned alike. Those that
the figures with a target are made of run three times, in turns, and count with their medians: a machine's speed
changes within minutes. A line per variant, then medians with their useful arithmetic over the fastest large product
seen; the last line is one JSON object. With ``--results FILE`` what was measured is kept there and not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}
"""glibc keeps freed memory: page faults of fresh large tensors slow every variant 1.6 to 1.8 times."""
ROOT = Path(__file__).parents[2]
TARGETS = {
    "vs_peer_grouped": 12,
    "vs_peer_random": 5,
    "vs_bmm_grouped": 12,
    "vs_bmm_random": 4,
    "vs_bmm_distinct": 2.5,
    "samples_per_core_s": 300,
    "samples_per_core_s_per_task": 130,
    "excess_memory_vs_bmm": 1 / 3,
    "useful_flop_fraction": 0.6,
}
AT_MOST = ("excess_memory_vs_bmm",)
ROUNDS = 3
IN_TURNS = {
    "fast task synthetic_grouped": "--form fast --keys synthetic_grouped",
    "fast task synthetic": "--form fast --keys synthetic --steps 3",
    "fast task 256": "--form fast --keys 256 --steps 3",
    "bmm task": "--form bmm --keys synthetic --steps 3",
    "fast shared synthetic_grouped": "--form fast --keys synthetic_grouped --shared --steps 6",
    "fast shared synthetic_grouped bf16": "--form fast --keys synthetic_grouped --shared --bf16 --steps 6",
    "fast task synthetic_grouped bf16": "--form fast --keys synthetic_grouped --bf16",
    "fast shared L1 synthetic_grouped": "--form fast --keys synthetic_grouped --shared --layers 1 --steps 6",
    "fast shared L1 synthetic": "--form fast --keys synthetic --shared --layers 1",
    "peer shared L1": "",
}
"""What the final object needs."""
ONCE = {
    "bmm shared": "--form bmm --keys synthetic --shared --steps 3",
    "fast task 16": "--form fast --keys 16",
    "fast task 64": "--form fast --keys 64 --steps 3",
    "fast task real_grouped": "--form fast --keys real_grouped --steps 3",
    "fast task real": "--form fast --keys real --steps 3",
    "fast shared synthetic": "--form fast --keys synthetic --shared",
    "fast shared real_grouped": "--form fast --keys real_grouped --shared",
    "fast shared real": "--form fast --keys real --shared",
    "fast shared 16": "--form fast --keys 16 --shared",
    "fast shared 64": "--form fast --keys 64 --shared",
    "fast shared 256": "--form fast --keys 256 --shared",
    "fast task synthetic_grouped, 1,024 rows": "--form fast --keys synthetic_grouped --rows 1024 --steps 2",
    "fast shared synthetic_grouped, 1,024 rows": "--form fast --keys synthetic_grouped --shared --rows 1024 --steps 3",
    "fast task 256 bf16": "--form fast --keys 256 --bf16 --steps 3",
    "fast shared 256 bf16": "--form fast --keys 256 --shared --bf16",
    "fast task 16 bf16": "--form fast --keys 16 --bf16",
    "fast task 64 bf16": "--form fast --keys 64 --bf16",
    "fast shared 16 bf16": "--form fast --keys 16 --shared --bf16",
    "fast shared 64 bf16": "--form fast --keys 64 --shared --bf16",
    "fast task synthetic bf16": "--form fast --keys synthetic --bf16 --steps 3",
    "fast task real_grouped bf16": "--form fast --keys real_grouped --bf16",
    "fast task real bf16": "--form fast --keys real --bf16 --steps 3",
    "fast shared synthetic bf16": "--form fast --keys synthetic --shared --bf16",
    "fast shared real_grouped bf16": "--form fast --keys real_grouped --shared --bf16",
    "fast shared real bf16": "--form fast --keys real --shared --bf16",
    "bmm shared bf16": "--form bmm --keys synthetic --shared --bf16 --steps 3",
    "bmm task bf16": "--form bmm --keys synthetic --bf16 --steps 3",
}
TURNS = [*(pair for _ in range(ROUNDS) for pair in IN_TURNS.items()), *ONCE.items()]


def measure(name: str, options: str, *, core: int, peer: Path) -> dict[str, Any]:
    if name.startswith("peer"):
        command = [str(peer), str(ROOT / "benchmarks/train/peer.py")]
    else:
        command = [sys.executable, "-m", "benchmarks.train.measure", *options.split()]
    done = subprocess.run(
        ["taskset", "-c", str(core), *command],
        cwd=ROOT,
        env={**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: {name} failed: {done.stderr.strip()[-2000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def medians(outcomes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of each number of a variant's runs."""
    numbers = (name for name, value in outcomes[0].items() if not isinstance(value, list))
    return {name: median(one[name] for one in outcomes) for name in numbers}


def summary(measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures that have a target: ratios in fp32, which the peer alone has; rates as our sampler deals rows in the
    faster precision, which accuracy allows."""

    def rate(name: str) -> float:
        return measured[name]["samples_per_core_s"]

    return {
        "vs_peer_grouped": rate("fast shared L1 synthetic_grouped") / rate("peer shared L1"),
        "vs_peer_random": rate("fast shared L1 synthetic") / rate("peer shared L1"),
        "vs_bmm_grouped": rate("fast task synthetic_grouped") / rate("bmm task"),
        "vs_bmm_random": rate("fast task synthetic") / rate("bmm task"),
        "vs_bmm_distinct": rate("fast task 256") / rate("bmm task"),
        "samples_per_core_s": max(rate(f"fast shared synthetic_grouped{bits}") for bits in ("", " bf16")),
        "samples_per_core_s_per_task": max(rate(f"fast task synthetic_grouped{bits}") for bits in ("", " bf16")),
        "excess_memory_vs_bmm": measured["fast task synthetic"]["excess_mib"] / measured["bmm task"]["excess_mib"],
        "useful_flop_fraction": measured["fast task synthetic_grouped"]["useful_flop_fraction"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--peer", type=Path, default=ROOT / ".venv-peer/bin/python")
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    results: Path | None = arguments.results
    outcomes: dict[str, list[dict[str, Any]]] = {}
    if results and results.exists():
        outcomes = json.loads(results.read_text())
    kept = {name: len(of_variant) for name, of_variant in outcomes.items()}
    for name, options in TURNS:
        if kept.get(name):
            kept[name] -= 1
            continue
        one = measure(name, options, core=arguments.core, peer=arguments.peer)
        outcomes.setdefault(name, []).append(one)
        if results:
            results.write_text(json.dumps(outcomes, indent=1))
        print(f"{name:42s} {one['samples_per_core_s']:7.1f} samples/core-s", flush=True)
    measured = {name: medians(of_variant) for name, of_variant in outcomes.items()}
    # One rate of the large product for all lines: a process's own differs by what else the machine does.
    for bf16 in (False, True):
        alike = [one for name, one in measured.items() if "matmul_gflops" in one and name.endswith("bf16") == bf16]
        for one in alike:
            one["useful_flop_fraction"] *= one["matmul_gflops"] / max(other["matmul_gflops"] for other in alike)
    print(f"{'medians':42s} samples/core-s   keys  MiB excess  of the large product")
    for name, one in measured.items():
        said = f"{name:42s} {one['samples_per_core_s']:14.1f}"
        if "distinct_keys" in one:
            said += f"{one['distinct_keys']:7.0f} {one['excess_mib']:11.0f} {one['useful_flop_fraction']:21.2f}"
        print(said)
    figures = summary(measured)
    for name, target in TARGETS.items():
        met = figures[name] <= target if name in AT_MOST else figures[name] >= target
        print(f"{name:28s} {figures[name]:8.3f}, target {target:.3g}: {'met' if met else 'not met'}")
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
