// The parts of CUDA C++ that kernels.cu uses, so that g++ can compile it and a CPU can run it.
//
// The threads of a block are fibers of one CPU thread: each runs until it waits for others at a __syncthreads or a
// shuffle, and continues when all have arrived. Blocks run one after another. All threads must arrive at the same
// statement; this is checked here, where a GPU would hang or compute wrong values. Shared memory starts as NaN and is
// guarded at its end. Threads and blocks can run in reverse order: if a __syncthreads is missing, results differ.

#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

// ------------------------------------------------------------------------------------------ the language

#define __global__
#define __device__
#define __shared__  // one array, extern in the kernels; see `shared` below
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct __half {
    _Float16 number;
};
static inline float __half2float(__half x) { return (float)x.number; }
static inline __half __float2half(float x) { return {(_Float16)x}; }

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

// Blocks run one after another, so the results of one are visible to the next.
static inline void __threadfence() {}
static inline int atomicAdd(int* at, int value) {
    const int before = *at;
    *at += value;
    return before;
}
static inline float __ldcg(const float* at) { return *at; }
static inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline int __float_as_int(float value) {
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline double __longlong_as_double(long long bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

constexpr size_t SHARED_BYTES = 48 * 1024;  // available to every block without opting in to more
constexpr size_t GUARD_BYTES = 1024;
alignas(128) extern float shared[];
alignas(128) float shared[(SHARED_BYTES + GUARD_BYTES) / sizeof(float)];

// ------------------------------------------------------------------------------------------ fibers

namespace fibers {

constexpr int MOST = 1024, WARP = 32;
constexpr size_t STACK_BYTES = 32 * 1024, STAGGER = 192;  // at equal offsets in a page, stacks would thrash the cache

enum State { READY, AT_SHUFFLE, AT_BARRIER, DONE };

struct Fiber {
    State state;
    int line;             // where it waits
    bool odd;             // shuffles alternate between two places, so that the next does not overwrite the values
    unsigned values[2];
};
static Fiber all[MOST];
static int running, count;
static int direction, left;  // of the warp that runs: 1 or -1, and how many fibers still have to run
static void (*entry)();  // what a fiber runs
static char message[300];

#if defined(__x86_64__)

// Save the registers that a function must preserve, switch stacks, restore: without the system call of swapcontext.
extern "C" void switch_stack(void** from, void* to);
asm(R"(
.text
.type switch_stack, @function
switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size switch_stack, .-switch_stack
)");
static void *scheduler, *contexts[MOST];
static void resume(int fiber) { switch_stack(&scheduler, contexts[fiber]); }
static void leave(int from, int to) { switch_stack(&contexts[from], to < 0 ? scheduler : contexts[to]); }
static void prepare(int fiber, char* stack, size_t bytes, void (*body)()) {
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)63;
    void** place = (void**)top - 2;  // aligned as after a call: 8 below a multiple of 16
    place[0] = (void*)body;
    place[1] = nullptr;
    contexts[fiber] = place - 6;  // six saved registers, whose values do not matter
}

#else
#include <ucontext.h>
static ucontext_t scheduler, contexts[MOST];
static void resume(int fiber) { swapcontext(&scheduler, &contexts[fiber]); }
static void leave(int from, int to) { swapcontext(&contexts[from], to < 0 ? &scheduler : &contexts[to]); }
static void prepare(int fiber, char* stack, size_t bytes, void (*body)()) {
    getcontext(&contexts[fiber]);
    contexts[fiber].uc_stack.ss_sp = stack;
    contexts[fiber].uc_stack.ss_size = bytes;
    contexts[fiber].uc_link = nullptr;
    makecontext(&contexts[fiber], body, 0);
}
#endif

// Run the next fiber of the warp directly, or the scheduler after the last one.
static void suspend() {
    const int me = running;
    while (left--) {
        threadIdx.x = running += direction;
        if (all[running].state != READY) continue;
        leave(me, running);
        return;
    }
    leave(me, -1);
}

static void body() {
    entry();
    all[running].state = DONE;
    suspend();
}

static void wait(State state, int line) {
    all[running].state = state;
    all[running].line = line;
    suspend();
}

// Return whether all these fibers are in one state and at one line.
static bool together(int begin, int end, State state) {
    for (int i = begin; i < end; i++)
        if (all[i].state != state || (state != DONE && all[i].line != all[begin].line)) return false;
    return true;
}

static bool fail(const char* what, int begin, int end) {
    static const char* const names[] = {"ready", "at a shuffle", "at a barrier", "done"};
    int other = begin;
    while (other < end - 1 && all[other].state == all[begin].state && all[other].line == all[begin].line) other++;
    snprintf(message, sizeof message, "%s: thread %d is %s (line %d), thread %d is %s (line %d), of block %u, %u, %u",
             what, begin, names[all[begin].state], all[begin].line, other, names[all[other].state], all[other].line,
             blockIdx.x, blockIdx.y, blockIdx.z);
    return false;
}

// Run until all lanes of a warp wait for other warps or are done.
static bool run_warp(int begin, int end, bool backward) {
    for (;;) {
        direction = backward ? -1 : 1;
        threadIdx.x = running = backward ? end - 1 : begin;
        left = end - begin - 1;
        while (left && all[running].state != READY) {
            threadIdx.x = running += direction;
            left--;
        }
        if (all[running].state == READY) resume(running);
        bool shuffles = false;
        for (int i = begin; i < end; i++) shuffles |= all[i].state == AT_SHUFFLE;
        if (!shuffles) return true;
        if (!together(begin, end, AT_SHUFFLE)) return fail("a warp shuffles without some of its threads", begin, end);
        if (end - begin < WARP) return fail("a shuffle in a warp that is not full", begin, end);
        for (int i = begin; i < end; i++) all[i].state = READY;
    }
}

static bool run_block(bool backward) {
    static char* stacks = (char*)malloc(MOST * (STACK_BYTES + STAGGER));
    for (int i = 0; i < count; i++) {
        all[i] = {};
        prepare(i, stacks + i * (STACK_BYTES + STAGGER), STACK_BYTES, body);
    }
    const int warps = (count + WARP - 1) / WARP;
    for (;;) {
        for (int i = 0; i < warps; i++) {
            const int begin = WARP * (backward ? warps - 1 - i : i);
            if (!run_warp(begin, min(begin + WARP, count), backward)) return false;
        }
        if (together(0, count, DONE)) return true;
        if (!together(0, count, AT_BARRIER)) return fail("not all threads reach a barrier", 0, count);
        for (int i = 0; i < count; i++) all[i].state = READY;
    }
}

}  // namespace fibers

static inline void __syncthreads(int line = __builtin_LINE()) { fibers::wait(fibers::AT_BARRIER, line); }

template <class Number>
static inline Number __shfl_xor_sync(unsigned mask, Number value, int apart, int line = __builtin_LINE()) {
    static_assert(sizeof(Number) == sizeof(unsigned), "a shuffle of a type other than 32 bits");
    if (mask != 0xffffffff) abort();
    const int me = fibers::running;
    fibers::Fiber& mine = fibers::all[me];
    mine.odd = !mine.odd;
    const bool odd = mine.odd;
    memcpy(&mine.values[odd], &value, sizeof value);
    fibers::wait(fibers::AT_SHUFFLE, line);
    memcpy(&value, &fibers::all[me ^ apart].values[odd], sizeof value);
    return value;
}

// ------------------------------------------------------------------------------------------ launches

// A letter for a parameter: i and f for numbers, I, L, F and H for addresses of int, long long, float and half.
template <class Parameter>
constexpr char letter() {
    using Bare = std::remove_cv_t<std::remove_pointer_t<Parameter>>;
    constexpr bool address = std::is_pointer_v<Parameter>;
    if (std::is_same_v<Bare, int>) return address ? 'I' : 'i';
    if (std::is_same_v<Bare, long long>) return address ? 'L' : '?';
    if (std::is_same_v<Bare, float>) return address ? 'F' : 'f';
    if (std::is_same_v<Bare, __half>) return address ? 'H' : '?';
    return '?';
}

template <class... Parameters>
const char* signature(void (*)(Parameters...)) {
    static const char letters[] = {letter<Parameters>()..., 0};
    return letters;
}

static void (*bound)(void**);  // the running kernel,
static void** arguments;       // and the addresses of its arguments

template <class... Parameters, size_t... I>
void call(void (*kernel)(Parameters...), void** of, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<Parameters>*>(of[I])...);
}

// Run a kernel. Return a description of its fault, or null.
static const char* launch(void (*kernel)(void**), void** of, const unsigned* grid, const unsigned* block, size_t bytes,
                          int backward) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], 1, 1};
    if (block[0] > fibers::MOST || block[1] != 1 || block[2] != 1) return "a block is not one row of at most 1,024";
    if (bytes > SHARED_BYTES) return "more shared memory than 48 KiB";
    bound = kernel;
    arguments = of;
    fibers::count = block[0];
    fibers::entry = [] { bound(arguments); };
    char* guard = (char*)shared + bytes;
    const unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned i = 0; i < blocks; i++) {
        const unsigned number = backward ? blocks - 1 - i : i;
        blockIdx = {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
        memset(shared, 0xff, bytes + GUARD_BYTES);
        if (!fibers::run_block(backward)) return fibers::message;
        for (size_t j = 0; j < GUARD_BYTES; j++)
            if (guard[j] != (char)0xff) return "it wrote past the end of its shared memory";
    }
    return nullptr;
}

#define KERNEL(name)                                                                                               \
    extern "C" const char* signature_##name() { return signature(name); }                                          \
    template <class... Parameters>                                                                                 \
    static void call_##name(void (*)(Parameters...), void** of) {                                                  \
        call<Parameters...>(name, of, std::index_sequence_for<Parameters...>());                                   \
    }                                                                                                              \
    extern "C" const char* launch_##name(void** of, const unsigned* grid, const unsigned* block, size_t bytes,     \
                                         int backward) {                                                           \
        return launch([](void** its) { call_##name(name, its); }, of, grid, block, bytes, backward);               \
    }
