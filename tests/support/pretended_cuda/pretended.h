// A CUDA driver and runtime without a GPU, for tests: "device" memory is memory of the process, streams are queues.
//
// Work on a stream runs as late as CUDA allows: when something waits for it. So a result that is read too early, or a
// pinned buffer that is overwritten before it is copied, always gives wrong values here; on a GPU it only sometimes
// does. Calls that CUDA would reject, or run at another time than the caller intends, are violations: they are counted
// and described, and if CUDA returns an error, so do we.

#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
       CAPTURE_UNSUPPORTED = 900 };

typedef struct Graph Graph;
typedef struct Operation Operation;

// A queue of operations. The stream whose handle is null is the legacy default stream.
typedef struct {
    int number, blocking;  // blocking: it and the legacy default stream wait for each other
    Operation *first, *last;
    uint64_t queued, done;  // numbers of operations since the stream was created
    Graph* capture;         // the graph that is being recorded, if any
    uint64_t capturing_thread;
} Stream;

// A point in a stream's queue.
typedef struct {
    Stream* stream;
    uint64_t position;
    double milliseconds;
} Event;

// A __global__ function of a module, and how it is executed on a CPU (null if it is not).
typedef struct {
    char name[160];
    const char* (*launch)(void** arguments, const unsigned* grid, const unsigned* block, size_t shared, int backward);
    const size_t* sizes;    // bytes of each parameter, then 0
    const char* signature;  // one letter per parameter, upper case for addresses
    int one_thread;         // its loop covers all elements even with a single thread
} Kernel;

// The arguments of cublasSgemmStridedBatched; matrices are column-major.
typedef struct {
    int transpose_a, transpose_b, m, n, k, lda, ldb, ldc, batches;
    float alpha, beta;
    const float *a, *b;
    float* c;
    long long stride_a, stride_b, stride_c;
} Product;

enum Kind { KERNEL, COPY, FILL, PRODUCT, RECORD, WAIT, LAUNCH_GRAPH };

struct Operation {
    enum Kind kind;
    Operation* next;
    Kernel* kernel;  // KERNEL
    unsigned grid[3], block[3];
    size_t shared;
    void** arguments;          // addresses of copies, which follow in the same block of memory
    void *to, *from, *staged;  // COPY, FILL; staged: a copy of pageable memory, made when the operation was queued
    size_t bytes;
    int value;        // FILL
    Product product;  // PRODUCT
    Event* event;     // RECORD
    Stream* stream;   // WAIT: until this stream
    uint64_t position;  // has done so much
    Graph* graph;     // LAUNCH_GRAPH
};

struct Graph {
    Operation *first, *last;
    int users;
};

// record.c: counts, a log, violations.
void lock(void);
void unlock(void);
void count(const char* name, uint64_t bytes);
void note(const char* format, ...) __attribute__((format(printf, 1, 2)));
void violation(const char* format, ...) __attribute__((format(printf, 1, 2)));
const char* last_violation(void);
uint64_t this_thread(void);

// memory.c: blocks of device memory and of pinned host memory.
int allocate(void** at, size_t bytes);
int release(void* at);
int is_device(const void* at);
int is_pinned(const void* at);
void* allocate_pinned(size_t bytes);
void release_pinned(void* at);
void memory_info(size_t* unused, size_t* all);

// work.c: streams, and the operations on them.
Stream* stream_of(void* handle);
Stream* new_stream(int blocking);
Stream* captured_by_this_thread(void);
int forbidden_in_capture(const char* name);
Operation* new_operation(enum Kind kind);
int queue(Stream* stream, Operation* operation);
int drain(Stream* stream, uint64_t position);
int drain_all(void);
int drain_for_default(void);
int begin_capture(Stream* stream);
Graph* end_capture(Stream* stream);
void release_graph(Graph* graph);
int last_error(void);
void set_error(int error);

// cublas.c
void multiply(const Product* product);
