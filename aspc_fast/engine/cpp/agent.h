// One run's training step: the stages of agent/schedule.py in the same order, for a crew of threads.
#pragma once
#include <cstdlib>
#include <new>

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

constexpr int NETWORKS = 8, SCALARS = 4, KINDS = 3, METRICS = 32;

struct Arguments {  // one run's, as Python hands them over; the batch's pointers are null where it is to be sampled
  F *networks[NETWORKS], *scalars[SCALARS];  // actor, target, m, v; critics, targets, m, v. rho, m, v, mean of Q
  Hyper hyper;
  Store store;
  const F *observations, *actions, *rewards, *next_observations, *terminals, *noise;
  double sums[KINDS][METRICS];  // of the metrics, by kind of step: critic, actor, meta
};

class Memory {  // zeroed pieces for vectors, freed together
 public:
  F* take(long n) {
    const size_t bytes = (n * sizeof(F) + 127) / 128 * 128;
    void* piece = std::aligned_alloc(128, bytes);
    if (!piece) throw std::bad_alloc();
    pieces.push_back(piece);
    std::memset(piece, 0, bytes);
    return static_cast<F*>(piece);
  }
  Memory() = default;
  Memory(const Memory&) = delete;
  ~Memory() { for (void* piece : pieces) std::free(piece); }

 private:
  std::vector<void*> pieces;
};

struct Critic {
  F *w, *target, *m, *v;
  Turned turned;
};

struct Run {  // learning state in panels
  Memory memory;
  F *actor, *actor_target, *actor_m, *actor_v;
  Turned turned;
  Critic critic[2];
  bool packed = false;

  explicit Run(const Shape& s) {
    for (F** p : {&actor, &actor_target, &actor_m, &actor_v}) *p = memory.take(s.actor.size);
    const long square = s.panels * s.hidden * P;
    turned = {{nullptr, memory.take(square), memory.take(s.panels * s.A * P)}, nullptr};
    for (Critic& c : critic) {
      for (F** p : {&c.w, &c.target, &c.m, &c.v}) *p = memory.take(s.critic.size);
      c.turned = {{nullptr, memory.take(square), s.norm ? memory.take(square) : nullptr},
                  memory.take(s.action_panels * s.hidden * P)};
    }
  }
  // copy(net, flat, panels) for every network
  template <class Copy>
  void each(const Shape& s, const Arguments& a, Copy copy) {
    F* actors[] = {actor, actor_target, actor_m, actor_v};
    const long stride = (s.critic.flat_size + 63) / 64 * 64;  // ALIGNMENT of agent/layout.py
    for (int i = 0; i < 4; i++) {
      copy(s.actor, a.networks[i], actors[i]);
      for (int c = 0; c < 2; c++) {
        F* critics[] = {critic[c].w, critic[c].target, critic[c].m, critic[c].v};
        copy(s.critic, a.networks[4 + i] + c * stride, critics[i]);
      }
    }
  }
  void turn_critic(const Shape& s, int c, const Crew& crew) {
    const Critic& k = critic[c];
    for (int l = 1; l < s.depth; l++) transpose(k.w + s.layer[l].w, k.turned.hidden[l], s.hidden, s.hidden, crew.share(s.panels));
    if (c || crew.id) return;
    for (long n = 0; n < s.hidden; n++)
      for (long j = 0; j < s.A; j++)
        k.turned.actions[(j / P * s.hidden + n) * P + j % P] = k.w[s.layer[0].w + (n / P * s.inputs + s.D + j) * P + n % P];
  }
  void turn_actor(const Shape& s, const Crew& crew) {
    transpose(actor + s.actor_layer[1].w, turned.hidden[1], s.hidden, s.hidden, crew.share(s.panels));
    if (crew.id) return;
    for (long n = 0; n < s.hidden; n++)
      for (long j = 0; j < s.A; j++)
        turned.hidden[2][(n / P * s.A + j) * P + n % P] = actor[s.actor_layer[2].w + (j / P * s.hidden + n) * P + j % P];
  }
  void load(const Shape& s, const Arguments& a) {
    each(s, a, [](const Net& net, F* flat, F* panels) { net.pack(flat, panels); });
    turn_critic(s, 0, Crew{}), turn_critic(s, 1, Crew{}), turn_actor(s, Crew{});
    packed = true;
  }
  void store(const Shape& s, const Arguments& a) {
    each(s, a, [](const Net& net, F* flat, F* panels) { net.unpack(panels, flat); });
    packed = false;
  }
};

struct Work {  // what a step leaves behind for its later stages; one for each crew
  Memory memory;
  F *x, *next, *actions, *rewards, *goes_on, *dq[2], *error[2], *da, *moved;
  Tape tape[2], target[2];
  Slopes slopes[2];
  ActorTape actor;
  F *gradient[2], *actor_gradient, *gradient_q, *direction;
  F *bc, *bc_new, *rise, *stray;  // [B] each: cloning errors, and what dQ/da and pi - a make of the policy's motion
  std::vector<F*> scratch;        // of each thread
  std::vector<const float*> where;

  Work(const Shape& s, int threads) : where(s.rows) {
    const long inputs = s.input_panels * s.ld, wide = s.activation(), narrow = s.action_panels * s.ld;
    auto vector = [&] { return memory.take(s.rows); };
    auto activation = [&] { return memory.take(wide); };
    x = memory.take(inputs), next = memory.take(inputs);
    actions = memory.take(s.rows * s.A);
    for (F** p : {&rewards, &goes_on, &dq[0], &dq[1], &error[0], &error[1], &bc, &bc_new, &rise, &stray}) *p = vector();
    da = memory.take(narrow), moved = memory.take(narrow);
    for (int c = 0; c < 2; c++) {
      const bool own = c == 0 || threads > 1;
      gradient[c] = own ? memory.take(s.critic.size) : gradient[0];
      for (int i = 0; i < 2; i++) slopes[c].dy[i] = own ? activation() : slopes[0].dy[i], slopes[c].dz[i] = own ? activation() : slopes[0].dz[i];
      for (int l = 0; l < 3; l++) {
        Tape &t = tape[c], &u = target[c];
        t.act[l] = own ? activation() : tape[0].act[l];
        t.out[l] = !s.norm ? t.act[l] : own ? activation() : tape[0].out[l];
        u.act[l] = u.out[l] = l < 2 ? t.act[l] : t.act[0];  // a target's activations are not looked at again
        t.mean[l] = u.mean[l] = vector(), t.rstd[l] = u.rstd[l] = vector();
      }
      tape[c].q = vector(), target[c].q = vector();
    }
    actor = {activation(), activation(), memory.take(narrow), memory.take(narrow), activation(), activation()};
    for (F** p : {&actor_gradient, &gradient_q, &direction}) *p = memory.take(s.actor.size);
    for (int i = 0; i < threads; i++) scratch.push_back(memory.take(4 * s.hidden));
  }
};

inline double mean_of(const F* x, long n) {
  double total = 0;
  for (long i = 0; i < n; i++) total += x[i];
  return total / n;
}
inline double mean_size(const F* x, long n) {
  double total = 0;
  for (long i = 0; i < n; i++) total += std::fabs(x[i]);
  return total / n;
}

class Trainer {  // one thread's view of one run
 public:
  Trainer(const Program& program, const Shape& shape, Run& run, Work& work, Arguments& arguments, Crew& all, Crew& half)
      : g(program), s(shape), run(run), k(work), a(arguments), h(arguments.hyper), all(all), half(half),
        mine(all.blocks(s.rows, ROWS)), real{mine.begin, std::min(mine.end, s.B)}, scratch(work.scratch[all.id]),
        rule{g.beta1, g.beta2, g.eps} {}

  void step(int64_t number) {
    step_number = number;
    const bool policy = number % g.policy_freq == 0;
    const bool meta = policy && g.learns_alpha && number % (g.policy_freq * g.alpha_freq) == 0;
    double values[METRICS];
    count = 0, metrics = values;
    batch();
    critics(policy);
    if (policy) actor(meta);
    if (meta) alpha();
    if (policy) put(softplus(*a.scalars[0]));
    if (all.id == 0)
      for (int i = 0; i < count; i++) a.sums[meta ? 2 : policy][i] += values[i];
  }

 private:
  const Program& g;
  const Shape& s;
  Run& run;
  Work& k;
  Arguments& a;
  const Hyper& h;
  Crew &all, &half;
  const Range mine, real;  // this thread's rows of the batch, with and without padded ones
  F* scratch;
  const AdamRule rule;
  int64_t step_number = 0;
  int count = 0;
  double* metrics = nullptr;
  double alpha_now = 0;

  void put(double value) { metrics[count++] = value; }
  static double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

  void batch() {  // rows `mine` of x = [s, a] and next = [s', clip(target policy + noise)]
    if (!a.observations) sample_rows(a.store, step_number, real, k.where.data());
    for (long b = real.begin; b < real.end; b++) {
      F* action = k.actions + b * s.A;
      if (a.observations) {
        for (long j = 0; j < s.D; j++) s.entry(k.x, b, j) = a.observations[b * s.D + j], s.entry(k.next, b, j) = a.next_observations[b * s.D + j];
        for (long j = 0; j < s.A; j++) action[j] = a.actions[b * s.A + j];
        k.rewards[b] = a.rewards[b], k.goes_on[b] = 1 - a.terminals[b];
      } else {
        const int64_t* column = a.store.columns;
        auto read = [&](long j) { return column[j] < 0 ? F(0) : F(k.where[b][column[j]]); };
        for (long j = 0; j < s.D; j++) s.entry(k.x, b, j) = read(j), s.entry(k.next, b, j) = read(s.inputs + j);
        for (long j = 0; j < s.A; j++) action[j] = read(s.D + j);
        k.rewards[b] = read(s.inputs + s.D), k.goes_on[b] = 1 - read(s.inputs + s.D + 1);
      }
      for (long j = 0; j < s.A; j++) s.entry(k.x, b, s.D + j) = action[j];
    }
    actor_forward(s, run.actor_target, k.next, k.actor, mine);
    const F bound = F(h.max_action), limit = F(h.noise_clip * h.max_action), scale = F(h.policy_noise * h.max_action);
    std::vector<F> own(s.A);
    for (long b = real.begin; b < real.end; b++) {
      if (!a.observations) sample_noise(a.store, step_number, b, s.B, s.A, own.data());
      for (long j = 0; j < s.A; j++) {
        F e = (a.observations ? a.noise[b * s.A + j] : own[j]) * scale;
        e = j < long(h.true_act_dim) ? std::min(std::max(e, -limit), limit) : 0;
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
    const Range rows = half.blocks(s.rows, ROWS), some{rows.begin, std::min(rows.end, s.B)};
    each_critic([&](int c) { critic_forward(s, run.critic[c].target, k.next, k.target[c], rows, scratch); });
    all.wait();
    double q1_mean = 0, loss = 0;
    const F factor = F(h.reward_factor), shift = F(h.reward_shift), discount = F(h.discount);
    each_critic([&](int c) {
      Critic& critic = run.critic[c];
      critic_forward(s, critic.w, k.x, k.tape[c], rows, scratch);
      for (long b = some.begin; b < some.end; b++) {
        const F y = k.rewards[b] * factor + shift + discount * k.goes_on[b] * std::min(k.target[0].q[b], k.target[1].q[b]);
        k.error[c][b] = k.tape[c].q[b] - y;
        k.dq[c][b] = k.error[c][b] * F(2.0 / s.B);
      }
      critic_backward(s, critic.w, critic.turned, k.x, k.tape[c], k.dq[c], k.gradient[c], k.slopes[c], half, scratch);
      half.wait();
      if (c == 0 && all.id == 0) q1_mean = mean_of(k.tape[0].q, s.B);  // before the policy's values take their place
      adam(rule, h.critic_lr, step_number, half.blocks(s.critic.size, P), critic.w, k.gradient[c], critic.m, critic.v,
           policy ? critic.target : nullptr, F(h.tau), nullptr, nullptr);
      half.wait();
      run.turn_critic(s, c, half);
    });
    all.wait();
    if (all.id) return;
    for (int c = 0; c < 2; c++)
      for (long b = 0; b < s.B; b++) loss += double(k.error[c][b]) * k.error[c][b] / s.B;
    put(loss), put(q1_mean);
  }

  // the policy's actions in x, q in tape 0 and dQ/da in da, rows `mine`; cloning errors in bc
  void policy_value(F* bc) {
    actor_forward(s, run.actor, k.x, k.actor, mine);
    for (long b = real.begin; b < real.end; b++) {
      F total = 0;
      for (long j = 0; j < s.A; j++) {
        const F pi = s.entry(k.x, b, s.D + j) = s.entry(k.actor.squashed, b, j) * F(h.max_action), e = pi - k.actions[b * s.A + j];
        total += e * e;
      }
      bc[b] = total / F(h.true_act_dim);
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
    actor_backward(s, run.turned, k.x, k.actor, gradient, all);
  }

  void actor(bool meta) {
    policy_value(k.bc);
    all.wait();
    const double q_mean = mean_of(k.tape[0].q, s.B), q_scale = mean_size(k.tape[0].q, s.B), bc_mse = mean_of(k.bc, s.B);
    alpha_now = F(softplus(*a.scalars[0]));
    policy_gradient(F(-alpha_now / (q_scale * s.B)), F(2 / (h.true_act_dim * s.B)), k.actor_gradient);
    if (meta) policy_gradient(F(-1 / (q_scale * s.B)), 0, k.gradient_q);
    adam(rule, h.actor_lr, step_number / g.policy_freq, all.blocks(s.actor.size, P), run.actor, k.actor_gradient,
         run.actor_m, run.actor_v, run.actor_target, F(h.tau), meta ? k.gradient_q : nullptr, k.direction);
    all.wait();
    run.turn_actor(s, all);
    all.wait();
    for (double value : {bc_mse - alpha_now / q_scale * q_mean, q_mean, q_scale, bc_mse, alpha_now, alpha_now / q_scale}) put(value);
  }

  void alpha() {  // the meta step of agent/aspc.py
    policy_value(k.bc_new);
    actor_tangent(s, run.actor, k.direction, k.x, k.actor, k.moved, mine);
    for (long b = real.begin; b < real.end; b++) {
      k.rise[b] = k.stray[b] = 0;
      for (long j = 0; j < s.A; j++) {
        const F y = s.entry(k.actor.squashed, b, j), motion = s.entry(k.moved, b, j) * (1 - y * y) * F(h.max_action);
        k.rise[b] += s.entry(k.da, b, j) * motion;
        k.stray[b] += (s.entry(k.x, b, s.D + j) - k.actions[b * s.A + j]) * motion;
      }
    }
    all.wait();
    if (all.id) return;
    F &rho = *a.scalars[0], &ema = *a.scalars[3];
    const double q_mean = mean_of(k.tape[0].q, s.B), q_scale = mean_size(k.tape[0].q, s.B), bc_mse = mean_of(k.bc_new, s.B);
    const double rise = mean_of(k.rise, s.B), per_error = 2 / h.true_act_dim, stray = per_error * mean_of(k.stray, s.B);
    const double ema_q = (1 - h.ema) * q_mean + h.ema * ema, delta_q = ema_q - ema;
    F bc_sup = 0, largest = 0, ties = 0;
    for (long b = 0; b < s.B; b++) bc_sup = std::max(bc_sup, k.bc[b]), largest = std::max(largest, F(std::fabs(k.bc[b] - k.bc_new[b])));
    double farthest = 0;  // a tied maximum gives its gradient to all alike
    for (long b = 0; b < s.B; b++) {
      const F shift = k.bc[b] - k.bc_new[b];
      if (std::fabs(shift) != largest) continue;
      ties++;
      farthest -= ((shift > 0) - (shift < 0)) * per_error * double(k.stray[b]);
    }
    const double eq1 = bc_mse - alpha_now * q_mean / q_scale, eq2 = delta_q * delta_q, eq3 = eq2 * bc_sup * largest;
    const double slope = 1 / (1 + std::exp(-double(rho)));
    const double d_eq1 = slope * (stray - alpha_now / q_scale * rise), d_eq2 = slope * 2 * delta_q * (1 - h.ema) * rise;
    const double d_eq3 = slope * eq2 * bc_sup * farthest / ties;
    const F gradient = F(d_eq1 + h.weight_eq2 * d_eq2 + h.weight_eq3 * d_eq3);
    const int64_t done = step_number / (g.policy_freq * g.alpha_freq);
    const double lr = F(h.alpha_lr * std::pow(h.alpha_lr_decay, double(done - 1)));
    adam(rule, lr * h.learns_alpha, done, {0, 1}, &rho, &gradient, a.scalars[1], a.scalars[2], nullptr, 0, nullptr, nullptr);
    ema = F(ema_q);
    for (double value : {eq1, eq2, eq3, ema_q, delta_q, double(bc_sup), double(largest), q_mean, q_scale, bc_mse,
                         eq1 + h.weight_eq2 * eq2 + h.weight_eq3 * eq3, double(gradient), d_eq1, d_eq2, d_eq3, lr})
      put(value);
  }
};
