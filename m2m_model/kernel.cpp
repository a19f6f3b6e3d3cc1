// Products with generated weights and their gradients, in fp32 and bf16: what m2m_model/kernel.py describes and calls.
//
// W of a block of keys, inputs and outputs is half a megabyte: it is made in a core's own cache and used there, never in
// memory. So is its gradient dW. Everything is a sum of products of tiles, C[32, 32] += A[32, depth] B[depth, 32], which is all
// that is different between machines (Avx512, Amx). A tile is 16 rows of 64 bytes. Its columns are pairs of bf16 or single
// floats, PAIR elements: A has 16 x PAIR of the depth in a row, B has PAIR of the depth for each of 16 columns, interleaved.
//
//   s    [keys, S]                                   A of W
//   V    [outputs, inputs, S / PAIR, 16]             B of W: PAIR inputs of a column side by side, so that W comes out as a B
//   W    [keys, outputs, inputs / PAIR, 16, PAIR]    B of the product
//   h    [X / (32 PAIR), keys, 2, vectors, 16 PAIR]  A of the product
//
//   h^T  [keys, X, vectors]                          A of dW
//   dy   [keys, Y / 16, vectors / PAIR, 16, PAIR]    B of dW
//   dW   [inputs and outputs / (16 PAIR), keys, 16 PAIR]         A of ds
//        [inputs and outputs / 16, keys / PAIR, 16, PAIR]        B of dV^T; in fp32 it is the same
//   V    [S / 16, inputs and outputs / PAIR, 16, PAIR]           B of ds
//   s^T  [S, keys]                                   A of dV^T
//
// where outputs counts tiles, and vectors are filled up with zeros to whole pairs, with AMX to whole tiles. dh is a product
// as well, of dy with W^T: inputs and outputs trade places. v is what C starts with. Sums over more than one block are fp32.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "kernel_gradients.h"
#include "kernel_product.h"

namespace {

template <class Machine, class Work>
void in_threads(const Work& work, int64_t threads) {
  std::atomic<int64_t> next{0};
  const auto run = [&] {
    const typename Machine::Scope scope;
    for (int64_t share; (share = next.fetch_add(1)) < work.shares();) work.share(share);
    _mm_sfence();
  };
  std::vector<std::thread> others;
  for (int64_t other = 1; other < std::min(threads, work.shares()); ++other) others.emplace_back(run);
  run();
  for (std::thread& other : others) other.join();
}

template <class Machine>
void product(const void* h, const void* s, const float* by_scenario, const float* always, void* y, const int64_t* first,
             int64_t keys, int64_t S, int64_t X, int64_t Y, bool transposed, int64_t threads) {
  using Element = typename Machine::Element;
  const Product<Machine> work(static_cast<const Element*>(h), static_cast<const Element*>(s),
                              Generators(by_scenario, always, S, X, Y, transposed), static_cast<Element*>(y), {first, keys});
  in_threads<Machine>(work, threads);
}

template <class Machine>
void gradients(const void* h, const void* s, const void* dy, const float* by_scenario, float* d_by_scenario,
               float* d_always, float* ds, const int64_t* first, int64_t keys, int64_t S, int64_t X, int64_t Y,
               int64_t threads) {
  using Element = typename Machine::Element;
  const Gradients<Machine> work(static_cast<const Element*>(h), static_cast<const Element*>(s),
                                static_cast<const Element*>(dy), Generators(by_scenario, nullptr, S, X, Y, false),
                                {d_by_scenario, d_always, ds}, {first, keys});
  in_threads<Machine>(work, threads);
  work.sum();
}

enum Machines { AVX512_FP32 = 1, AVX512_BF16 = 2, AMX_BF16 = 3 };

}  // namespace

// The machine for fp32 (`bf16` 0) or bf16 (1), 0 if this core has none or the system does not let the process use it.
extern "C" int m2m_machine(int bf16) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return 0;
  if (!bf16) return AVX512_FP32;
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
  uint32_t eax = 7, ebx, ecx = 0, edx;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  const bool tiles = (edx >> 22 & 1) && (edx >> 24 & 1);
  return tiles && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0 ? AMX_BF16 : AVX512_BF16;
}

// y[n] = h[n] @ (V s_q + v) for the vectors first[q] <= n < first[q + 1] of every key q; W^T for W with `transposed`.
extern "C" void m2m_product(int machine, const void* h, const void* s, const float* by_scenario, const float* always,
                            void* y, const int64_t* first, int64_t keys, int64_t S, int64_t X, int64_t Y, int64_t threads,
                            int transposed) {
  const auto run = machine == AMX_BF16      ? product<Amx>
                   : machine == AVX512_BF16 ? product<Avx512<Half>>
                                            : product<Avx512<Float>>;
  run(h, s, by_scenario, always, y, first, keys, S, X, Y, transposed, threads);
}

// dV, dv and ds of the same product, from h and dy.
extern "C" void m2m_gradients(int machine, const void* h, const void* s, const void* dy, const float* by_scenario,
                              float* d_by_scenario, float* d_always, float* ds, const int64_t* first, int64_t keys,
                              int64_t S, int64_t X, int64_t Y, int64_t threads) {
  const auto run = machine == AMX_BF16      ? gradients<Amx>
                   : machine == AVX512_BF16 ? gradients<Avx512<Half>>
                                            : gradients<Avx512<Float>>;
  run(h, s, dy, by_scenario, d_by_scenario, d_always, ds, first, keys, S, X, Y, threads);
}
