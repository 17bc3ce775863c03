// Streams, events and graphs: operations are queued, and executed when something waits for them.

#define _GNU_SOURCE
#include <time.h>

#include "pretended.h"

#define MOST_STREAMS 4096
#define MOST_WAITING 20000  // operations of a stream; with more, they are executed although nothing waits for them yet

static Stream legacy = {.blocking = 0};
static Stream* streams[MOST_STREAMS] = {&legacy};
static int streams_made = 1;
static int error_kept;
static int backward, compute = 1;
static char computed[64];  // the only kernel that is still executed

// Execute all kernels and products, or only the kernel of this name.
EXPORTED void pretended_compute(int on, const char* only) {
    compute = on;
    snprintf(computed, sizeof computed, "%s", only);
}
EXPORTED void pretended_backward(int on) { backward = on; }

int last_error(void) { return error_kept; }
void set_error(int error) { error_kept = error; }

Stream* stream_of(void* handle) {
    if (!handle || handle == (void*)1) return &legacy;
    if (handle == (void*)2) {
        violation("the per-thread default stream (2) is not simulated");
        return &legacy;
    }
    return handle;
}

Stream* new_stream(int blocking) {
    if (streams_made == MOST_STREAMS) abort();
    Stream* stream = calloc(1, sizeof *stream);
    stream->number = streams_made;
    stream->blocking = blocking;
    return streams[streams_made++] = stream;
}

// ------------------------------------------------------------------------------------------ execution

static int execute(Operation* it) {
    switch (it->kind) {
        case KERNEL:
            if (!compute && strcmp(it->kernel->name, computed)) return SUCCESS;
            if (!it->kernel->launch) {
                violation("%s has no version for the CPU, so its results are missing", it->kernel->name);
                return LAUNCH_FAILED;
            }
            const unsigned one[3] = {1, 1, 1};
            const int alone = it->kernel->one_thread;
            const char* wrong = it->kernel->launch(it->arguments, alone ? one : it->grid, alone ? one : it->block,
                                                   it->shared, backward);
            if (wrong) violation("%s: %s", it->kernel->name, wrong);
            return wrong ? LAUNCH_FAILED : SUCCESS;
        case COPY:
            memmove(it->to, it->staged ? it->staged : it->from, it->bytes);
            return SUCCESS;
        case FILL:
            memset(it->to, it->value, it->bytes);
            return SUCCESS;
        case PRODUCT:
            if (compute) multiply(&it->product);
            return SUCCESS;
        case RECORD: {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            it->event->milliseconds = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
            return SUCCESS;
        }
        case WAIT:
            return drain(it->stream, it->position);
        case LAUNCH_GRAPH:
            for (Operation* node = it->graph->first; node; node = node->next) {
                const int error = execute(node);
                if (error) return error;
            }
            return SUCCESS;
    }
    return INVALID_VALUE;
}

static void discard(Operation* it) {
    if (it->kind == LAUNCH_GRAPH) release_graph(it->graph);
    free(it->staged);
    free(it->arguments);
    free(it);
}

// Execute the operations of a stream, up to a position in its queue.
int drain(Stream* stream, uint64_t position) {
    while (stream->done < position) {
        Operation* it = stream->first;
        stream->first = it->next;
        stream->done++;
        const int error = execute(it);
        if (error) error_kept = error;
        discard(it);
    }
    return error_kept;
}

int drain_all(void) {
    for (int i = 0; i < streams_made; i++) drain(streams[i], streams[i]->queued);
    return error_kept;
}

// What the legacy default stream waits for: itself and the blocking streams.
int drain_for_default(void) {
    for (int i = 0; i < streams_made; i++)
        if (!i || streams[i]->blocking) drain(streams[i], streams[i]->queued);
    return error_kept;
}

// ------------------------------------------------------------------------------------------ queueing

Operation* new_operation(enum Kind kind) {
    Operation* it = calloc(1, sizeof *it);
    it->kind = kind;
    return it;
}

static void append(Operation** first, Operation** last, Operation* it) {
    if (*first)
        (*last)->next = it;
    else
        *first = it;
    *last = it;
}

int queue(Stream* stream, Operation* it) {
    if (stream->capture) {
        if (it->kind == RECORD || it->kind == WAIT || it->kind == LAUNCH_GRAPH) {
            violation("an event or a graph inside a capture is not simulated");
            return CAPTURE_UNSUPPORTED;
        }
        append(&stream->capture->first, &stream->capture->last, it);
        return SUCCESS;
    }
    Stream* captured = captured_by_this_thread();
    if (captured) {
        violation("work on stream %d while this thread captures stream %d: it is not replayed", stream->number,
                  captured->number);
        if (stream == &legacy && captured->blocking) return CAPTURE_UNSUPPORTED;
    }
    if (stream == &legacy)
        drain_for_default();  // one of the orders that CUDA may choose
    else if (stream->blocking)
        drain(&legacy, legacy.queued);
    append(&stream->first, &stream->last, it);
    stream->queued++;
    if (stream->queued - stream->done > MOST_WAITING) return drain(stream, stream->queued);
    return SUCCESS;
}

// ------------------------------------------------------------------------------------------ capture

Stream* captured_by_this_thread(void) {
    for (int i = 0; i < streams_made; i++)
        if (streams[i]->capture && streams[i]->capturing_thread == this_thread()) return streams[i];
    return NULL;
}

// Report a call that waits for the device, or changes it, as a violation if this thread captures a stream.
int forbidden_in_capture(const char* name) {
    Stream* captured = captured_by_this_thread();
    if (captured) violation("%s while stream %d is captured", name, captured->number);
    return captured != NULL;
}

int begin_capture(Stream* stream) {
    if (stream == &legacy || stream->capture) return CAPTURE_UNSUPPORTED;
    stream->capture = calloc(1, sizeof(Graph));
    stream->capture->users = 1;
    stream->capturing_thread = this_thread();
    return SUCCESS;
}

Graph* end_capture(Stream* stream) {
    Graph* graph = stream->capture;
    stream->capture = NULL;
    return graph;
}

void release_graph(Graph* graph) {
    if (--graph->users) return;
    for (Operation *it = graph->first, *next; it; it = next) {
        next = it->next;
        discard(it);
    }
    free(graph);
}
