// Matrix products in panels. A matrix [rows, columns] lies as [columns / P][rows][P]: P = two vectors is what a block
// of a product loads at once, so nothing is ever packed. F is the scalar type, float or double (-DASPC_SCALAR=...).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

using F = ASPC_SCALAR;
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, ROWS = 8;  // 16 sums in 32 registers hide the latency of an FMA
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32, ROWS = 6;  // 12 sums in 16 registers
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, ROWS = 8;
#else
constexpr int VECTOR_BYTES = 16, ROWS = 4;
#endif
constexpr int W = VECTOR_BYTES / sizeof(F), P = 2 * W;
constexpr int DEPTH = 256;  // rows of a panel that one pass takes: 32 KB, which stay in the first-level cache
typedef F V __attribute__((vector_size(VECTOR_BYTES), may_alias));

#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

INLINE V& at(F* p) { return *reinterpret_cast<V*>(p); }
INLINE const V& at(const F* p) { return *reinterpret_cast<const V*>(p); }
INLINE V splat(F x) { return x - V{}; }
INLINE V positive(V x) { return x < V{} ? V{} : x; }                // NaN passes, as in PyTorch's ReLU
INLINE V where_positive(V mask, V x) { return mask <= V{} ? V{} : x; }

template <int N>
INLINE F sum_of(const F* x) {  // halves added, so that the order of the sum is one only
  if constexpr (N == 2) return x[0] + x[1];
  else {
    typedef F Half __attribute__((vector_size(N / 2 * sizeof(F)), may_alias));
    Half low, high;
    std::memcpy(&low, x, sizeof low);
    std::memcpy(&high, x + N / 2, sizeof high);
    low += high;
    return sum_of<N / 2>(reinterpret_cast<const F*>(&low));
  }
}
INLINE F sum(const V& x) { return sum_of<W>(reinterpret_cast<const F*>(&x)); }

struct Range {
  long begin, end;
};

template <class T>
INLINE T& entry(T* x, long rows, long row, long column) {  // of a matrix in panels
  return x[(column / P * rows + row) * P + column % P];
}

// c[r] += sum over k < n of a[r * A_ROW + k * A_K] * b[k][P]
template <int A_ROW, int A_K, int M>
INLINE void multiply(const F* a, const F* b, long n, V (&c)[M][2]) {
  for (long k = 0; k < n; k++) {
    V b0 = at(b + k * P), b1 = at(b + k * P + W);
    UNROLL for (int r = 0; r < M; r++) {
      V x = splat(a[r * A_ROW + k * A_K]);
      c[r][0] += x * b0;
      c[r][1] += x * b1;
    }
  }
}

enum Start { ZERO, BIAS, ADD };      // what a product begins with: nothing, the bias, what Z holds
enum Finish { PLAIN, RELU, MASK };   // what is done with it: nothing, ReLU, ReLU's backward (0 where mask <= 0)

// Z = finish(start + X w) for rows [r.begin, r.end), which are multiples of ROWS. X, Z and mask have panels ld entries
// apart; w is [panels][depth][P].
template <Start S, Finish E>
void product(const F* X, const F* w, F* Z, long depth, long panels, long ld, Range r, const F* bias = nullptr,
             const F* mask = nullptr) {
  for (long p = 0; p < panels; p++)
    for (long k0 = 0; k0 < depth; k0 += DEPTH) {
      const long k1 = k0 + DEPTH < depth ? k0 + DEPTH : depth;
      for (long row = r.begin; row < r.end; row += ROWS) {
        F* z = Z + p * ld + row * P;
        V c[ROWS][2];
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int h = 0; h < 2; h++)
          c[i][h] = k0 || S == ADD ? at(z + i * P + h * W) : S == BIAS ? at(bias + p * P + h * W) : V{};
        for (long k = k0; k < k1; k += P)
          multiply<P, 1>(X + (k / P) * ld + row * P, w + (p * depth + k) * P, k1 - k < P ? k1 - k : P, c);
        const bool last = k1 == depth;
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int h = 0; h < 2; h++) {
          if (E == RELU && last) c[i][h] = positive(c[i][h]);
          if (E == MASK && last) c[i][h] = where_positive(at(mask + p * ld + (row + i) * P + h * W), c[i][h]);
          at(z + i * P + h * W) = c[i][h];
        }
      }
    }
}

// rows m ... m + M - 1 of dw = X^T Z over `n` rows of the batch, added to what an earlier pass left; `keep` are stored
template <int M>
INLINE void gradient_block(const F* x, const F* z, F* dw, long n, bool first, long keep) {
  V c[M][2];
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int h = 0; h < 2; h++)
    c[i][h] = !first && i < keep ? at(dw + i * P + h * W) : V{};
  multiply<1, P>(x, z, n, c);
  UNROLL for (int i = 0; i < M; i++)
    if (i < keep) at(dw + i * P) = c[i][0], at(dw + i * P + W) = c[i][1];
}

// dw [panels][depth][P] = X^T Z over all `batch` rows: part `id` of `size`, cut between blocks of rows of dw, so that
// no sum depends on how many threads share the work
inline void weight_gradient(const F* X, const F* Z, F* dw, long depth, long panels, long ld, long batch, int id,
                            int size) {
  constexpr int PER_PANEL = (P + ROWS - 1) / ROWS;  // blocks of one panel of X, the last one smaller if P % ROWS
  const long whole = depth / P, rest = depth % P, blocks = whole * PER_PANEL + (rest + ROWS - 1) / ROWS;
  const long begin = panels * blocks * id / size, end = panels * blocks * (id + 1) / size;
  for (long p = begin / blocks; p * blocks < end; p++)
    for (long b0 = 0; b0 < batch; b0 += DEPTH) {
      const long n = b0 + DEPTH < batch ? DEPTH : batch - b0;
      const long from = begin > p * blocks ? begin - p * blocks : 0;
      const long to = end < (p + 1) * blocks ? end - p * blocks : blocks;
      for (long u = from; u < to; u++) {
        const long m = u / PER_PANEL * P + u % PER_PANEL * ROWS, keep = depth - m < ROWS ? depth - m : ROWS;
        const F *x = X + (m / P) * ld + b0 * P + m % P, *z = Z + p * ld + b0 * P;
        F* out = dw + (p * depth + m) * P;
        if (P % ROWS && u % PER_PANEL == PER_PANEL - 1) {
          constexpr int LAST = P % ROWS ? P % ROWS : ROWS;
          gradient_block<LAST>(x, z, out, n, b0 == 0, keep < LAST ? keep : LAST);
        } else gradient_block<ROWS>(x, z, out, n, b0 == 0, keep);
      }
    }
}

template <int STRIDE>
INLINE void swap_blocks(V (&r)[W]) {  // one pass of a transposition: blocks STRIDE wide change places across a pair
  UNROLL for (int i = 0; i < W; i++)
    if (!(i & STRIDE)) {
      V a = r[i], b = r[i + STRIDE], low, high;
      UNROLL for (int j = 0; j < W; j++) {
        low[j] = j & STRIDE ? b[j - STRIDE] : a[j];
        high[j] = j & STRIDE ? b[j] : a[j + STRIDE];
      }
      r[i] = low;
      r[i + STRIDE] = high;
    }
  if constexpr (STRIDE > 1) swap_blocks<STRIDE / 2>(r);
}

// t [rows / P][columns][P]: the transpose of w [columns / P][rows][P]; panels [part.begin, part.end) of w
inline void transpose(const F* w, F* t, long rows, long columns, Range part) {
  for (long p = part.begin; p < part.end; p++)
    for (long k = 0; k < rows; k += W)
      for (int h = 0; h < P; h += W) {
        V r[W];
        UNROLL for (int i = 0; i < W; i++) r[i] = at(w + (p * rows + k + i) * P + h);
        swap_blocks<W / 2>(r);
        UNROLL for (int i = 0; i < W; i++) at(t + ((k / P) * columns + p * P + h + i) * P + k % P) = r[i];
      }
}
