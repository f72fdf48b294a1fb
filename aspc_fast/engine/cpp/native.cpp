// The `native` engine's entry points: several runs side by side, each by one thread or by a crew of threads.
#include <memory>
#include <mutex>

#include "agent.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

// Moments of silent units decay into denormal numbers, which are slow: they count as zero, for one scope
class Flush {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
 public:
  Flush() { _mm_setcsr(before | 0x8040); }
  ~Flush() { _mm_setcsr(before); }
#elif defined(__aarch64__)
  uint64_t before;
 public:
  Flush() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
  }
  ~Flush() { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#endif
};

constexpr long SLICE = 40;  // steps of one run before a free thread may take it over

struct Engine {
  Program program;
  Shape shape;
  std::vector<std::unique_ptr<Run>> runs;
  std::vector<std::unique_ptr<Work>> works;  // of each crew
  int crew_size = 0;

  explicit Engine(const Program& p) : program(p), shape(p.obs, p.act, p.hidden, p.batch, p.robust) {}

  void prepare(long count, int threads) {
    const int size = threads >= 2 * count ? int(threads / count / 2 * 2) : 1;
    const long crews = std::min<long>(count, threads / size);
    if (size != crew_size) works.clear();
    crew_size = size;
    while (long(runs.size()) < count) runs.push_back(std::make_unique<Run>(shape));
    while (long(works.size()) < crews) works.push_back(std::make_unique<Work>(shape, size));
  }

  void advance(Arguments* arguments, long count, int64_t done, long steps) {
    if (crew_size > 1) {  // each run has a crew of its own
      std::vector<std::thread> others;
      struct Meeting {
        Barrier all, half[2];
      };
      std::vector<Meeting> meetings(count);
      auto work = [&](long r, int id) {
        Flush flush;
        const int half_size = crew_size / 2;
        Crew all{id, crew_size, &meetings[r].all, 0};
        Crew half{id % half_size, half_size, &meetings[r].half[id / half_size], 0};
        if (id == 0) runs[r]->load(shape, arguments[r]);
        all.wait();
        Trainer trainer(program, shape, *runs[r], *works[r], arguments[r], all, half);
        for (long i = 1; i <= steps; i++) trainer.step(done + i);
        all.wait();
        if (id == 0) runs[r]->store(shape, arguments[r]);
      };
      for (long r = 0; r < count; r++)
        for (int id = 0; id < crew_size; id++)
          if (r || id) others.emplace_back(work, r, id);
      work(0, 0);
      for (std::thread& other : others) other.join();
      return;
    }
    std::mutex mutex;
    std::vector<long> progress(count, 0);
    std::vector<bool> taken(count, false);
    auto work = [&](Work& own) {  // whoever is free takes the run that is farthest behind
      Flush flush;
      Crew all, half;
      for (long r = -1;;) {
        {
          std::lock_guard<std::mutex> lock(mutex);
          if (r >= 0) progress[r] = std::min(progress[r] + SLICE, steps), taken[r] = false;
          long next = -1;
          for (long i = 0; i < count; i++)
            if (!taken[i] && progress[i] < steps && (next < 0 || progress[i] < progress[next])) next = i;
          if (next < 0) return;
          taken[r = next] = true;
        }
        if (!progress[r]) runs[r]->load(shape, arguments[r]);
        const long end = std::min(progress[r] + SLICE, steps);
        Trainer trainer(program, shape, *runs[r], own, arguments[r], all, half);
        for (long i = progress[r] + 1; i <= end; i++) trainer.step(done + i);
        if (end == steps) runs[r]->store(shape, arguments[r]);
      }
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < works.size(); i++) others.emplace_back([&, i] { work(*works[i]); });
    work(*works[0]);
    for (std::thread& other : others) other.join();
  }
};

extern "C" {

// sizes of what Python describes, so that a library of another version is found out
int64_t aspc_sizes() { return int64_t(sizeof(Program)) * 1000000 + int64_t(sizeof(Arguments)) * 100 + sizeof(F); }

void* aspc_open(const Program* program) {
  try {
    return new Engine(*program);
  } catch (...) {
    return nullptr;
  }
}

void aspc_close(void* engine) { delete static_cast<Engine*>(engine); }

// Steps done + 1 ... done + steps of `count` runs. 0, or 1 where there is too little memory or no more threads.
int aspc_advance(void* engine, Arguments* arguments, int64_t count, int64_t done, int64_t steps, int64_t threads) {
  try {
    Engine& e = *static_cast<Engine*>(engine);
    e.prepare(count, int(threads));
    e.advance(arguments, count, done, steps);
    return 0;
  } catch (...) {
    return 1;
  }
}
}
