// Products with generated weights in bf16, on cores with AMX: what m2m_model/amx.py describes and calls.
//
// W of 64 keys, 128 inputs and 32 outputs is half a megabyte: it is made in a core's own cache and used there, never in memory.
// A tile is 16 rows of 64 bytes. C[16, 16] += A[16, 32] B[32, 16] takes B in pairs of its rows, interleaved; all of the
// layouts below are such that a tile is loaded as it lies:
//
//   s   [keys, S]                           A of generation, 16 keys a tile
//   V   [outputs, inputs / 2, 2, S / 2, 16] B of generation, its 16 columns (y, x), (y, x + 1), (y + 1, x), ...
//   W   [keys, outputs, inputs / 2, 16]     what generation gives, rounded: B of the product, in pairs of inputs
//   h   [keys, X / 32, vectors, 32]         A of the product
//
// where outputs counts tiles. v is what C starts with. Sums over more inputs than W has are kept in fp32.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using bf16 = uint16_t;
constexpr int64_t SIDE = 16, DEPTH = 32, TILE = 1024, ROW = 64;
constexpr int64_t KEYS = 64, INPUTS = 128, OUTPUTS = 2;

// Memory that a thread takes once and keeps: were it asked for anew for every product, small objects that live on would
// settle where it had been, and the process grow.
class Room {
 public:
  Room() = default;
  Room(const Room&) = delete;
  ~Room() { std::free(bytes); }

  template <class Element>
  Element* of(int64_t elements) {
    const int64_t needed = (elements * int64_t(sizeof(Element)) + ROW - 1) / ROW * ROW;
    if (needed > size) {
      std::free(bytes);
      bytes = std::aligned_alloc(ROW, needed);
      size = needed;
    }
    return static_cast<Element*>(bytes);
  }

 private:
  void* bytes = nullptr;
  int64_t size = 0;
};

struct Rooms {
  Room h, s, v, always, w, sums;
};
thread_local Rooms rooms;

struct alignas(64) Tiles {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW};
  uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
};

struct Product {
  const bf16 *h, *s, *by_scenario, *always;
  bf16* y;
  const int64_t* first;  // vector of each key, and the number of all
  int64_t keys, S, X, Y;
  bf16 *packed_h, *packed_s;

  void pack() {
    packed_h = rooms.h.of<bf16>(first[keys] * X + TILE);  // the last tile may reach beyond the last vector
    bf16* to = packed_h;
    for (int64_t key = 0; key < keys; ++key)
      for (int64_t x = 0; x < X; x += DEPTH)
        for (int64_t n = first[key]; n < first[key + 1]; ++n, to += DEPTH)
          _mm512_store_si512(to, _mm512_loadu_si512(h + n * X + x));
    std::fill(to, to + TILE, 0);
    packed_s = rooms.s.of<bf16>((keys + KEYS) * S);
    std::fill(std::copy(s, s + keys * S, packed_s), packed_s + (keys + KEYS) * S, 0);
  }
};

__m512i rounded(__m512 low, __m512 high) {
  const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<const __m512i&>(both);
}

// One thread's share: the product's columns, OUTPUTS tiles of them at a time.
class Columns {
 public:
  explicit Columns(const Product& product)
      : p(product),
        width(std::min(INPUTS, p.X)),
        steps(p.S / DEPTH),
        packed_v(rooms.v.of<char>(OUTPUTS * p.X * steps * TILE)),
        packed_always(rooms.always.of<float>(OUTPUTS * p.X * SIDE)),
        w(rooms.w.of<char>(KEYS * OUTPUTS * width / 2 * ROW)) {}

  void run(int64_t y0) {
    pack_generator(y0);
    for (int64_t key = 0; key < p.keys; key += KEYS) {
      const int64_t keys = std::min(KEYS, p.keys - key);
      sums = rooms.sums.of<float>((p.first[key + keys] - p.first[key]) * OUTPUTS * SIDE);
      for (int64_t x0 = 0; x0 < p.X; x0 += width) {
        for (int64_t output = 0; output < OUTPUTS; ++output)
          for (int64_t pair = 0; pair < width / 2; ++pair)
            for (int64_t group = 0; group < keys; group += 2 * SIDE) generate(key, group, output, x0, pair);
        for (int64_t of = 0; of < keys; ++of) multiply(key, of, x0, y0);
      }
    }
  }

 private:
  void pack_generator(int64_t y0) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i of_y = _mm512_mullo_epi32(_mm512_srli_epi32(lane, 1), _mm512_set1_epi32(int(p.S / 2)));
    const __m512i of_x = _mm512_mullo_epi32(_mm512_and_epi32(lane, _mm512_set1_epi32(1)), _mm512_set1_epi32(int(p.Y * p.S / 2)));
    const __m512i index = _mm512_add_epi32(of_y, of_x);
    char* to = packed_v;
    float* to_always = packed_always;
    for (int64_t output = 0; output < OUTPUTS; ++output)
      for (int64_t x = 0; x < p.X; x += 2)
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t at = x * p.Y + y0 + output * SIDE + half * SIDE / 2;
          for (int64_t s = 0; s < p.S; s += 2, to += ROW)
            _mm512_store_si512(to, _mm512_i32gather_epi32(index, p.by_scenario + at * p.S + s, 4));
          for (int64_t column = 0; column < SIDE; ++column, ++to_always) {
            const uint32_t bits = uint32_t(p.always[at + column / 2 + column % 2 * p.Y]) << 16;
            std::memcpy(to_always, &bits, sizeof bits);
          }
        }
  }

  // W of 32 keys, two inputs and a tile of outputs.
  void generate(int64_t key, int64_t group, int64_t output, int64_t x0, int64_t pair) {
    const int64_t at = output * p.X + x0 + 2 * pair;
    const bf16* s = p.packed_s + (key + group) * p.S;
    const char* v = packed_v + at * steps * TILE;
    const float* always = packed_always + at * SIDE;
    _tile_loadd(0, always, 0);
    _tile_loadd(1, always + SIDE, 0);
    _tile_loadd(2, always, 0);
    _tile_loadd(3, always + SIDE, 0);
    for (int64_t step = 0; step < steps; ++step) {
      _tile_loadd(4, s + step * DEPTH, p.S * 2);
      _tile_loadd(5, s + SIDE * p.S + step * DEPTH, p.S * 2);
      _tile_loadd(6, v + step * TILE, ROW);
      _tile_loadd(7, v + (steps + step) * TILE, ROW);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    store();
    char* to = w + ((group * OUTPUTS + output) * width / 2 + pair) * ROW;
    for (int64_t of = 0; of < 2 * SIDE; ++of, to += OUTPUTS * width / 2 * ROW) {
      const int64_t part = of / SIDE * 2, row = of % SIDE * SIDE;
      _mm512_store_si512(to, rounded(_mm512_load_ps(c[part] + row), _mm512_load_ps(c[part + 1] + row)));
    }
  }

  // The vectors of one key times its W; after the last inputs into y.
  void multiply(int64_t block, int64_t of, int64_t x0, int64_t y0) {
    static_assert(OUTPUTS == 2, "two tiles across, two down");
    const int64_t begin = p.first[block + of], vectors = p.first[block + of + 1] - begin;
    const char* of_w = w + of * OUTPUTS * width / 2 * ROW;
    for (int64_t row = 0; row < vectors; row += 2 * SIDE) {
      const int64_t left = std::min(vectors - row, 2 * SIDE);
      const bf16* of_h = p.packed_h + begin * p.X + (x0 / DEPTH * vectors + row) * DEPTH;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t step = 0; step < width / DEPTH; ++step) {
        _tile_loadd(4, of_h + step * vectors * DEPTH, ROW);
        _tile_loadd(6, of_w + step * TILE, ROW);
        _tile_loadd(7, of_w + width / 2 * ROW + step * TILE, ROW);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (left > SIDE) {
          _tile_loadd(5, of_h + (step * vectors + SIDE) * DEPTH, ROW);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
      }
      store();
      float* sum = sums + (begin + row - p.first[block]) * OUTPUTS * SIDE;
      bf16* y = p.y + (begin + row) * p.Y + y0;
      for (int64_t n = 0; n < left; ++n, sum += OUTPUTS * SIDE, y += p.Y) {
        const int64_t part = n / SIDE * 2, at = n % SIDE * SIDE;
        __m512 low = _mm512_load_ps(c[part] + at), high = _mm512_load_ps(c[part + 1] + at);
        if (x0) {
          low = _mm512_add_ps(low, _mm512_loadu_ps(sum));
          high = _mm512_add_ps(high, _mm512_loadu_ps(sum + SIDE));
        }
        if (x0 + width == p.X) {
          _mm512_stream_si512(reinterpret_cast<__m512i*>(y), rounded(low, high));
        } else {
          _mm512_storeu_ps(sum, low);
          _mm512_storeu_ps(sum + SIDE, high);
        }
      }
    }
  }

  void store() {
    _tile_stored(0, c[0], ROW);
    _tile_stored(1, c[1], ROW);
    _tile_stored(2, c[2], ROW);
    _tile_stored(3, c[3], ROW);
  }

  const Product& p;
  const int64_t width, steps;
  char* const packed_v;
  float* const packed_always;
  char* const w;
  float* sums = nullptr;
  alignas(64) float c[4][SIDE * SIDE];
};

}  // namespace

// Whether this core has AMX and AVX-512 for bf16, and the system lets the process use it.
extern "C" int m2m_amx_ready() {
  uint32_t eax = 7, ebx, ecx = 0, edx;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const bool tiles = (edx >> 22 & 1) && (edx >> 24 & 1), avx512 = ebx >> 16 & 1;
  eax = 7, ecx = 1;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  return tiles && avx512 && (eax >> 5 & 1) && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

// y[n] = h[n] @ (V s_q + v) for the vectors first[q] <= n < first[q + 1] of every key q.
extern "C" void m2m_generated_product(const bf16* h, const bf16* s, const bf16* by_scenario, const bf16* always, bf16* y,
                                      const int64_t* first, int64_t keys, int64_t S, int64_t X, int64_t Y,
                                      int64_t threads) {
  Product product{h, s, by_scenario, always, y, first, keys, S, X, Y, nullptr, nullptr};
  product.pack();
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    const Tiles tiles;
    _tile_loadconfig(&tiles);
    Columns columns(product);
    constexpr int64_t across = OUTPUTS * SIDE;
    for (int64_t y0; (y0 = next.fetch_add(across)) < Y;) columns.run(y0);
    _mm_sfence();
    _tile_release();
  };
  std::vector<std::thread> others;
  for (int64_t other = 1; other < std::min(threads, Y / (OUTPUTS * SIDE)); ++other) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
}
