// The batches of data/replay.py from the same random numbers (agent/philox.py): Philox 4x32-10 and Box-Muller.
#pragma once
#include <algorithm>

#include "products.h"

struct Store {  // one run's view of the replay buffer; columns: the padded [s, a, s', r, d], -1 where padded
  const float* buffer;
  const int64_t *columns, *extra;
  int64_t extras, length, width, start;
  uint64_t seed;
};

enum Stream { INDEX = 0, NOISE = 1 };

inline void philox(const Store& store, uint32_t position, uint64_t step, Stream stream, uint32_t (&c)[4]) {
  uint32_t k0 = uint32_t(store.seed), k1 = uint32_t(store.seed >> 32);
  c[0] = position, c[1] = uint32_t(step), c[2] = uint32_t(step >> 32), c[3] = stream;
  for (int i = 0; i < 10; i++) {
    const uint64_t p0 = uint64_t(c[0]) * 0xD2511F53u, p1 = uint64_t(c[2]) * 0xCD9E8D57u;
    c[0] = uint32_t(p1 >> 32) ^ c[1] ^ k0, c[2] = uint32_t(p0 >> 32) ^ c[3] ^ k1;
    c[1] = uint32_t(p1), c[3] = uint32_t(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

// where the rows of batch entries [rows.begin, rows.end) begin in the buffer
inline void sample_rows(const Store& store, uint64_t step, Range rows, const float** where) {
  uint32_t words[4];
  for (long b = rows.begin; b < rows.end; b++) {
    if (b == rows.begin || b % 4 == 0) philox(store, uint32_t(b / 4), step, INDEX, words);
    int64_t row = int64_t(words[b % 4] * uint64_t(store.length) >> 32);
    row += std::upper_bound(store.extra, store.extra + store.extras, row) - store.extra;
    where[b] = store.buffer + store.start + row * store.width;
    for (long i = 0; i < store.width; i += 16) __builtin_prefetch(where[b] + i);
  }
}

// standard normals of entry b: out [actions]
inline void sample_noise(const Store& store, uint64_t step, long b, long batch, long actions, F* out) {
  for (long block = 0; 4 * block < actions; block++) {
    uint32_t words[4];
    philox(store, uint32_t(b + batch * block), step, NOISE, words);
    for (int pair = 0; pair < 2 && 4 * block + 2 * pair < actions; pair++) {
      const double u = (words[2 * pair] + 0.5) * 0x1p-32, v = (words[2 * pair + 1] + 0.5) * 0x1p-32;
      const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * M_PI * v;
      out[4 * block + 2 * pair] = F(radius * std::cos(angle));
      if (4 * block + 2 * pair + 1 < actions) out[4 * block + 2 * pair + 1] = F(radius * std::sin(angle));
    }
  }
}
