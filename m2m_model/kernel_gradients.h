// dV, dv and ds: see kernel.cpp.

#pragma once

#include <vector>

#include "kernel_product.h"

namespace {

// dV, dv and ds.
template <class Machine>
class Gradients {
  using Element = typename Machine::Element;
  static constexpr int64_t PAIR = Machine::PAIR, CELLS = BLOCK * BLOCK;

 public:
  struct Out {
    float *by_scenario, *always, *s;
  };

  Gradients(const Element* h, const Element* s, const Element* dy, Generators generators, Out out, Vectors vectors)
      : g(generators), vectors(vectors), out(out), X(generators.inputs), Y(generators.outputs) {
    const int64_t keys = filled_up(vectors.keys, KEYS);
    transposed_s = rooms.s.of<Element>(g.S * keys);
    for (int64_t at = 0; at < g.S; ++at)
      for (int64_t key = 0; key < keys; ++key)
        transposed_s[at * keys + key] = key < vectors.keys ? s[key * g.S + at] : Element(0);
    pairs.push_back(0);
    for (int64_t key = 0; key < vectors.keys; ++key)
      pairs.push_back(pairs.back() + filled_up((vectors.of(key) + PAIR - 1) / PAIR, Machine::DEPTH_UNIT));
    transposed_h = rooms.h.of<Element>(pairs.back() * PAIR * X);
    packed_dy = rooms.dy.of<Element>(pairs.back() * PAIR * Y);
    std::fill(transposed_h, transposed_h + pairs.back() * PAIR * X, Element(0));
    std::fill(packed_dy, packed_dy + pairs.back() * PAIR * Y, Element(0));
    for (int64_t key = 0; key < vectors.keys; ++key) {
      const int64_t begin = vectors.first[key], depth = (pairs[key + 1] - pairs[key]) * PAIR;
      Element *to_h = transposed_h + pairs[key] * PAIR * X, *to_dy = packed_dy + pairs[key] * PAIR * Y;
      for (int64_t n = 0; n < vectors.of(key); ++n) {
        for (int64_t x = 0; x < X; ++x) to_h[x * depth + n] = h[(begin + n) * X + x];
        for (int64_t y = 0; y < Y; ++y)
          to_dy[(y / SIDE * depth + n / PAIR * PAIR) * SIDE + y % SIDE * PAIR + n % PAIR] = dy[(begin + n) * Y + y];
      }
    }
    partial_ds = rooms.ds.of<float>(shares() * keys * g.S);
  }

  int64_t shares() const { return Y / BLOCK; }

  // The gradients of 32 columns of W.
  void share(int64_t number) const {
    Columns columns(*this, number);
    for (int64_t x = 0; x < X; x += BLOCK) columns.run(x);
  }

  // After all shares.
  void sum() const {
    const int64_t keys = filled_up(vectors.keys, KEYS);
    std::copy(partial_ds, partial_ds + vectors.keys * g.S, out.s);
    for (int64_t number = 1; number < shares(); ++number)
      for (int64_t at = 0; at < vectors.keys * g.S; ++at) out.s[at] += partial_ds[number * keys * g.S + at];
  }

 private:
  class Columns {
   public:
    Columns(const Gradients& gradients, int64_t number)
        : p(gradients),
          y0(number * BLOCK),
          v(rooms.v.of<Element>(CELLS * p.g.S)),
          dw(rooms.w.of<Element>(KEYS * CELLS + TILE)),
          dw_pairs(PAIR == 1 ? dw : rooms.dw.of<Element>(KEYS * CELLS)),
          ds(p.partial_ds + number * filled_up(p.vectors.keys, KEYS) * p.g.S) {}

    void run(int64_t x0) {
      pack(x0);
      std::fill(dv, dv + CELLS, 0.0f);
      for (int64_t key = 0; key < p.vectors.keys; key += KEYS) {
        const int64_t keys = std::min(KEYS, p.vectors.keys - key);
        const int64_t filled = filled_up(keys, PAIR * Machine::DEPTH_UNIT);
        for (int64_t of = 0; of < filled; of += PAIR) make_dw(key, of, keys, filled, x0);
        if constexpr (PAIR == 1)
          for (int64_t at = 0; at < CELLS; at += SIDE)
            for (int64_t of = 0; of < keys; ++of) add(dv + at, _mm512_load_ps(dw + at * filled + of * SIDE));
        for (int64_t s0 = 0; s0 < p.g.S; s0 += BLOCK) {
          add_ds(key, keys, filled, s0, x0);
          add_dv(key, filled, s0, x0);
        }
      }
      for (int64_t x = 0; x < BLOCK; ++x)
        std::copy(dv + x * BLOCK, dv + (x + 1) * BLOCK, p.out.always + (x0 + x) * p.Y + y0);
    }

   private:
    void pack(int64_t x0) {
      for (int64_t x = 0; x < BLOCK; ++x)
        for (int64_t y = 0; y < BLOCK; y += PAIR) {
          const float* from = p.g.by_scenario + ((x0 + x) * p.Y + y0 + y) * p.g.S;
          for (int64_t s = 0; s < p.g.S; s += SIDE) {
            Element* to = v + (s * CELLS / PAIR + (x * BLOCK + y) / PAIR * SIDE) * PAIR;
            if constexpr (PAIR == 1) {
              _mm512_store_ps(to, _mm512_loadu_ps(from + s));
            } else {
              interleave(to, _mm512_loadu_ps(from + s), _mm512_loadu_ps(from + p.g.S + s));
            }
          }
        }
    }

    // dW of PAIR keys.
    void make_dw(int64_t block, int64_t of, int64_t keys, int64_t filled, int64_t x0) {
      const int64_t size = sizeof(Element);
      for (int64_t each = 0; each < PAIR; ++each) {
        const Sums to = PAIR == 1 ? into_dw(of, filled) : Sums{c[each]};
        if (of + each >= keys) {
          std::fill(to.at, to.at + CELLS, 0.0f);
          continue;
        }
        const int64_t key = block + of + each, pairs = p.pairs[key + 1] - p.pairs[key], row = pairs * PAIR;
        const Element* h = p.transposed_h + p.pairs[key] * PAIR * p.X + x0 * row;
        const Element* dy = p.packed_dy + p.pairs[key] * PAIR * p.Y + y0 * row;
        Machine::product(to, BLOCK, {h, row * size, ROW}, {dy, row * SIDE * size}, pairs);
      }
      if constexpr (PAIR == 2) {
        for (int64_t at = 0; at < CELLS; at += BLOCK) {
          const __m512 low = _mm512_load_ps(c[0] + at), high = _mm512_load_ps(c[0] + at + SIDE);
          const __m512 other_low = _mm512_load_ps(c[1] + at), other_high = _mm512_load_ps(c[1] + at + SIDE);
          add(dv + at, _mm512_add_ps(low, other_low));
          add(dv + at + SIDE, _mm512_add_ps(high, other_high));
          Machine::store(dw + at * filled + of * BLOCK, low, high);
          Machine::store(dw + at * filled + (of + 1) * BLOCK, other_low, other_high);
          interleave(dw_pairs + at * filled + of * SIDE, low, other_low);
          interleave(dw_pairs + (at + SIDE) * filled + of * SIDE, high, other_high);
        }
      }
    }

    // Each block of cells has a sum of its own first: all in one row, as many as W has, would lose digits.
    void add_ds(int64_t block, int64_t keys, int64_t filled, int64_t s0, int64_t x0) {
      for (int64_t of = 0; of < keys; of += BLOCK) {
        const int64_t left = std::min(BLOCK, keys - of);
        Machine::product(Sums{c[0]}, left, {dw + of * SIDE * PAIR, ROW, filled * ROW},
                         {v + s0 * CELLS, CELLS / PAIR * ROW}, CELLS / PAIR);
        float* to = ds + (block + of) * p.g.S + s0;
        for (int64_t row = 0; row < left; ++row, to += p.g.S)
          for (int64_t s = 0; s < BLOCK; s += SIDE) {
            const __m512 sum = _mm512_load_ps(c[0] + row * BLOCK + s);
            _mm512_store_ps(to + s, x0 ? _mm512_add_ps(_mm512_load_ps(to + s), sum) : sum);
          }
      }
    }

    void add_dv(int64_t block, int64_t filled, int64_t s0, int64_t x0) {
      const int64_t keys = filled_up(p.vectors.keys, KEYS), size = sizeof(Element);
      for (int64_t x = 0; x < BLOCK; ++x) {
        if (!s0 && x0 + BLOCK < p.X) fetch(p.g.by_scenario + ((x0 + BLOCK + x) * p.Y + y0) * p.g.S, BLOCK * p.g.S * sizeof(float));
        Machine::product(Sums{c[0]}, BLOCK, {p.transposed_s + s0 * keys + block, keys * size, ROW},
                         {dw_pairs + 2 * x * filled * SIDE, filled / PAIR * ROW}, filled / PAIR);
        float* to = p.out.by_scenario + ((x0 + x) * p.Y + y0) * p.g.S + s0;
        for (int64_t y = 0; y < BLOCK; y += SIDE)
          for (int64_t s = 0; s < BLOCK; s += SIDE) {
            __m512i tile[SIDE];
            for (int64_t row = 0; row < SIDE; ++row) tile[row] = _mm512_load_si512(c[0] + (s + row) * BLOCK + y);
            transpose(tile);
            for (int64_t row = 0; row < SIDE; ++row) {
              float* cell = to + (y + row) * p.g.S + s;
              const __m512 sum = _mm512_castsi512_ps(tile[row]);
              _mm512_stream_ps(cell, block ? _mm512_add_ps(_mm512_load_ps(cell), sum) : sum);
            }
          }
      }
    }

    // In fp32 dW of a key goes where it stays.
    Sums into_dw(int64_t of, int64_t filled) {
      return {reinterpret_cast<float*>(dw) + of * SIDE, 2 * filled * SIDE, filled * SIDE};
    }

    static void add(float* sum, __m512 what) { _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), what)); }

    // 16 of one and 16 of the other, in pairs.
    static void interleave(Element* to, __m512 one, __m512 other) {
      alignas(64) static constexpr uint16_t ORDER[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                         8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
      _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(ORDER), Half::rounded(one, other)));
    }

    const Gradients& p;
    const int64_t y0;
    Element *const v, *const dw, *const dw_pairs;
    float* const ds;
    alignas(64) float c[PAIR][CELLS], dv[CELLS];
  };

  const Generators g;
  const Vectors vectors;
  const Out out;
  const int64_t X, Y;
  std::vector<int64_t> pairs;  // of vectors before each key
  Element *transposed_s, *transposed_h, *packed_dy;
  float* partial_ds;
};

}  // namespace
