// Actor and critic as in agent/networks.py, on weights and activations in panels, for a crew of threads: rows of the
// batch are shared by rows, gradients by their own rows, so results do not depend on the number of threads.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "layers.h"

inline void pause() {  // for some tens of cycles
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

struct Barrier {
  std::atomic<int> arrived{0}, turn{0};
  void wait(int size) {
    const int now = turn.load(std::memory_order_acquire);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived.store(0, std::memory_order_relaxed);
      turn.store(now + 1, std::memory_order_release);
    }
    for (long spins = 0; turn.load(std::memory_order_acquire) == now; spins++)
      if (spins < 2000) pause();
      else std::this_thread::yield();  // two threads on one core must not spin a time slice away
  }
};

struct Crew {  // one thread's place among those that share a piece of work
  int id, size;
  Barrier* barrier;
  Range share(long n, long block = 1) const {  // n is a multiple of `block`, which stays whole
    return {n / block * id / size * block, n / block * (id + 1) / size * block};
  }
  void wait() const {
    if (size > 1) barrier->wait(size);
  }
};

// Where the tensors of a network's flat vector (agent/layout.py) lie in panels. Vectors are matrices of one row.
struct Net {
  struct Entry {
    long flat, panels, rows, columns, padded_rows;
  };
  std::vector<Entry> entries;
  long flat_size = 0, size = 0;
  long add(long rows, long columns, long padded_rows) {
    const long at = size;
    entries.push_back({flat_size, size, rows, columns, padded_rows});
    flat_size += rows * columns;
    size += (columns + P - 1) / P * P * padded_rows;
    return at;
  }
  void copy(F* flat, F* panels, bool into_panels) const {
    for (const Entry& e : entries)
      for (long p = 0; p * P < e.columns; p++)
        for (long r = 0; r < e.rows; r++) {
          F *a = flat + e.flat + r * e.columns + p * P, *b = &entry(panels + e.panels, e.padded_rows, r, p * P);
          std::memcpy(into_panels ? b : a, into_panels ? a : b, std::min<long>(P, e.columns - p * P) * sizeof(F));
        }
  }
};

struct Layer {
  long w, b, gain, shift;
};

struct Shape {
  long D, A, H, B;                       // true sizes
  long inputs, hidden, rows, ld;         // D + A; H and B padded; entries between two panels of an activation
  long panels, action_panels, input_panels;
  bool norm;
  int depth;                             // hidden layers of a critic
  Net actor, critic;
  Layer layer[3], actor_layer[3];
  long w_last, b_last;

  Shape(long obs, long act, long width, long batch, bool robust)
      : D(obs), A(act), H(width), B(batch), inputs(obs + act), norm(robust), depth(robust ? 3 : 2) {
    panels = (H + P - 1) / P, action_panels = (A + P - 1) / P, input_panels = (inputs + P - 1) / P;
    hidden = panels * P, rows = (B + ROWS - 1) / ROWS * ROWS;
    ld = (rows + 1) * P;  // one row more: panels a power of two apart would share a few sets of the cache
    for (int l = 0; l < 3; l++) {
      const long in = l ? H : D, padded = l ? hidden : D, out = l == 2 ? A : H;
      actor_layer[l] = {actor.add(in, out, padded), actor.add(1, out, 1), 0, 0};
    }
    for (int l = 0; l < depth; l++) {
      layer[l] = {critic.add(l ? H : inputs, H, l ? hidden : inputs), critic.add(1, H, 1), 0, 0};
      if (norm) layer[l].gain = critic.add(1, H, 1), layer[l].shift = critic.add(1, H, 1);
    }
    w_last = critic.add(1, H, 1), b_last = critic.add(1, 1, 1);
  }
  long fan_in(int l) const { return l ? hidden : inputs; }
  Width width(F* scratch) const { return {H, panels, ld, scratch}; }
  F& entry(F* x, long b, long column) const { return ::entry(x, rows + 1, b, column); }  // of an activation
};

struct Tape {  // of a critic: act after ReLU, out after LayerNorm (act itself without)
  F *act[3], *out[3], *mean[3], *rstd[3], *q;
};
struct ActorTape {
  F *h0, *h1, *squashed, *d2, *d1, *d0;
};
struct Turned {  // transposes of weights, for the way back
  F *hidden[3], *actions;
};
struct Slopes {  // gradients with respect to a layer's output (dy) and to its product (dz): two layers in turn
  F *dy[2], *dz[2];
};

inline Norm norm_of(const Shape& s, const F* w, const Tape& t, int l) {
  return {s.norm ? w + s.layer[l].gain : nullptr, w + s.layer[l].shift, t.mean[l], t.rstd[l]};
}

// Q of inputs x [D + A] into t.q; keeps t unless t.out is t.act
inline void critic_forward(const Shape& s, const F* w, const F* x, const Tape& t, Range r, F* scratch) {
  for (int l = 0; l < s.depth; l++) {
    const bool last = l == s.depth - 1;
    const F *in = l ? t.out[l - 1] : x, *w_last = last ? w + s.w_last : nullptr;
    F* out = last ? nullptr : t.out[l];
    product<BIAS, RELU>(in, w + s.layer[l].w, t.act[l], s.fan_in(l), s.panels, s.ld, r, w + s.layer[l].b);
    if (s.norm || last)
      FOR_WIDTH(normalise, s.width(scratch), t.act[l], out, norm_of(s, w, t, l), r, w_last, w[s.b_last], t.q);
  }
}

// one hidden layer backwards, rows r: dz[l & 1] from dy[l & 1], or for the last layer from dq (null: ones)
inline void layer_back(const Shape& s, const F* w, const Tape& t, int l, const Slopes& k, Range r, const F* dq,
                       F* scratch) {
  const bool last = l == s.depth - 1;
  const F* dy = last ? nullptr : k.dy[l & 1];
  if (s.norm || last)
    FOR_WIDTH(normalise_back, s.width(scratch), dy, t.act[l], k.dz[l & 1], norm_of(s, w, t, l), r, dq, w + s.w_last);
}
// ... and through its product to the layer before
inline void product_back(const Shape& s, const Turned& turned, const Tape& t, int l, const Slopes& k, Range r) {
  const F *dz = k.dz[l & 1], *wt = turned.hidden[l];
  const int to = (l - 1) & 1;
  if (s.norm) product<ZERO, PLAIN>(dz, wt, k.dy[to], s.hidden, s.panels, s.ld, r);
  else product<ZERO, MASK>(dz, wt, k.dz[to], s.hidden, s.panels, s.ld, r, nullptr, t.act[l - 1]);
}

// gradients g of a scalar with gradient dq [B] (0 on padded rows)
inline void critic_backward(const Shape& s, const F* w, const Turned& turned, const F* x, const Tape& t, const F* dq,
                            F* g, const Slopes& k, const Crew& crew, F* scratch) {
  const Range r = crew.share(s.rows, ROWS), part = crew.share(s.panels);
  for (int l = s.depth - 1; l >= 0; l--) {
    const Layer& to = s.layer[l];
    const F *dy = k.dy[l & 1], *dz = k.dz[l & 1], *act = t.act[l], *mean = t.mean[l], *rstd = t.rstd[l];
    F *gain = g + to.gain, *shift = g + to.shift, *w_last = g + s.w_last;
    layer_back(s, w, t, l, k, r, dq, scratch);
    crew.wait();
    if (l < s.depth - 1 && s.norm) {
      column_sums<3>({gain, shift, g + to.b}, s.ld, s.rows, part, [=](long b, long o, V (&row)[3]) {
        row[1] = at(dy + o), row[0] = row[1] * ((at(act + o) - mean[b]) * rstd[b]), row[2] = at(dz + o);
      });
    } else if (l < s.depth - 1) {
      column_sums<1>({g + to.b}, s.ld, s.rows, part, [=](long, long o, V (&row)[1]) { row[0] = at(dz + o); });
    } else {  // dy is dq w: sums of dq x and of dq give the gradients of gain, shift and w
      F total = 0;
      for (long b = 0; b < s.B; b++) total += dq[b];
      if (crew.id == 0) g[s.b_last] = total;
      column_sums<2>({w_last, g + to.b}, s.ld, s.rows, part, [=](long b, long o, V (&row)[2]) {
        row[0] = dq[b] * ((at(act + o) - mean[b]) * rstd[b]), row[1] = at(dz + o);
      });
      for (long j = part.begin * P; s.norm && j < part.end * P; j++) {
        gain[j] = w[s.w_last + j] * w_last[j], shift[j] = w[s.w_last + j] * total;
        w_last[j] = w[to.gain + j] * w_last[j] + w[to.shift + j] * total;
      }
    }
    weight_gradient(l ? t.out[l - 1] : x, dz, g + to.w, s.fan_in(l), s.panels, s.ld, s.rows, crew.id, crew.size);
    if (l) product_back(s, turned, t, l, k, r);
  }
}

// dQ/da [B, A] of rows r into da
inline void action_gradient(const Shape& s, const F* w, const Turned& turned, const Tape& t, F* da, const Slopes& k,
                            Range r, F* scratch) {
  for (int l = s.depth - 1; l >= 0; l--) {
    layer_back(s, w, t, l, k, r, nullptr, scratch);
    if (l) product_back(s, turned, t, l, k, r);
  }
  product<ZERO, PLAIN>(k.dz[0], turned.actions, da, s.hidden, s.action_panels, s.ld, r);
}

// squashed actions of the first D columns of x
inline void actor_forward(const Shape& s, const F* w, const F* x, const ActorTape& t, Range r) {
  const Layer* l = s.actor_layer;
  product<BIAS, RELU>(x, w + l[0].w, t.h0, s.D, s.panels, s.ld, r, w + l[0].b);
  product<BIAS, RELU>(t.h0, w + l[1].w, t.h1, s.hidden, s.panels, s.ld, r, w + l[1].b);
  product<BIAS, PLAIN>(t.h1, w + l[2].w, t.squashed, s.hidden, s.action_panels, s.ld, r, w + l[2].b);
  for (long b = r.begin; b < r.end; b++)
    for (long j = 0; j < s.A; j++) {
      F& z = s.entry(t.squashed, b, j);
      z = std::tanh(z);
    }
}

// gradients g, given t.d2 [B, A], the gradient before tanh (0 where padded)
inline void actor_backward(const Shape& s, const Turned& turned, const F* x, const ActorTape& t, F* g,
                           const Crew& crew) {
  const Range r = crew.share(s.rows, ROWS);
  product<ZERO, MASK>(t.d2, turned.hidden[2], t.d1, s.A, s.panels, s.ld, r, nullptr, t.h1);
  product<ZERO, MASK>(t.d1, turned.hidden[1], t.d0, s.hidden, s.panels, s.ld, r, nullptr, t.h0);
  crew.wait();
  const F *in[] = {x, t.h0, t.h1}, *slopes[] = {t.d0, t.d1, t.d2};
  for (int l = 2; l >= 0; l--) {
    const long panels = l == 2 ? s.action_panels : s.panels;
    const F* dz = slopes[l];
    column_sums<1>({g + s.actor_layer[l].b}, s.ld, s.rows, crew.share(panels),
                   [=](long, long o, V (&row)[1]) { row[0] = at(dz + o); });
    weight_gradient(in[l], dz, g + s.actor_layer[l].w, l ? s.hidden : s.D, panels, s.ld, s.rows, crew.id, crew.size);
  }
  crew.wait();
}

// how the values before tanh move with the weights along `d`, into `moved`; t.d0, t.d1: the hidden layers' motion
inline void actor_tangent(const Shape& s, const F* w, const F* d, const F* x, const ActorTape& t, F* moved, Range r) {
  const Layer* l = s.actor_layer;
  product<BIAS, MASK>(x, d + l[0].w, t.d0, s.D, s.panels, s.ld, r, d + l[0].b, t.h0);
  product<BIAS, PLAIN>(t.h0, d + l[1].w, t.d1, s.hidden, s.panels, s.ld, r, d + l[1].b);
  product<ADD, MASK>(t.d0, w + l[1].w, t.d1, s.hidden, s.panels, s.ld, r, nullptr, t.h1);
  product<BIAS, PLAIN>(t.h1, d + l[2].w, moved, s.hidden, s.action_panels, s.ld, r, d + l[2].b);
  product<ADD, PLAIN>(t.d1, w + l[2].w, moved, s.hidden, s.action_panels, s.ld, r);
}
