// The `native` engine's entry points. Python (engine/native.py) says which thread works on which run.
#include <memory>

#include "agent.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

// the thread's floating-point mode: moments of silent units decay into denormal numbers, which are slow
#if defined(__SSE__)
constexpr uint64_t FLUSH = 0x8040;
static uint64_t mode() { return _mm_getcsr(); }
static void set_mode(uint64_t x) { _mm_setcsr(unsigned(x)); }
#elif defined(__aarch64__)
constexpr uint64_t FLUSH = 1ull << 24;
static uint64_t mode() { uint64_t x; __asm__ volatile("mrs %0, fpcr" : "=r"(x)); return x; }
static void set_mode(uint64_t x) { __asm__ volatile("msr fpcr, %0" : : "r"(x)); }
#else
constexpr uint64_t FLUSH = 0;
static uint64_t mode() { return 0; }
static void set_mode(uint64_t) {}
#endif

struct Engine {
  Program program;
  Shape shape;
  std::vector<std::unique_ptr<Run>> runs;
  std::vector<std::unique_ptr<Work>> works;  // of each crew
};

extern "C" {

// sizes that Python must agree with, and bytes of a vector
int64_t aspc_sizes() { return sizeof(Program) * 1000000 + sizeof(Arguments) * 100 + sizeof(F); }
int64_t aspc_vector_bytes() { return VECTOR_BYTES; }

// memory for `runs` runs and `crews` crews of `size` threads; null where there is too little
Engine* aspc_open(const Program* p, int64_t runs, int64_t crews, int64_t size) {
  try {
    std::unique_ptr<Engine> e(new Engine{*p, Shape(p->obs, p->act, p->hidden, p->batch, p->robust), {}, {}});
    while (int64_t(e->runs.size()) < runs) e->runs.push_back(std::make_unique<Run>(e->shape));
    while (int64_t(e->works.size()) < crews) e->works.push_back(std::make_unique<Work>(e->shape, int(size)));
    return e.release();
  } catch (...) {
    return nullptr;
  }
}

void aspc_close(Engine* engine) { delete engine; }

// Steps done + 1 ... done + steps of one run, by thread `id` of a crew: all its threads call this. The state is read
// into panels at the `first` of several such calls and written back at the `last`.
void aspc_work(Engine* e, Arguments* a, int64_t run, int64_t crew, int64_t id, int64_t done, int64_t steps, int first,
               int last) {
  const uint64_t before = mode();
  set_mode(before | FLUSH);
  Trainer trainer(e->program, *e->runs[run], *e->works[crew], *a, int(id));
  if (first && id == 0) e->runs[run]->copy(*a, true);
  trainer.all.wait();
  for (int64_t i = 1; i <= steps; i++) trainer.step(done + i);
  trainer.all.wait();
  if (last && id == 0) e->runs[run]->copy(*a, false);
  set_mode(before);
}
}
