// What happens between two products: LayerNorm (after ReLU, with gain and shift), sums over the batch, Adam and Polyak.
#pragma once
#include "products.h"

constexpr F LAYER_NORM_EPS = F(1e-5);

struct Norm {  // one layer's: gain and shift [H] (gain null: no LayerNorm), mean and 1/std [B]
  const F *gain, *shift;
  F *mean, *rstd;
};

struct Width {  // of a hidden layer: true entries, panels, distance between the panels of an activation
  long size, panels, ld;
  F* scratch;  // two rows of one thread's own, for widths without a program of their own
  long offset(int i, long b) const { return i / 2 * ld + b * P + i % 2 * W; }
};

// out = LayerNorm(act) unless null; q = out w + bias unless w is null. N: number of vectors, 0 where it is not fixed.
template <int N>
void normalise(const Width& d, const F* act, F* out, const Norm& norm, Range rows, const F* w, F bias, F* q) {
  const int n = N ? N : int(2 * d.panels);
  V own[N ? N : 1], *x = N ? own : reinterpret_cast<V*>(d.scratch);
  for (long b = rows.begin; b < rows.end; b++) {
    V s{}, v{}, dot{};
    F mean = 0, rstd = 1;
    UNROLL for (int i = 0; i < n; i++) s += x[i] = at(act + d.offset(i, b));
    if (norm.gain) {
      mean = sum(s) / d.size;
      UNROLL for (int i = 0; i < n; i++) x[i] -= mean, v += x[i] * x[i];
      const F padded = F(d.panels * P - d.size) * mean * mean;  // padded entries are 0 - mean
      rstd = 1 / std::sqrt((sum(v) - padded) / d.size + LAYER_NORM_EPS);
    }
    norm.mean[b] = mean, norm.rstd[b] = rstd;
    UNROLL for (int i = 0; i < n; i++) {
      const V y = norm.gain ? x[i] * rstd * at(norm.gain + i * W) + at(norm.shift + i * W) : x[i];
      if (out) at(out + d.offset(i, b)) = y;
      if (w) dot += y * at(w + i * W);
    }
    if (w) q[b] = sum(dot) + bias;
  }
}

// dz from dy through LayerNorm and ReLU. dy null: the last layer's, dq[b] w (dq null: w).
template <int N>
void normalise_back(const Width& d, const F* dy, const F* act, F* dz, const Norm& norm, Range rows, const F* dq,
                    const F* w) {
  const int n = N ? N : int(2 * d.panels);
  V own[N ? 2 * N : 1], *x = N ? own : reinterpret_cast<V*>(d.scratch), *g = x + n;
  for (long b = rows.begin; b < rows.end; b++) {
    V s1{}, s2{};
    const F mean = norm.mean[b], rstd = norm.rstd[b], q = dq ? dq[b] : 1;
    UNROLL for (int i = 0; i < n; i++) {
      x[i] = (at(act + d.offset(i, b)) - mean) * rstd;
      g[i] = dy ? at(dy + d.offset(i, b)) : q * at(w + i * W);
      if (norm.gain) g[i] *= at(norm.gain + i * W);
      s1 += g[i], s2 += g[i] * x[i];
    }
    const F m1 = norm.gain ? sum(s1) / d.size : 0, m2 = norm.gain ? sum(s2) / d.size : 0;
    UNROLL for (int i = 0; i < n; i++)
      at(dz + d.offset(i, b)) = where_positive(at(act + d.offset(i, b)), rstd * (g[i] - m1 - x[i] * m2));
  }
}

#define FOR_WIDTH(function, d, ...) \
  (s.panels == 256 / P ? function<256 / W>(d, __VA_ARGS__) : function<0>(d, __VA_ARGS__))

// sums over the batch, for panels [part.begin, part.end), of what `row(b, offset, vectors)` gives: totals[i] [H]
template <int N, class Row>
void column_sums(F* const (&totals)[N], long ld, long batch, Range part, Row row) {
  for (long p = part.begin; p < part.end; p++)
    for (int half = 0; half < P; half += W) {
      V total[2][N] = {}, x[N];  // even and odd rows: an addition takes four cycles
      for (long b = 0; b < batch; b += 2)
        UNROLL for (int odd = 0; odd < 2; odd++) {
          row(b + odd, p * ld + (b + odd) * P + half, x);
          UNROLL for (int i = 0; i < N; i++) total[odd][i] += x[i];
        }
      UNROLL for (int i = 0; i < N; i++) at(totals[i] + p * P + half) = total[0][i] + total[1][i];
    }
}

struct AdamRule {
  double beta1, beta2, eps;
};

// One Adam step of update number `count` on entries [part.begin, part.end), and a target (if any) moved by tau towards
// the new weights. With gradient_q also d weights / d alpha = -lr du/dg gradient_q into `direction`: see agent/aspc.py.
inline void adam(const AdamRule& rule, double lr, long count, Range part, F* __restrict w, const F* __restrict g,
                 F* __restrict m, F* __restrict v, F* __restrict target = nullptr, F tau = 0,
                 const F* __restrict gradient_q = nullptr, F* __restrict direction = nullptr) {
  const double k1 = 1 - std::pow(rule.beta1, double(count)), k2 = 1 - std::pow(rule.beta2, double(count));
  const F a1 = F(1 - rule.beta1), b2 = F(rule.beta2), a2 = F(1 - rule.beta2), eps = F(rule.eps);
  const F step = F(lr / k1), root2 = F(1 / std::sqrt(k2)), slope1 = F((1 - rule.beta1) / k1);
  const F slope2 = F((1 - rule.beta2) / k2), whole1 = F(k1), whole2 = F(k2), rate = F(-lr);
  for (long i = part.begin; i < part.end; i++) {
    m[i] += a1 * (g[i] - m[i]);
    v[i] = b2 * v[i] + a2 * g[i] * g[i];
    w[i] -= step * m[i] / (std::sqrt(v[i]) * root2 + eps);
  }
  if (target)
    for (long i = part.begin; i < part.end; i++) target[i] += tau * (w[i] - target[i]);
  if (gradient_q)  // divided as in agent/adam.py: at the first update the two terms cancel but for eps
    for (long i = part.begin; i < part.end; i++) {
      const F below = std::sqrt(v[i] / whole2) + eps, cube = below * below * below;
      direction[i] = m[i] == 0 ? 0 : rate * (slope1 / below - m[i] / whole1 * g[i] * slope2 / cube) * gradient_q[i];
    }
}
