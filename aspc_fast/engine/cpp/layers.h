// What happens between two products: LayerNorm (after ReLU, with gain and shift), sums over the batch, Adam and Polyak.
#pragma once
#include "products.h"

constexpr F LAYER_NORM_EPS = F(1e-5);

struct Norm {  // one layer's: gain and shift [H], mean and 1/std [B]
  const F *gain, *shift;
  F *mean, *rstd;
};

struct Width {  // of a hidden layer: true entries, panels, distance between the panels of an activation
  long size, panels, ld;
  F* scratch;  // two rows of one thread's own, for widths without a program of their own
  long vectors() const { return 2 * panels; }
  F padding() const { return F(panels * P - size); }
};

// out = LayerNorm(act) unless null; q = out w + bias unless w is null. N: number of vectors, 0 where it is not fixed.
template <int N>
void normalise(const Width& d, const F* act, F* out, const Norm& norm, Range rows, const F* w, F bias, F* q) {
  const int n = N ? N : int(d.vectors());
  V own[N ? N : 1], *x = N ? own : reinterpret_cast<V*>(d.scratch);
  for (long b = rows.begin; b < rows.end; b++) {
    V s{}, v{}, dot{};
    UNROLL for (int i = 0; i < n; i++) s += x[i] = at(act + (i / 2) * d.ld + b * P + (i % 2) * W);
    const F mean = sum(s) / d.size;
    UNROLL for (int i = 0; i < n; i++) x[i] -= mean, v += x[i] * x[i];
    const F variance = (sum(v) - d.padding() * mean * mean) / d.size;  // padded entries are 0 - mean
    const F rstd = 1 / std::sqrt(variance + LAYER_NORM_EPS);
    norm.mean[b] = mean, norm.rstd[b] = rstd;
    UNROLL for (int i = 0; i < n; i++) {
      const V y = x[i] * rstd * at(norm.gain + i * W) + at(norm.shift + i * W);
      if (out) at(out + (i / 2) * d.ld + b * P + (i % 2) * W) = y;
      if (w) dot += y * at(w + i * W);
    }
    if (w) q[b] = sum(dot) + bias;
  }
}

// dz from dy through LayerNorm and ReLU. dy null: the last layer's, dq[b] w (dq null: w).
template <int N>
void normalise_back(const Width& d, const F* dy, const F* act, F* dz, const Norm& norm, Range rows, const F* dq,
                    const F* w) {
  const int n = N ? N : int(d.vectors());
  V own[N ? 2 * N : 1], *x = N ? own : reinterpret_cast<V*>(d.scratch), *g = x + n;
  for (long b = rows.begin; b < rows.end; b++) {
    V s1{}, s2{};
    const F mean = norm.mean[b], rstd = norm.rstd[b], q = dq ? dq[b] : 1;
    UNROLL for (int i = 0; i < n; i++) {
      const long o = (i / 2) * d.ld + b * P + (i % 2) * W;
      x[i] = (at(act + o) - mean) * rstd;
      g[i] = (dy ? at(dy + o) : q * at(w + i * W)) * at(norm.gain + i * W);
      s1 += g[i];
      s2 += g[i] * x[i];
    }
    const F m1 = sum(s1) / d.size, m2 = sum(s2) / d.size;
    UNROLL for (int i = 0; i < n; i++) {
      const long o = (i / 2) * d.ld + b * P + (i % 2) * W;
      at(dz + o) = at(act + o) > V{} ? rstd * (g[i] - m1 - x[i] * m2) : V{};
    }
  }
}

#define FOR_WIDTH(function, d, ...) \
  ((d).vectors() == 256 / W ? function<256 / W>(d, __VA_ARGS__) : function<0>(d, __VA_ARGS__))

// without LayerNorm: q = act w + bias
inline void row_products(const Width& d, const F* act, Range rows, const F* w, F bias, F* q) {
  for (long b = rows.begin; b < rows.end; b++) {
    V dot{};
    for (int i = 0; i < d.vectors(); i++) dot += at(act + (i / 2) * d.ld + b * P + (i % 2) * W) * at(w + i * W);
    q[b] = sum(dot) + bias;
  }
}
// dz = dq[b] w where act > 0 (dq null: w)
inline void row_products_back(const Width& d, const F* act, F* dz, Range rows, const F* dq, const F* w) {
  for (long b = rows.begin; b < rows.end; b++)
    for (int i = 0; i < d.vectors(); i++) {
      const long o = (i / 2) * d.ld + b * P + (i % 2) * W;
      at(dz + o) = at(act + o) > V{} ? (dq ? dq[b] : 1) * at(w + i * W) : V{};
    }
}

// sums over the batch for panels [part.begin, part.end): total = sum of weight[b] x[b] (weight null: 1)
inline void column_sums(const F* x, F* total, long ld, long batch, Range part, const F* weight = nullptr) {
  for (long p = part.begin; p < part.end; p++) {
    V s0{}, s1{}, t0{}, t1{};  // two rows at a time: an addition takes four cycles
    for (long b = 0; b + 1 < batch; b += 2) {
      const F *row = x + p * ld + b * P, u = weight ? weight[b] : 1, v = weight ? weight[b + 1] : 1;
      s0 += u * at(row), s1 += u * at(row + W);
      t0 += v * at(row + P), t1 += v * at(row + P + W);
    }
    at(total + p * P) = s0 + t0, at(total + p * P + W) = s1 + t1;
  }
}
// dgain = sum of dy x, dshift = sum of dy, with x = (act - mean) rstd. dy null: dgain = sum of dq x.
inline void norm_sums(const F* dy, const F* act, const Norm& norm, F* dgain, F* dshift, long ld, long batch, Range part,
                      const F* dq) {
  for (long p = part.begin; p < part.end; p++)
    for (int h = 0; h < P; h += W) {
      V g0{}, g1{}, s0{}, s1{};
      for (long b = 0; b + 1 < batch; b += 2) {
        const long o = p * ld + b * P + h;
        const V d0 = dy ? at(dy + o) : splat(dq[b]), d1 = dy ? at(dy + o + P) : splat(dq[b + 1]);
        g0 += d0 * ((at(act + o) - norm.mean[b]) * norm.rstd[b]);
        g1 += d1 * ((at(act + o + P) - norm.mean[b + 1]) * norm.rstd[b + 1]);
        s0 += d0, s1 += d1;
      }
      at(dgain + p * P + h) = g0 + g1, at(dshift + p * P + h) = s0 + s1;
    }
}

struct AdamRule {
  double beta1, beta2, eps;
};

// One Adam step of update number `count` on entries [part.begin, part.end), and a target (if any) moved by tau towards
// the new weights. With gradient_q also d weights / d alpha = -lr du/dg gradient_q into `direction`: see agent/aspc.py.
inline void adam(const AdamRule& rule, double lr, long count, Range part, F* __restrict w, const F* __restrict g,
                 F* __restrict m, F* __restrict v, F* __restrict target, F tau, const F* __restrict gradient_q,
                 F* __restrict direction) {
  const double k1 = 1 - std::pow(rule.beta1, double(count)), k2 = 1 - std::pow(rule.beta2, double(count));
  const F a1 = F(1 - rule.beta1), b2 = F(rule.beta2), a2 = F(1 - rule.beta2), eps = F(rule.eps);
  const F step = F(lr / k1), root2 = F(1 / std::sqrt(k2)), slope1 = F((1 - rule.beta1) / k1);
  const F slope2 = F((1 - rule.beta2) / (k1 * k2)), rate = F(-lr);
  for (long i = part.begin; i < part.end; i++) {
    m[i] += a1 * (g[i] - m[i]);
    v[i] = b2 * v[i] + a2 * g[i] * g[i];
    w[i] -= step * m[i] / (std::sqrt(v[i]) * root2 + eps);
  }
  if (target)
    for (long i = part.begin; i < part.end; i++) target[i] += tau * (w[i] - target[i]);
  if (gradient_q)
    for (long i = part.begin; i < part.end; i++) {
      const F below = std::sqrt(v[i]) * root2 + eps, slope = slope1 / below - m[i] * g[i] * slope2 / (below * below * below);
      direction[i] = m[i] == 0 ? 0 : rate * slope * gradient_q[i];
    }
}
