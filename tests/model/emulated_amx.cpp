// The kernel's form for AMX on a core without: its six instructions in plain C++, for test_kernel.py.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace emulated {

struct Tile {
  alignas(64) char row[16][64];
};
thread_local Tile tiles[8];

inline void load(int tile, const void* from, int64_t stride) {
  for (int row = 0; row < 16; ++row) std::memcpy(tiles[tile].row[row], static_cast<const char*>(from) + row * stride, 64);
}

inline void store(int tile, void* to, int64_t stride) {
  for (int row = 0; row < 16; ++row) std::memcpy(static_cast<char*>(to) + row * stride, tiles[tile].row[row], 64);
}

inline float wide(uint16_t bf16) {
  const uint32_t bits = uint32_t(bf16) << 16;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

inline void product(int c, int a, int b) {
  for (int row = 0; row < 16; ++row) {
    auto* sums = reinterpret_cast<float*>(tiles[c].row[row]);
    const auto* of_a = reinterpret_cast<const uint16_t*>(tiles[a].row[row]);
    for (int k = 0; k < 16; ++k) {
      const auto* of_b = reinterpret_cast<const uint16_t*>(tiles[b].row[k]);
      for (int column = 0; column < 16; ++column)
        for (int of = 0; of < 2; ++of) sums[column] += wide(of_a[2 * k + of]) * wide(of_b[2 * column + of]);
    }
  }
}

}  // namespace emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) (void)(config)
#define _tile_release()
#define _tile_zero(tile) std::memset(&emulated::tiles[tile], 0, sizeof(emulated::Tile))
#define _tile_loadd(tile, from, stride) emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated::store(tile, to, stride)
#define _tile_dpbf16ps(c, a, b) emulated::product(c, a, b)

#define m2m_machine m2m_machine_as_it_is
#include "../../m2m_model/kernel.cpp"
#undef m2m_machine

extern "C" int m2m_machine(int bf16) { return bf16 && m2m_machine_as_it_is(bf16) ? AMX_BF16 : 0; }
