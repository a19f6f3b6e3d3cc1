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

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <type_traits>
#include <vector>

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

// ------------------------------------------------------------------------------------------------------------ elements

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

// ------------------------------------------------------------------------------------------------------------ machines

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

// ------------------------------------------------------------------------------------------------------------- product

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

// ----------------------------------------------------------------------------------------------------------- gradients

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
