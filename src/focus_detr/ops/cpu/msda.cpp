// Multi-scale deformable attention on the CPU: a plain C interface for ctypes, no torch headers.
// Layouts, all dense: value (B,N,h,D), locations (B,Q,h,L,P,2), weights (B,Q,h,L,P), result (B,Q,h,D).
// Results do not depend on the number of threads: every output is summed by one thread in one order.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

struct Problem {
    int64_t batch, tokens, heads, width, queries, levels, points, row_stride;
    const int64_t *heights, *widths, *starts;
};

inline uint16_t to_bf16(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return number != number ? 0x7fc0 : uint16_t(rounded);
}
template <class A> inline A widen(A number) { return number; }
template <class A> inline A widen(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}
template <class A> inline void narrow(A from, A& to) { to = from; }
inline void narrow(float from, uint16_t& to) { to = to_bf16(from); }

}  // namespace

#pragma GCC diagnostic ignored "-Wpsabi"

#define MSDA_INLINE static inline __attribute__((always_inline))

#define MSDA_NAMESPACE baseline
#define MSDA_TARGET
#define MSDA_BYTES 16
namespace {
#include "kernel.h"
}
#undef MSDA_NAMESPACE
#undef MSDA_TARGET
#undef MSDA_BYTES

#if defined(__x86_64__)
#define MSDA_NAMESPACE avx2
#define MSDA_TARGET __attribute__((target("avx2,fma")))
#define MSDA_BYTES 32
namespace {
#include "kernel.h"
}
#undef MSDA_NAMESPACE
#undef MSDA_TARGET
#undef MSDA_BYTES

#define MSDA_NAMESPACE avx512
#define MSDA_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define MSDA_BYTES 64
namespace {
#include "kernel.h"
}
#endif

namespace {

enum InstructionSet { BASELINE = 0, AVX2 = 1, AVX512 = 2 };

int best_instruction_set() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return BASELINE;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    return wide ? AVX512 : AVX2;
#else
    return BASELINE;
#endif
}

// Runs work(task, worker) for every task. Threads live for one call: nothing is left behind that a fork could break.
template <class Work> void in_parallel(int64_t tasks, int64_t threads, const Work& work) {
    std::atomic<int64_t> next{0};
    auto drain = [&](int64_t worker) {
        for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) work(task, worker);
    };
    std::vector<std::thread> pool;
    pool.reserve(std::max<int64_t>(threads - 1, 0));
    try {
        for (int64_t worker = 1; worker < threads; ++worker) pool.emplace_back(drain, worker);
    } catch (const std::system_error&) {
        // The system gives no more threads: those there are do the work.
    }
    drain(0);
    for (auto& thread : pool) thread.join();
}

// A thread that gets less than this many reads of a row costs more to start than it saves.
constexpr int64_t READS_WORTH_A_THREAD = 4096;

int64_t useful_threads(const Problem& p, int64_t tasks, int64_t threads) {
    const int64_t reads = p.batch * p.queries * p.heads * p.levels * p.points;
    return std::max<int64_t>(1, std::min({threads, tasks, reads / READS_WORTH_A_THREAD}));
}

constexpr int64_t QUERIES_A_TASK = 32;

template <class T, class A>
void forward(const Problem& p, int set, int64_t threads, const void* value, const void* locations,
             const void* weights, void* result) {
    auto block = baseline::Kernels<T, A>::forward(p.width);
#if defined(__x86_64__)
    if (set == AVX2) block = avx2::Kernels<T, A>::forward(p.width);
    if (set == AVX512) block = avx512::Kernels<T, A>::forward(p.width);
#endif
    const int64_t blocks = (p.queries + QUERIES_A_TASK - 1) / QUERIES_A_TASK, tasks = p.batch * blocks;
    threads = useful_threads(p, tasks, threads);
    // Room of a worker: the corners of one query and head, one spare that is written but never kept, one row.
    const int64_t room = ((4 * p.levels * p.points + 1) * 16 + p.width * sizeof(A) + 63) / 64 * 64;
    std::unique_ptr<char[]> scratch(new char[room * threads]);
    in_parallel(tasks, threads, [&](int64_t task, int64_t worker) {
        const int64_t image = task / blocks, first = task % blocks * QUERIES_A_TASK;
        block(p, static_cast<const T*>(value), static_cast<const A*>(locations), static_cast<const A*>(weights),
              static_cast<T*>(result), image, first, std::min(first + QUERIES_A_TASK, p.queries),
              scratch.get() + worker * room);
    });
}

template <class T, class A>
void projected(const Problem& p, int set, int64_t threads, const void* value, const void* references, int64_t numbers,
               const void* projections, void* result) {
    auto block = baseline::Kernels<T, A>::projected(p.width);
#if defined(__x86_64__)
    if (set == AVX2) block = avx2::Kernels<T, A>::projected(p.width);
    if (set == AVX512) block = avx512::Kernels<T, A>::projected(p.width);
#endif
    const int64_t blocks = (p.queries + QUERIES_A_TASK - 1) / QUERIES_A_TASK, tasks = p.batch * blocks;
    threads = useful_threads(p, tasks, threads);
    const int64_t reads = p.levels * p.points;
    // As in forward, and behind it the weights and locations of one query and head.
    const int64_t room = ((4 * reads + 1) * 16 + (p.width + 3 * reads) * sizeof(A) + 63) / 64 * 64;
    std::unique_ptr<char[]> scratch(new char[room * threads]);
    in_parallel(tasks, threads, [&](int64_t task, int64_t worker) {
        const int64_t image = task / blocks, first = task % blocks * QUERIES_A_TASK;
        block(p, static_cast<const T*>(value), static_cast<const A*>(references), numbers,
              static_cast<const A*>(projections), static_cast<T*>(result), image, first,
              std::min(first + QUERIES_A_TASK, p.queries), scratch.get() + worker * room);
    });
}

template <class T, class A>
void backward(const Problem& p, int set, int64_t threads, const void* grad, const void* value,
              const void* locations, const void* weights, void* grad_value, void* grad_locations,
              void* grad_weights) {
    auto level_of_head = baseline::Kernels<T, A>::backward(p.width);
#if defined(__x86_64__)
    if (set == AVX2) level_of_head = avx2::Kernels<T, A>::backward(p.width);
    if (set == AVX512) level_of_head = avx512::Kernels<T, A>::backward(p.width);
#endif
    const int64_t tasks = p.batch * p.heads * p.levels;
    threads = useful_threads(p, tasks, threads);
    int64_t tokens = 0;
    for (int64_t level = 0; level < p.levels; ++level) tokens = std::max(tokens, p.heights[level] * p.widths[level]);
    const int64_t room = (tokens * p.width * (sizeof(A) + sizeof(T)) + 63) / 64 * 64;
    std::unique_ptr<char[]> scratch(new char[room * threads]);
    in_parallel(tasks, threads, [&](int64_t task, int64_t worker) {
        const int64_t level = task % p.levels, head = task / p.levels % p.heads;
        level_of_head(p, static_cast<const T*>(grad), static_cast<const T*>(value), static_cast<const A*>(locations),
                      static_cast<const A*>(weights), static_cast<A*>(grad_value),
                      static_cast<A*>(grad_locations), static_cast<A*>(grad_weights),
                      task / p.levels / p.heads, head, level, scratch.get() + worker * room);
    });
}

enum StorageType { FLOAT32 = 0, BFLOAT16 = 1, FLOAT64 = 2 };

// sizes: B, N, h, D, Q, L, P. shapes: H, W of each level.
struct Sized : Problem {
    std::vector<int64_t> table;
    Sized(const int64_t* sizes, const int64_t* shapes) {
        batch = sizes[0], tokens = sizes[1], heads = sizes[2], width = sizes[3];
        queries = sizes[4], levels = sizes[5], points = sizes[6], row_stride = heads * width;
        table.resize(3 * levels);
        int64_t start = 0;
        for (int64_t level = 0; level < levels; ++level) {
            table[level] = shapes[2 * level];
            table[levels + level] = shapes[2 * level + 1];
            table[2 * levels + level] = start;
            start += shapes[2 * level] * shapes[2 * level + 1];
        }
        heights = table.data(), widths = heights + levels, starts = widths + levels;
    }
};

}  // namespace

extern "C" {

// Changed whenever a signature below changes: an older library left in a checkout is then refused, not called.
int focus_detr_msda_version() { return 2; }

int focus_detr_msda_instruction_set() { return best_instruction_set(); }

// All return 0, or 1 when memory for the work space is refused, or 2 for an unknown storage type.
int focus_detr_msda_forward(int type, int set, int threads, const int64_t* sizes, const int64_t* shapes,
                            const void* value, const void* locations, const void* weights, void* result) try {
    const Sized p(sizes, shapes);
    set = std::min(set, best_instruction_set());
    switch (type) {
        case FLOAT32: forward<float, float>(p, set, threads, value, locations, weights, result); return 0;
        case BFLOAT16: forward<uint16_t, float>(p, set, threads, value, locations, weights, result); return 0;
        case FLOAT64: forward<double, double>(p, set, threads, value, locations, weights, result); return 0;
        default: return 2;
    }
} catch (const std::bad_alloc&) {
    return 1;
}

// sizes has one more: numbers a reference, 2 for points, 4 for boxes.
int focus_detr_msda_projected(int type, int set, int threads, const int64_t* sizes, const int64_t* shapes,
                              const void* value, const void* references, const void* projections,
                              void* result) try {
    const Sized p(sizes, shapes);
    set = std::min(set, best_instruction_set());
    switch (type) {
        case FLOAT32: projected<float, float>(p, set, threads, value, references, sizes[7], projections, result); return 0;
        case BFLOAT16:
            projected<uint16_t, float>(p, set, threads, value, references, sizes[7], projections, result);
            return 0;
        case FLOAT64:
            projected<double, double>(p, set, threads, value, references, sizes[7], projections, result);
            return 0;
        default: return 2;
    }
} catch (const std::bad_alloc&) {
    return 1;
}

// The three gradients are of the type computed in; every element is written.
int focus_detr_msda_backward(int type, int set, int threads, const int64_t* sizes, const int64_t* shapes,
                             const void* grad, const void* value, const void* locations, const void* weights,
                             void* grad_value, void* grad_locations, void* grad_weights) try {
    const Sized p(sizes, shapes);
    set = std::min(set, best_instruction_set());
    switch (type) {
        case FLOAT32:
            backward<float, float>(p, set, threads, grad, value, locations, weights, grad_value, grad_locations,
                                   grad_weights);
            return 0;
        case BFLOAT16:
            backward<uint16_t, float>(p, set, threads, grad, value, locations, weights, grad_value, grad_locations,
                                      grad_weights);
            return 0;
        case FLOAT64:
            backward<double, double>(p, set, threads, grad, value, locations, weights, grad_value, grad_locations,
                                     grad_weights);
            return 0;
        default: return 2;
    }
} catch (const std::bad_alloc&) {
    return 1;
}

}  // extern "C"
