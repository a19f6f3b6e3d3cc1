// Products of tiles, C[32, 32] += A[32, depth] B[depth, 32], for each machine: all that is different between them. See kernel.cpp.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

namespace {

using bf16 = uint16_t;
constexpr int64_t SIDE = 16, BLOCK = 2 * SIDE, ROW = 64, TILE = SIDE * ROW;
constexpr int64_t KEYS = 128;        // of W and dW at a time
constexpr int64_t DEPTH = 2 * SIDE;  // pairs of inputs of W at a time

int64_t filled_up(int64_t number, int64_t unit) { return (number + unit - 1) / unit * unit; }

// Memory that a thread takes once and keeps: were it asked for anew for every product, small objects that live on would
// settle where it had been, and the process grow.
class Room {
 public:
  Room() = default;
  Room(const Room&) = delete;
  ~Room() { std::free(bytes); }

  template <class Element>
  Element* of(int64_t elements) {
    const int64_t needed = filled_up(elements * int64_t(sizeof(Element)), ROW);
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
  Room h, s, dy, v, always, w, sums, dw, ds;
};
thread_local Rooms rooms;

struct Float {
  using Element = float;
  static __m512i sixteen(const float* from) { return _mm512_castps_si512(_mm512_loadu_ps(from)); }
  static void store(float* to, __m512 low, __m512 high) {
    _mm512_storeu_ps(to, low);
    _mm512_storeu_ps(to + SIDE, high);
  }
  static void stream(float* to, __m512 low, __m512 high) {
    _mm512_stream_ps(to, low);
    _mm512_stream_ps(to + SIDE, high);
  }
  static __m512 add_product(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

struct Half {
  using Element = bf16;
  static __m512i rounded(__m512 low, __m512 high) {
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    return reinterpret_cast<const __m512i&>(both);
  }
  static __m512i sixteen(const float* from) { return rounded(_mm512_loadu_ps(from), _mm512_loadu_ps(from + SIDE)); }
  static void store(bf16* to, __m512 low, __m512 high) { _mm512_storeu_si512(to, rounded(low, high)); }
  static void stream(bf16* to, __m512 low, __m512 high) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), rounded(low, high));
  }
  static __m512 add_product(__m512 sum, __m512 a, __m512 b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<const __m512bh&>(a), reinterpret_cast<const __m512bh&>(b));
  }
};

// Into cache, for soon; what is beyond the end of an array does no harm.
void fetch(const void* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += ROW) _mm_prefetch(static_cast<const char*>(from) + at, _MM_HINT_T0);
}

void transpose(__m512i (&m)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    m[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    m[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

// What A of a product of tiles is, and where: `row` bytes from one row to the next, `step` from one tile to the next in depth.
struct Left {
  const void* at;
  int64_t row, step;
};

// B: tiles follow each other in depth, `next` bytes on come the other 16 columns.
struct Right {
  const void* at;
  int64_t next;
};

// What C starts with: `row` floats from one row to the next. Nothing is zeros.
struct Start {
  const float* at = nullptr;
  int64_t row = 0;
};

// Where C goes: `row` floats from one row to the next, `next` from the first 16 columns to the others.
struct Sums {
  float* at;
  int64_t row = BLOCK, next = SIDE;

  void store(int64_t of, __m512 low, __m512 high) const {
    _mm512_store_ps(at + of * row, low);
    _mm512_store_ps(at + of * row + next, high);
  }
};

// Where C goes as elements; `past` the caches if it is not needed soon.
template <class Of>
struct Elements {
  typename Of::Element* at;
  int64_t row;
  bool past = false;

  void store(int64_t of, __m512 low, __m512 high) const {
    if (past) {
      Of::stream(at + of * row, low, high);
    } else {
      Of::store(at + of * row, low, high);
    }
  }
};

template <class Of>
struct Avx512 : Of {
  using typename Of::Element;
  static constexpr int64_t PAIR = 4 / sizeof(Element), DEPTH_UNIT = 1, MOST = 48;
  struct Scope {};

  // C[rows, 32] = start + A B; `depth` counts pairs.
  template <class To>
  static void product(To c, int64_t rows, Left a, Right b, int64_t depth, Start start = {}) {
    static constexpr void (*SOME[])(To, const char*, Left, Right, int64_t, Start) = {
        some_rows<1, To>, some_rows<2, To>, some_rows<3, To>, some_rows<4, To>,
        some_rows<5, To>, some_rows<6, To>, some_rows<7, To>, some_rows<8, To>};
    const char* from = static_cast<const char*>(a.at);
    for (int64_t groups = (rows + ROWS - 1) / ROWS; groups; --groups) {
      const int64_t of = (rows + groups - 1) / groups;
      SOME[of - 1](c, from, a, b, depth, start);
      rows -= of, from += of * a.row, c.at += of * c.row;
      if (start.at) start.at += of * start.row;
    }
  }

 private:
  static constexpr int64_t ROWS = 8;  // 16 sums at a time, of 32 registers

  template <int N, class To>
  static void some_rows(To c, const char* a, Left of_a, Right of_b, int64_t depth, Start start) {
    __m512 low[N], high[N];
    for (int n = 0; n < N; ++n) {
      low[n] = start.at ? _mm512_loadu_ps(start.at + n * start.row) : _mm512_setzero_ps();
      high[n] = start.at ? _mm512_loadu_ps(start.at + n * start.row + SIDE) : _mm512_setzero_ps();
    }
    const char* b = static_cast<const char*>(of_b.at);
    for (; depth > 0; depth -= SIDE, a += of_a.step) {
      const int64_t end = std::min(depth, SIDE);
      const char* of_row[N];
      for (int n = 0; n < N; ++n) of_row[n] = a + n * of_a.row;
      for (int64_t k = 0; k < end; ++k, b += ROW) {
        const __m512 b_low = _mm512_load_ps(b), b_high = _mm512_load_ps(b + of_b.next);
        for (int n = 0; n < N; ++n) {
          const __m512 each = _mm512_set1_ps(reinterpret_cast<const float*>(of_row[n])[k]);
          low[n] = Of::add_product(low[n], each, b_low);
          high[n] = Of::add_product(high[n], each, b_high);
        }
      }
    }
    for (int n = 0; n < N; ++n) c.store(n, low[n], high[n]);
  }
};

struct Amx : Half {
  static constexpr int64_t PAIR = 2, DEPTH_UNIT = SIDE, MOST = BLOCK;

  struct alignas(64) Tiles {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {ROW, ROW, ROW, ROW, ROW, ROW, ROW, ROW};
    uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
  };
  struct Scope {
    Scope() {
      const Tiles tiles;
      _tile_loadconfig(&tiles);
    }
    ~Scope() { _tile_release(); }
  };

  // Whole tiles are read: rows beyond the last one are there, and are nothing.
  template <class To>
  static void product(To to, int64_t rows, Left a, Right b, int64_t depth, Start start = {}) {
    constexpr int64_t FLOATS = 4;
    alignas(64) float whole[BLOCK * BLOCK];
    Sums c{whole};
    bool done = false;
    if constexpr (std::is_same_v<To, Sums>) {
      done = rows % SIDE == 0;
      if (done) c = to;
    }
    const char *of_a = static_cast<const char*>(a.at), *of_b = static_cast<const char*>(b.at);
    if (start.at) {
      _tile_loadd(0, start.at, start.row * FLOATS);
      _tile_loadd(1, start.at + SIDE, start.row * FLOATS);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
    if (rows > SIDE) {
      if (start.at) {
        _tile_loadd(2, start.at + SIDE * start.row, start.row * FLOATS);
        _tile_loadd(3, start.at + SIDE * start.row + SIDE, start.row * FLOATS);
      } else {
        _tile_zero(2);
        _tile_zero(3);
      }
    }
    for (; depth > 0; depth -= SIDE, of_a += a.step, of_b += TILE) {
      _tile_loadd(4, of_a, a.row);
      _tile_loadd(6, of_b, ROW);
      _tile_loadd(7, of_b + b.next, ROW);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (rows > SIDE) {
        _tile_loadd(5, of_a + SIDE * a.row, a.row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, c.at, c.row * FLOATS);
    _tile_stored(1, c.at + c.next, c.row * FLOATS);
    if (rows > SIDE) {
      _tile_stored(2, c.at + SIDE * c.row, c.row * FLOATS);
      _tile_stored(3, c.at + SIDE * c.row + c.next, c.row * FLOATS);
    }
    if (done) return;
    for (int64_t row = 0; row < rows; ++row)
      to.store(row, _mm512_load_ps(whole + row * BLOCK), _mm512_load_ps(whole + row * BLOCK + SIDE));
  }
};

}  // namespace
