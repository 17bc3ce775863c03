// CUDA runtime calls about streams, events and graphs.

#include "cuda_runtime_api.h"
#include "pretended.h"

#define CALL cudaError_t

// ------------------------------------------------------------------------------------------ streams and events

static int create(cudaStream_t* stream, unsigned flags) {
    lock();
    *stream = (cudaStream_t)new_stream(!(flags & cudaStreamNonBlocking));
    unlock();
    return SUCCESS;
}
CALL do_cudaStreamCreate(cudaStream_t* stream) { return create(stream, 0); }
CALL do_cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) { return create(stream, flags); }
CALL do_cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
    return create(stream, flags);
}
CALL do_cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
    *flags = stream && !stream_of(stream)->blocking ? cudaStreamNonBlocking : cudaStreamDefault;
    return cudaSuccess;
}
CALL do_cudaStreamGetPriority(cudaStream_t stream, int* priority) { return *priority = 0, cudaSuccess; }

static int wait_for(Stream* stream, uint64_t position, const char* name) {
    if (stream->capture || forbidden_in_capture(name)) return CAPTURE_UNSUPPORTED;
    lock();
    if (!stream->number) drain_for_default();
    const int error = drain(stream, position);
    unlock();
    return error;
}
CALL do_cudaStreamSynchronize(cudaStream_t handle) {
    Stream* stream = stream_of(handle);
    count("cudaStreamSynchronize", 0);
    note("wait for stream %d", stream->number);
    return wait_for(stream, stream->queued, "cudaStreamSynchronize");
}
CALL do_cudaStreamQuery(cudaStream_t stream) {
    return wait_for(stream_of(stream), stream_of(stream)->queued, "cudaStreamQuery");
}
CALL do_cudaStreamDestroy(cudaStream_t stream) {  // kept, for events that were recorded on it
    return wait_for(stream_of(stream), stream_of(stream)->queued, "cudaStreamDestroy");
}

CALL do_cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    *event = calloc(1, sizeof(Event));
    return cudaSuccess;
}
CALL do_cudaEventCreate(cudaEvent_t* event) { return do_cudaEventCreateWithFlags(event, 0); }
CALL do_cudaEventDestroy(cudaEvent_t event) { return cudaSuccess; }  // kept: a queue may point to it

CALL do_cudaEventRecord(cudaEvent_t handle, cudaStream_t on) {
    Event* event = (Event*)handle;
    Stream* stream = stream_of(on);
    lock();
    count("cudaEventRecord", 0);
    note("record event %p on %d", (void*)event, stream->number);
    Operation* it = new_operation(RECORD);
    it->event = event;
    const int error = queue(stream, it);
    event->stream = stream;
    event->position = stream->queued;
    unlock();
    return error;
}

CALL do_cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t handle, unsigned flags) {
    Event* event = (Event*)handle;
    if (!event->stream) return cudaSuccess;  // never recorded
    lock();
    count("cudaStreamWaitEvent", 0);
    note("stream %d waits for event %p", stream_of(on)->number, (void*)event);
    Operation* it = new_operation(WAIT);
    it->stream = event->stream;
    it->position = event->position;
    const int error = queue(stream_of(on), it);
    unlock();
    return error;
}

CALL do_cudaEventSynchronize(cudaEvent_t handle) {
    Event* event = (Event*)handle;
    count("cudaEventSynchronize", 0);
    return event->stream ? wait_for(event->stream, event->position, "cudaEventSynchronize") : SUCCESS;
}
CALL do_cudaEventQuery(cudaEvent_t event) { return do_cudaEventSynchronize(event); }
CALL do_cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    *milliseconds = (float)(((Event*)end)->milliseconds - ((Event*)start)->milliseconds);
    return cudaSuccess;
}

// ------------------------------------------------------------------------------------------ graphs

CALL do_cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus* status) {
    *status = stream_of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

CALL do_cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    lock();
    count("cudaStreamBeginCapture", 0);
    note("begin capture on %d", stream_of(stream)->number);
    const int error = begin_capture(stream_of(stream));
    unlock();
    return error;
}

CALL do_cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    lock();
    *graph = (cudaGraph_t)end_capture(stream_of(stream));
    unlock();
    return cudaSuccess;
}

CALL do_cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long flags) {
    lock();
    count("cudaGraphInstantiate", 0);
    ((Graph*)graph)->users++;
    *made = (cudaGraphExec_t)graph;
    unlock();
    return cudaSuccess;
}

CALL do_cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    lock();
    count("cudaGraphLaunch", 0);
    note("launch graph %p on %d", (void*)graph, stream_of(stream)->number);
    Operation* it = new_operation(LAUNCH_GRAPH);
    it->graph = (Graph*)graph;
    it->graph->users++;
    const int error = queue(stream_of(stream), it);
    unlock();
    return error;
}

CALL do_cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t stream) { return cudaSuccess; }

static int destroy(void* graph) {
    lock();
    release_graph(graph);
    unlock();
    return SUCCESS;
}
CALL do_cudaGraphDestroy(cudaGraph_t graph) { return destroy(graph); }
CALL do_cudaGraphExecDestroy(cudaGraphExec_t graph) { return destroy(graph); }
