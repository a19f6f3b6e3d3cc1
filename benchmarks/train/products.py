"""How fast one core makes the products that a step at the paper's sizes consists of: what torch's libraries leave.

python -m benchmarks.train.products [--keys 76]

One generated layer of 512 x 512 from S~ of 64, in slices as ``m2m_model.generated`` makes it, with four rows a key of
four vectors, beside a large square product; a line each, GFLOP/s in fp32 and bf16. Then GB/s, read and written, of a
copy in memory and of the optimizer. The best of several tries: it is about the limit, not about a step.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.train.measure import CONFIG, matmul_rate
from m2m_model.generated import SLICE_BYTES
from training.optimizer import ClippedAdam, adam_options

INPUTS, OUTPUTS, KNOWLEDGE, VECTORS = 512, 512, 64, 16
TRIES = 7


def best_seconds(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def layer_rates(keys: int, dtype: torch.dtype) -> dict[str, float]:
    """GFLOP/s by product."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(dtype)

    s, by_s, w = draw(keys, KNOWLEDGE), draw(INPUTS, OUTPUTS, KNOWLEDGE), draw(keys, INPUTS, OUTPUTS)
    h, dy, d_by_s = draw(keys, VECTORS, INPUTS), draw(keys, VECTORS, OUTPUTS), torch.empty_like(by_s)
    width = max(1, SLICE_BYTES // ((keys + KNOWLEDGE) * OUTPUTS * by_s.element_size()))
    slices = [slice(start, min(start + width, INPUTS)) for start in range(0, INPUTS, width)]
    dw = draw(keys, width, OUTPUTS)

    def of_slices(product: Callable[[slice, Tensor, Tensor], object]) -> Callable[[], None]:
        """``product`` of every slice: which, its V [xy, S], its dW [Q, xy]."""

        def run() -> None:
            for part in slices:
                product(part, by_s[part].flatten(0, 1), dw[:, : part.stop - part.start].flatten(1))

        return run

    def seconds_of(product: Callable[[slice, Tensor, Tensor], object]) -> float:
        return best_seconds(of_slices(product))

    generate, apply = 2e-9 * w.numel() * KNOWLEDGE, 2e-9 * w.numel() * VECTORS
    return {
        "large product": matmul_rate(dtype) / 1e9,
        "W = V s": generate / seconds_of(lambda part, v, _: torch.mm(s, v.T, out=w[:, part].flatten(1))),
        "dV": generate / seconds_of(lambda part, _, d: torch.mm(d.T, s, out=d_by_s[part].flatten(0, 1))),
        "ds": generate / seconds_of(lambda _, v, d: d @ v),
        "W h": apply / best_seconds(lambda: torch.bmm(h, w)),
        "dh": apply / best_seconds(lambda: torch.bmm(dy, w.mT)),
        "dW": apply / best_seconds(lambda: torch.bmm(h.mT, dy, out=w)),
    }


def memory_rates() -> dict[str, float]:
    """GB/s read and written."""
    source = torch.ones(1 << 26)
    target = torch.empty_like(source)
    parameter = nn.Parameter(torch.ones(1 << 26))
    parameter.grad = torch.ones_like(parameter)
    optimizer = ClippedAdam([{"params": [parameter], "alpha": 1e-6}], **adam_options(CONFIG))
    moved = source.numel() * 4e-9
    return {
        "copy": 2 * moved / best_seconds(lambda: target.copy_(source)),
        "clipped Adam (4 tensors read, 4 written)": 8 * moved / best_seconds(optimizer.step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=76, help="Q, distinct keys of a batch")
    keys = parser.parse_args().keys
    torch.set_num_threads(1)
    single, half = (layer_rates(keys, dtype) for dtype in (torch.float32, torch.bfloat16))
    for name, rate in single.items():
        print(f"{name:42s} {rate:7.0f} {half[name]:7.0f} GFLOP/s")
    for name, rate in memory_rates().items():
        print(f"{name:42s} {rate:7.1f} GB/s")


if __name__ == "__main__":
    main()
