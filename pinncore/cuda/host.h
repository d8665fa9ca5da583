// The words of CUDA for a C++ compiler: a block's threads are fibers that take turns at barriers, so that the kernels'
// own text runs on a CPU. Barrier number `left_out` is passed without waiting, which tests use to show that it is needed.
#pragma once
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __host__
#define __forceinline__ inline
#define WARP_BARRIER(number) host::wait(number, host::WARP)
#define BLOCK_BARRIER(number) host::wait(number, host::BLOCK)

// The compiler's own functions: including <cmath> takes longer than to compile a kernel.
#define ONE(name)                                                        \
  static inline double name(double a) { return __builtin_##name(a); }    \
  static inline float name(float a) { return __builtin_##name##f(a); }
#define TWO(name)                                                                    \
  static inline double name(double a, double b) { return __builtin_##name(a, b); }   \
  static inline float name(float a, float b) { return __builtin_##name##f(a, b); }
ONE(acos) ONE(acosh) ONE(asin) ONE(asinh) ONE(atan) ONE(atanh) ONE(cos) ONE(cosh) ONE(erf) ONE(erfc) ONE(exp) ONE(floor)
ONE(log) ONE(sin) ONE(sinh) ONE(sqrt) ONE(tan) ONE(tanh) TWO(atan2) TWO(pow)
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline bool isfinite(double a) { return __builtin_isfinite(a); }
static inline bool isnan(double a) { return __builtin_isnan(a); }
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

struct Place {
  unsigned x, y, z;
};
static Place threadIdx, blockIdx, gridDim, blockDim;

static inline int min(int a, int b) { return a < b ? a : b; }

namespace host {
enum Waiting { NOT, WARP, BLOCK, DONE };
constexpr unsigned MOST_THREADS = 256;
constexpr size_t STACK = 1 << 18;
static int left_out = -1;
static bool is_backward; // the last warp and thread take the first turn
static unsigned current, threads;
static ucontext_t home, fibers[MOST_THREADS];
static Waiting waiting[MOST_THREADS];
static char *stacks;
static double *shared;
static unsigned char exchanged[MOST_THREADS][16];
static void (*body)(const void *, void *);
static const void *argument;

static void wait(int number, Waiting kind) {
  if (number >= 0 && number == left_out) return;
  waiting[current] = kind;
  swapcontext(&fibers[current], &home);
}

static void enter() {
  body(argument, shared);
  waiting[current] = DONE;
  swapcontext(&fibers[current], &home);
}

// A group of threads goes on once all of it that is not done waits at a barrier of this kind.
static void release(unsigned start, unsigned stop, Waiting kind) {
  for (unsigned t = start; t < stop; t++)
    if (waiting[t] != kind && waiting[t] != DONE) return;
  for (unsigned t = start; t < stop; t++)
    if (waiting[t] == kind) waiting[t] = NOT;
}

// Give every thread of a warp that does not wait a turn; return whether there was one.
static bool run_warp(unsigned start) {
  bool has_run = false;
  for (unsigned turn = 0; turn < 32; turn++) {
    const unsigned t = start + (is_backward ? 31 - turn : turn);
    if (t >= threads || waiting[t] != NOT) continue;
    current = t;
    threadIdx = {t, 0, 0};
    swapcontext(&home, &fibers[t]);
    has_run = true;
  }
  release(start, start + 32 < threads ? start + 32 : threads, WARP);
  return has_run;
}

static void run_block() {
  for (unsigned t = 0; t < threads; t++) {
    waiting[t] = NOT;
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = stacks + t * STACK;
    fibers[t].uc_stack.ss_size = STACK;
    fibers[t].uc_link = &home;
    makecontext(&fibers[t], enter, 0);
  }
  // A warp runs as far as it can before the next one does.
  const unsigned warps = (threads + 31) / 32;
  for (bool is_busy = true; is_busy;) {
    is_busy = false;
    for (unsigned turn = 0; turn < warps; turn++) {
      const unsigned start = 32 * (is_backward ? warps - 1 - turn : turn);
      while (run_warp(start)) is_busy = true;
    }
    release(0, threads, BLOCK);
  }
}

// Run the blocks one after the other; each finds nonsense in its shared memory.
static void run(Place grid, unsigned count, size_t bytes, void (*kernel)(const void *, void *), const void *arguments) {
  threads = count;
  body = kernel;
  argument = arguments;
  gridDim = grid;
  blockDim = {count, 1, 1};
  stacks = (char *)malloc(count * STACK);
  shared = (double *)malloc(bytes + sizeof(double));
  for (unsigned y = 0; y < grid.y; y++)
    for (unsigned x = 0; x < grid.x; x++) {
      memset(shared, 0xff, bytes + sizeof(double));
      blockIdx = {x, y, 0};
      run_block();
    }
  free(stacks);
  free(shared);
}
} // namespace host

template <typename T> inline T __shfl_xor_sync(unsigned, T value, int mask) {
  const unsigned me = host::current;
  memcpy(host::exchanged[me], &value, sizeof value);
  host::wait(-1, host::WARP);
  T other;
  memcpy(&other, host::exchanged[me ^ mask], sizeof other);
  host::wait(-1, host::WARP);
  return other;
}

extern "C" void leave_out(int number, bool is_backward) {
  host::left_out = number;
  host::is_backward = is_backward;
}

#define ENTRY(name, count)                                                                                \
  extern "C" void name(const name##_arguments *g, unsigned x, unsigned y, size_t bytes) {                 \
    host::run({x, y, 1}, count, bytes,                                                                    \
              [](const void *a, void *shared) { name##_body(*(const name##_arguments *)a, shared); }, g); \
  }
