// The product with W, or W^T: see kernel.cpp.

#pragma once

#include "kernel_tiles.h"

namespace {

struct Vectors {
  const int64_t* first;  // vector of each key, and the number of all
  int64_t keys;

  int64_t all() const { return first[keys]; }
  int64_t of(int64_t key) const { return first[key + 1] - first[key]; }
};

// V [X, Y, S] and v [X, Y], or with `transposed` what they are for W^T.
struct Generators {
  const float *by_scenario, *always;
  int64_t S, inputs, outputs, input, output;  // how many, and how far the next is in v

  Generators(const float* by_scenario, const float* always, int64_t S, int64_t X, int64_t Y, bool transposed)
      : by_scenario(by_scenario),
        always(always),
        S(S),
        inputs(transposed ? Y : X),
        outputs(transposed ? X : Y),
        input(transposed ? 1 : Y),
        output(transposed ? Y : 1) {}
};

template <class Machine>
class Product {
  using Element = typename Machine::Element;
  static constexpr int64_t PAIR = Machine::PAIR, WIDTH = DEPTH * PAIR;

 public:
  Product(const Element* h, const Element* s, Generators generators, Element* y, Vectors vectors)
      : g(generators), vectors(vectors), y(y) {
    constexpr int64_t across = SIDE * PAIR;
    packed_h = rooms.h.of<Element>(vectors.all() * g.inputs + TILE);  // the last tile may reach beyond the last vector
    for (int64_t key = 0; key < vectors.keys; ++key)
      for (int64_t x0 = 0; x0 < g.inputs; x0 += WIDTH) {
        Element* to = packed_h + x0 * vectors.all() + vectors.first[key] * WIDTH;
        for (int64_t x = x0; x < x0 + WIDTH; x += across)
          for (int64_t n = vectors.first[key]; n < vectors.first[key + 1]; ++n, to += across)
            _mm512_store_si512(to, _mm512_loadu_si512(h + n * g.inputs + x));
      }
    std::fill(packed_h + vectors.all() * g.inputs, packed_h + vectors.all() * g.inputs + TILE, Element(0));
    packed_s = rooms.s.of<Element>((vectors.keys + BLOCK) * g.S);
    std::fill(std::copy(s, s + vectors.keys * g.S, packed_s), packed_s + (vectors.keys + BLOCK) * g.S, Element(0));
    const int64_t blocks = (vectors.keys + KEYS - 1) / KEYS;
    of_block = filled_up((vectors.keys + blocks - 1) / blocks, SIDE);
  }

  int64_t shares() const { return g.outputs / BLOCK; }

  // 32 columns of the product.
  void share(int64_t number) const {
    Columns columns(*this, number * BLOCK);
    for (int64_t key = 0; key < vectors.keys; key += of_block) columns.run(key, std::min(of_block, vectors.keys - key));
  }

 private:
  class Columns {
   public:
    Columns(const Product& product, int64_t y0)
        : p(product),
          y0(y0),
          v(rooms.v.of<Element>(p.g.inputs * BLOCK * p.g.S)),
          always(rooms.always.of<float>(p.g.inputs * BLOCK)),
          w(rooms.w.of<Element>(KEYS * WIDTH * BLOCK)) {}

    void run(int64_t key, int64_t keys) {
      sums = rooms.sums.of<float>((p.vectors.first[key + keys] - p.vectors.first[key] + BLOCK) * BLOCK);
      for (int64_t x0 = 0; x0 < p.g.inputs; x0 += WIDTH) {
        for (int64_t output = 0; output < 2; ++output)
          for (int64_t x = 0; x < WIDTH; x += 2) {
            const int64_t at = (output * p.g.inputs + x0 + x) * SIDE;
            if (!key) pack(at, x0 + x, y0 + output * SIDE);
            for (int64_t group = 0; group < keys; group += Machine::MOST)
              generate(key + group, std::min(Machine::MOST, keys - group), at,
                       w + (group * 2 + output) * WIDTH * SIDE + x * SIDE);
          }
        for (int64_t of = 0; of < keys; ++of) multiply(key, of, x0);
      }
    }

   private:
    // Two inputs and a tile of outputs: in bf16 tiles of 8 outputs with both inputs of each, else of 16 outputs.
    void pack(int64_t at, int64_t x, int64_t first_y) {
      for (int64_t half = 0; half < 2; ++half) {
        const float* rows[SIDE];
        for (int64_t column = 0; column < SIDE; ++column) {
          const int64_t input = PAIR == 2 ? x + column % 2 : x + half;
          const int64_t output = first_y + (PAIR == 2 ? half * SIDE / 2 + column / 2 : column);
          const int64_t of_column = input * p.g.input + output * p.g.output;
          rows[column] = p.g.by_scenario + of_column * p.g.S;
          always[at + half * SIDE + column] = p.g.always[of_column];
        }
        if (x + 2 < p.g.inputs)
          for (const float* row : rows) fetch(row + 2 * p.g.input * p.g.S, p.g.S * sizeof(float));
        Element* to = v + (at + half * SIDE) * p.g.S;
        for (int64_t s = 0; s < p.g.S; s += SIDE * PAIR, to += SIDE * SIDE * PAIR) {
          __m512i tile[SIDE];
          for (int64_t column = 0; column < SIDE; ++column) tile[column] = Machine::sixteen(rows[column] + s);
          transpose(tile);
          for (int64_t row = 0; row < SIDE; ++row) _mm512_store_si512(to + row * SIDE * PAIR, tile[row]);
        }
      }
    }

    void generate(int64_t key, int64_t keys, int64_t at, Element* to) {
      const int64_t size = sizeof(Element), S = p.g.S, of_key = 2 * WIDTH * SIDE;
      const Left s{p.packed_s + key * S, S * size, ROW};
      const Right of_v{v + at * S, SIDE * S * size};
      Machine::product(Elements<Machine>{to, of_key}, keys, s, of_v, S / PAIR, {always + at, 0});
    }

    // The vectors of one key times its W; after the last inputs into y.
    void multiply(int64_t block, int64_t of, int64_t x0) {
      const int64_t size = sizeof(Element), begin = p.vectors.first[block + of], all = p.vectors.of(block + of);
      const Element* of_w = w + of * 2 * WIDTH * SIDE;
      for (int64_t n = 0; n < all; n += Machine::MOST) {
        const int64_t left = std::min(all - n, Machine::MOST);
        const Element* h = p.packed_h + x0 * p.vectors.all() + begin * WIDTH + n * SIDE * PAIR;
        float* sum = sums + (begin + n - p.vectors.first[block]) * BLOCK;
        fetch(h + all * WIDTH, left * WIDTH * size);  // the next key's
        if (x0) fetch(sum + all * BLOCK, left * BLOCK * sizeof(float));
        const Left of_h{h, ROW, all * ROW};
        const Right by_w{of_w, WIDTH * SIDE * size};
        const Start start{x0 ? sum : nullptr, BLOCK};
        if (x0 + WIDTH < p.g.inputs) {
          Machine::product(Sums{sum}, left, of_h, by_w, DEPTH, start);
        } else {
          const Elements<Machine> of_y{p.y + (begin + n) * p.g.outputs + y0, p.g.outputs, true};
          Machine::product(of_y, left, of_h, by_w, DEPTH, start);
        }
      }
    }

    const Product& p;
    const int64_t y0;
    Element* const v;
    float* const always;
    Element* const w;
    float* sums = nullptr;
  };

  const Generators g;
  const Vectors vectors;
  Element* const y;
  Element *packed_h, *packed_s;
  int64_t of_block;
};

}  // namespace
