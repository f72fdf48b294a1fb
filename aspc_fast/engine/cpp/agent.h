// One run's training step: the stages of agent/schedule.py in the same order, for a crew of threads.
#pragma once
#include <cstdlib>
#include <memory>

#include "networks.h"
#include "sampling.h"

struct Program {  // what all runs share
  int64_t obs, act, hidden, robust, batch, policy_freq, alpha_freq, learns_alpha;
  double beta1, beta2, eps;
};

struct Hyper {  // one run's: names as in agent/state.py
  double discount, tau, policy_noise, noise_clip, max_action, actor_lr, critic_lr, alpha_lr, alpha_lr_decay, ema;
  double weight_eq2, weight_eq3, learns_alpha, true_act_dim, reward_factor, reward_shift;
};

constexpr int KINDS = 3, METRICS = 32;

struct Arguments {  // one run's, as Python hands them over; batch is null where it is to be sampled
  F *networks[8], *scalars[4];  // actor, target, m, v; critics, targets, m, v. rho, m, v, mean of Q
  Hyper hyper;
  Store store;
  const F *batch, *noise;  // [B, columns of the store], [B, A]
  double sums[KINDS][METRICS];  // of the metrics, by kind of step: critic, actor, meta
};

struct Memory {  // zeroed pieces, freed together
  std::vector<std::unique_ptr<void, decltype(&std::free)>> pieces;
  F* take(long n) {
    const size_t bytes = (n * sizeof(F) + 127) / 128 * 128;
    pieces.emplace_back(std::aligned_alloc(128, bytes), &std::free);
    if (!pieces.back()) throw std::bad_alloc();
    return static_cast<F*>(std::memset(pieces.back().get(), 0, bytes));
  }
};

struct Learned {  // a network in panels: weights, target, Adam's moments, and transposes of weights for the way back
  F *w, *target, *m, *v;
  Turned turned;
  Learned(Memory& memory, const Net& net)
      : w(memory.take(net.size)), target(memory.take(net.size)), m(memory.take(net.size)), v(memory.take(net.size)) {}
};

struct Run {
  const Shape& s;
  Memory memory;
  Learned actor{memory, s.actor}, critic[2] = {{memory, s.critic}, {memory, s.critic}};

  explicit Run(const Shape& shape) : s(shape) {
    const long square = s.panels * s.hidden * P;
    actor.turned = {{nullptr, memory.take(square), memory.take(s.panels * s.A * P)}, nullptr};
    for (Learned& c : critic)
      c.turned = {{nullptr, memory.take(square), s.norm ? memory.take(square) : nullptr},
                  memory.take(s.action_panels * s.hidden * P)};
  }
  void turn_critic(int c, const Crew& crew) {
    const Learned& k = critic[c];
    for (int l = 1; l < s.depth; l++)
      transpose(k.w + s.layer[l].w, k.turned.hidden[l], s.hidden, s.hidden, crew.share(s.panels));
    for (long n = 0; n < (c || crew.id ? 0 : s.hidden); n++)
      for (long j = 0; j < s.A; j++)
        entry(k.turned.actions, s.hidden, n, j) = entry(k.w + s.layer[0].w, s.inputs, s.D + j, n);
  }
  void turn_actor(const Crew& crew) {
    const F *w1 = actor.w + s.actor_layer[1].w, *w2 = actor.w + s.actor_layer[2].w;
    transpose(w1, actor.turned.hidden[1], s.hidden, s.hidden, crew.share(s.panels));
    for (long n = 0; n < (crew.id ? 0 : s.hidden); n++)
      for (long j = 0; j < s.A; j++) entry(actor.turned.hidden[2], s.A, j, n) = entry(w2, s.hidden, n, j);
  }
  void copy(const Arguments& a, bool into_panels) {  // between the state's own layout and panels
    const long stride = (s.critic.flat_size + 63) / 64 * 64;  // ALIGNMENT of agent/layout.py
    for (int n = 0; n < 3; n++) {
      const Learned& own = n ? critic[n - 1] : actor;
      F* panels[] = {own.w, own.target, own.m, own.v};
      for (int i = 0; i < 4; i++)
        (n ? s.critic : s.actor).copy(a.networks[n ? 4 + i : i] + (n ? n - 1 : 0) * stride, panels[i], into_panels);
    }
    for (int c = 0; into_panels && c < 2; c++) turn_critic(c, {0, 1, nullptr});
    if (into_panels) turn_actor({0, 1, nullptr});
  }
};

struct Work {  // what a step leaves for its later stages: one for each crew, of `threads`
  const Shape& s;
  const int threads, half;
  Barrier meeting[3];
  Memory memory;
  F* vector() { return memory.take(s.rows); }
  F* hidden() { return memory.take(s.panels * s.ld); }
  F* narrow() { return memory.take(s.action_panels * s.ld); }
  F *x = memory.take(s.input_panels * s.ld), *next = memory.take(s.input_panels * s.ld);
  F *actions = memory.take(s.rows * s.A), *noise = memory.take(s.rows * s.A), *rewards = vector();
  F *goes_on = vector(), *da = narrow(), *moved = narrow();
  F *dq[2] = {vector(), vector()}, *error[2] = {vector(), vector()};
  F *bc = vector(), *bc_new = vector(), *rise = vector(), *stray = vector();  // see Trainer::policy_value and alpha
  ActorTape actor{hidden(), hidden(), narrow(), narrow(), hidden(), hidden()};
  F *actor_gradient = memory.take(s.actor.size), *gradient_q = memory.take(s.actor.size);
  F *direction = memory.take(s.actor.size), *gradient[2];
  Tape tape[2], target[2];
  Slopes slopes[2];
  std::vector<F*> scratch;
  std::vector<const float*> where;

  Work(const Shape& shape, int size) : s(shape), threads(size), half(size > 1 ? size / 2 : 1), where(s.rows) {
    for (int c = 0; c < 2; c++) {
      const bool own = c == 0 || threads > 1;  // one thread takes the critics in turn, in the same memory
      gradient[c] = own ? memory.take(s.critic.size) : gradient[0];
      slopes[c] = own ? Slopes{{hidden(), hidden()}, {hidden(), hidden()}} : slopes[0];
      for (int l = 0; l < 3; l++) {
        tape[c].act[l] = own ? hidden() : tape[0].act[l];
        tape[c].out[l] = !s.norm ? tape[c].act[l] : own ? hidden() : tape[0].out[l];
        tape[c].mean[l] = vector(), tape[c].rstd[l] = vector();
      }
      target[c] = tape[c];  // a target's activations are not looked at again: two in turn suffice
      for (int l = 0; l < 3; l++) target[c].act[l] = target[c].out[l] = tape[c].act[l & 1];
      tape[c].q = vector(), target[c].q = vector();
    }
    for (int i = 0; i < threads; i++) scratch.push_back(memory.take(4 * s.hidden));
  }
};

class Trainer {  // one thread's view of one run
 public:
  const Crew all, half;  // its place in the whole crew, and in the half of it that works on one critic

  Trainer(const Program& program, Run& run, Work& work, Arguments& arguments, int id)
      : all{id, work.threads, &work.meeting[2]}, half{id % work.half, work.half, &work.meeting[id / work.half]},
        g(program), s(run.s), run(run), k(work), a(arguments), h(arguments.hyper), mine(all.share(s.rows, ROWS)),
        real{mine.begin, std::min(mine.end, s.B)}, scratch(work.scratch[id]) {}

  void step(int64_t number) {
    step_number = number;
    const bool policy = number % g.policy_freq == 0;
    const bool meta = policy && g.learns_alpha && number % (g.policy_freq * g.alpha_freq) == 0;
    count = 0;
    batch();
    critics(policy);
    if (policy) actor(meta);
    if (meta) alpha();
    if (policy && !all.id) put({softplus(*a.scalars[0])});
    for (int i = 0; i < (all.id ? 0 : count); i++) a.sums[meta ? 2 : policy][i] += metrics[i];
  }

 private:
  const Program& g;
  const Shape& s;
  Run& run;
  Work& k;
  Arguments& a;
  const Hyper& h;
  const Range mine, real;  // this thread's rows of the batch, with and without padded ones
  F* scratch;
  const AdamRule rule{g.beta1, g.beta2, g.eps};
  int64_t step_number = 0;
  int count = 0;
  double metrics[METRICS], alpha_now = 0;

  void put(std::initializer_list<double> values) {
    for (double value : values) metrics[count++] = value;
  }
  static double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }
  template <class Value>
  double mean(Value value) const {  // over the batch, in one order
    double total = 0;
    for (long b = 0; b < s.B; b++) total += value(b);
    return total / s.B;
  }
  double mean_of(const F* x) const { return mean([x](long b) { return x[b]; }); }

  void batch() {  // rows `mine` of x = [s, a] and next = [s', clip(target policy + noise)]
    const int64_t* column = a.store.columns;
    const long columns = 2 * s.D + s.A + 2;  // [s, a, s', r, d]
    if (!a.batch) sample_rows(a.store, step_number, real, k.where.data());
    for (long b = real.begin; b < real.end; b++) {
      auto value = [&](long j) {
        return a.batch ? a.batch[b * columns + j] : column[j] < 0 ? F(0) : F(k.where[b][column[j]]);
      };
      for (long j = 0; j < s.D; j++) s.entry(k.x, b, j) = value(j), s.entry(k.next, b, j) = value(s.inputs + j);
      for (long j = 0; j < s.A; j++) s.entry(k.x, b, s.D + j) = k.actions[b * s.A + j] = value(s.D + j);
      k.rewards[b] = value(columns - 2), k.goes_on[b] = 1 - value(columns - 1);
    }
    actor_forward(s, run.actor.target, k.next, k.actor, mine);
    const F bound = F(h.max_action), limit = F(h.noise_clip * h.max_action), scale = F(h.policy_noise * h.max_action);
    for (long b = real.begin; b < real.end; b++) {
      F* noise = k.noise + b * s.A;
      if (a.batch) std::memcpy(noise, a.noise + b * s.A, s.A * sizeof(F));
      else sample_noise(a.store, step_number, b, s.B, s.A, noise);
      for (long j = 0; j < s.A; j++) {
        const F e = j < long(h.true_act_dim) ? std::min(std::max(noise[j] * scale, -limit), limit) : 0;
        s.entry(k.next, b, s.D + j) = std::min(std::max(s.entry(k.actor.squashed, b, j) * bound + e, -bound), bound);
      }
    }
    all.wait();
  }

  template <class Do>
  void each_critic(Do work) {  // one for each half of the crew, or both in turn
    for (int c = 0; c < 2; c++)
      if (all.size == 1 || all.id * 2 / all.size == c) work(c);
  }

  void critics(bool policy) {
    const Range rows = half.share(s.rows, ROWS);
    each_critic([&](int c) { critic_forward(s, run.critic[c].target, k.next, k.target[c], rows, scratch); });
    all.wait();
    double q1_mean = 0;
    const F factor = F(h.reward_factor), shift = F(h.reward_shift), discount = F(h.discount);
    each_critic([&](int c) {
      Learned& critic = run.critic[c];
      const F* q = k.tape[c].q;
      critic_forward(s, critic.w, k.x, k.tape[c], rows, scratch);
      for (long b = rows.begin; b < std::min(rows.end, s.B); b++) {
        const F next = std::min(k.target[0].q[b], k.target[1].q[b]);
        k.error[c][b] = q[b] - (k.rewards[b] * factor + shift + discount * k.goes_on[b] * next);
        k.dq[c][b] = k.error[c][b] * F(2.0 / s.B);
      }
      critic_backward(s, critic.w, critic.turned, k.x, k.tape[c], k.dq[c], k.gradient[c], k.slopes[c], half, scratch);
      half.wait();
      if (!c) q1_mean = mean_of(q);  // now: the policy's values will take their place
      adam(rule, h.critic_lr, step_number, half.share(s.critic.size, P), critic.w, k.gradient[c], critic.m, critic.v,
           policy ? critic.target : nullptr, F(h.tau));
      half.wait();
      run.turn_critic(c, half);
    });
    all.wait();
    auto square = [&](long b) { return k.error[0][b] * k.error[0][b] + k.error[1][b] * k.error[1][b]; };
    if (!all.id) put({mean(square), q1_mean});
  }

  // the policy's actions in x, their values in tape 0, dQ/da in da, cloning errors in bc: rows `mine`
  void policy_value(F* bc) {
    actor_forward(s, run.actor.w, k.x, k.actor, mine);
    for (long b = real.begin; b < real.end; b++) {
      bc[b] = 0;
      for (long j = 0; j < s.A; j++) {
        const F pi = s.entry(k.x, b, s.D + j) = s.entry(k.actor.squashed, b, j) * F(h.max_action);
        const F e = pi - k.actions[b * s.A + j];
        bc[b] += e * e / F(h.true_act_dim);
      }
    }
    critic_forward(s, run.critic[0].w, k.x, k.tape[0], mine, scratch);
    action_gradient(s, run.critic[0].w, run.critic[0].turned, k.tape[0], k.da, k.slopes[0], mine, scratch);
  }

  void policy_gradient(F from_q, F from_bc, F* gradient) {  // of from_q sum(Q) + from_bc sum((pi - a)^2) / 2
    for (long b = real.begin; b < real.end; b++)
      for (long j = 0; j < s.A; j++) {
        const F y = s.entry(k.actor.squashed, b, j), e = y * F(h.max_action) - k.actions[b * s.A + j];
        s.entry(k.actor.d2, b, j) = (from_q * s.entry(k.da, b, j) + from_bc * e) * F(h.max_action) * (1 - y * y);
      }
    actor_backward(s, run.actor.turned, k.x, k.actor, gradient, all);
  }

  void actor(bool meta) {
    const F* q = k.tape[0].q;
    policy_value(k.bc);
    all.wait();
    const double q_mean = mean_of(q), q_scale = mean([q](long b) { return std::fabs(q[b]); }), bc_mse = mean_of(k.bc);
    alpha_now = F(softplus(*a.scalars[0]));
    policy_gradient(F(-alpha_now / (q_scale * s.B)), F(2 / (h.true_act_dim * s.B)), k.actor_gradient);
    if (meta) policy_gradient(F(-1 / (q_scale * s.B)), 0, k.gradient_q);
    const Learned& own = run.actor;
    adam(rule, h.actor_lr, step_number / g.policy_freq, all.share(s.actor.size, P), own.w, k.actor_gradient, own.m,
         own.v, own.target, F(h.tau), meta ? k.gradient_q : nullptr, k.direction);
    all.wait();
    run.turn_actor(all);
    all.wait();
    const double lambda = alpha_now / q_scale;
    put({bc_mse - lambda * q_mean, q_mean, q_scale, bc_mse, alpha_now, lambda});
  }

  void alpha() {  // the meta step of agent/aspc.py
    const F* q = k.tape[0].q;
    policy_value(k.bc_new);
    actor_tangent(s, run.actor.w, k.direction, k.x, k.actor, k.moved, mine);
    for (long b = real.begin; b < real.end; b++) {
      k.rise[b] = k.stray[b] = 0;  // what the policy's motion makes of Q and of (pi - a)^2 / 2
      for (long j = 0; j < s.A; j++) {
        const F y = s.entry(k.actor.squashed, b, j), motion = s.entry(k.moved, b, j) * (1 - y * y) * F(h.max_action);
        k.rise[b] += s.entry(k.da, b, j) * motion;
        k.stray[b] += (s.entry(k.x, b, s.D + j) - k.actions[b * s.A + j]) * motion;
      }
    }
    all.wait();
    if (all.id) return;
    F &rho = *a.scalars[0], &ema = *a.scalars[3];
    const double q_mean = mean_of(q), q_scale = mean([q](long b) { return std::fabs(q[b]); }), rise = mean_of(k.rise);
    const double per_error = 2 / h.true_act_dim, bc_mse = mean_of(k.bc_new), stray = per_error * mean_of(k.stray);
    const double ema_q = (1 - h.ema) * q_mean + h.ema * ema, delta_q = ema_q - ema;
    auto shift = [&](long b) { return k.bc[b] - k.bc_new[b]; };
    F bc_sup = 0, largest = 0;
    for (long b = 0; b < s.B; b++) bc_sup = std::max(bc_sup, k.bc[b]), largest = std::max(largest, std::fabs(shift(b)));
    double farthest = 0, ties = 0;  // a tied maximum gives its gradient to all alike
    for (long b = 0; b < s.B; b++)
      if (std::fabs(shift(b)) == largest)
        ties++, farthest -= ((shift(b) > 0) - (shift(b) < 0)) * per_error * double(k.stray[b]);
    const double eq1 = bc_mse - alpha_now * q_mean / q_scale, eq2 = delta_q * delta_q, eq3 = eq2 * bc_sup * largest;
    const double slope = 1 / (1 + std::exp(-double(rho)));
    const double d_eq1 = slope * (stray - alpha_now / q_scale * rise), d_eq2 = slope * 2 * delta_q * (1 - h.ema) * rise;
    const double d_eq3 = slope * eq2 * bc_sup * farthest / ties;
    const F gradient = F(d_eq1 + h.weight_eq2 * d_eq2 + h.weight_eq3 * d_eq3);
    const int64_t done = step_number / (g.policy_freq * g.alpha_freq);
    const double lr = F(h.alpha_lr * std::pow(h.alpha_lr_decay, double(done - 1)));
    adam(rule, lr * h.learns_alpha, done, {0, 1}, &rho, &gradient, a.scalars[1], a.scalars[2]);
    ema = F(ema_q);
    put({eq1, eq2, eq3, ema_q, delta_q, bc_sup, largest, q_mean, q_scale, bc_mse});
    put({eq1 + h.weight_eq2 * eq2 + h.weight_eq3 * eq3, gradient, d_eq1, d_eq2, d_eq3, lr});
  }
};
