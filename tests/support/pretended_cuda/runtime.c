// CUDA runtime calls about the device, its memory, and kernels that are compiled into CuPy. Each do_ function does what
// the runtime's function of the same name does; see replace.c.

#include "cuda_runtime_api.h"
#include "pretended.h"

static int capability = 90;
EXPORTED void pretended_capability(int major_and_minor) { capability = major_and_minor; }

#define CALL cudaError_t

// ------------------------------------------------------------------------------------------ the device

CALL do_cudaGetDeviceCount(int* number) { return *number = 1, cudaSuccess; }
CALL do_cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
CALL do_cudaSetDevice(int device) { return device ? cudaErrorInvalidDevice : cudaSuccess; }
CALL do_cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
CALL do_cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
CALL do_cudaDeviceCanAccessPeer(int* can, int device, int peer) { return *can = 0, cudaSuccess; }

static int processors(void) { return capability == 75 ? 6 : 132; }  // of a T400, of an H100

CALL do_cudaDeviceGetAttribute(int* value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = capability / 10; break;
        case cudaDevAttrComputeCapabilityMinor: *value = capability % 10; break;
        case cudaDevAttrMultiProcessorCount: *value = processors(); break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = capability == 75 ? 1024 : 2048; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMaxGridDimX: *value = 0x7fffffff; break;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ: *value = 65535; break;
        default: *value = 0;
    }
    return cudaSuccess;
}

CALL do_cudaGetDeviceProperties(struct cudaDeviceProp* properties, int device) {
    size_t unused;
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "a simulated GPU");
    properties->major = capability / 10;
    properties->minor = capability % 10;
    properties->multiProcessorCount = processors();
    properties->warpSize = 32;
    memory_info(&unused, &properties->totalGlobalMem);
    return cudaSuccess;
}

CALL do_cudaDeviceSynchronize(void) {
    count("cudaDeviceSynchronize", 0);
    if (forbidden_in_capture("cudaDeviceSynchronize")) return cudaErrorStreamCaptureUnsupported;
    lock();
    const int error = drain_all();
    unlock();
    return error;
}

CALL do_cudaGetLastError(void) {
    const int error = last_error();
    set_error(0);
    return error;
}
CALL do_cudaPeekAtLastError(void) { return last_error(); }

const char* do_cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
        case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
        default: return "cudaErrorPretended";
    }
}
const char* do_cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : last_violation();
}

// ------------------------------------------------------------------------------------------ memory

CALL do_cudaMalloc(void** at, size_t bytes) {
    count("cudaMalloc", bytes);
    note("cudaMalloc of %zu", bytes);
    if (forbidden_in_capture("cudaMalloc")) return cudaErrorStreamCaptureUnsupported;
    lock();
    const int error = allocate(at, bytes);
    unlock();
    if (error) set_error(error);
    return error;
}

CALL do_cudaFree(void* at) {
    count("cudaFree", 0);
    if (!at) return cudaSuccess;
    if (forbidden_in_capture("cudaFree")) return cudaErrorStreamCaptureUnsupported;
    lock();
    drain_all();
    const int error = release(at);
    unlock();
    return error;
}

CALL do_cudaMemGetInfo(size_t* unused, size_t* all) { return memory_info(unused, all), cudaSuccess; }

CALL do_cudaHostAlloc(void** at, size_t bytes, unsigned flags) {
    count("cudaHostAlloc", bytes);
    lock();
    *at = allocate_pinned(bytes);
    unlock();
    return cudaSuccess;
}

CALL do_cudaFreeHost(void* at) {
    count("cudaFreeHost", 0);
    lock();
    drain_all();
    release_pinned(at);
    unlock();
    return cudaSuccess;
}

CALL do_cudaPointerGetAttributes(struct cudaPointerAttributes* attributes, const void* at) {
    memset(attributes, 0, sizeof *attributes);
    lock();
    attributes->type = is_device(at) ? cudaMemoryTypeDevice : is_pinned(at) ? cudaMemoryTypeHost : 0;
    unlock();
    attributes->devicePointer = (void*)at;
    return cudaSuccess;
}

// A copy. As in CUDA, pageable memory is read or written before the call returns; pinned memory
// is read or written when the stream reaches the copy.
static int copy(void* to, const void* from, size_t bytes, Stream* stream, int wait) {
    lock();
    const int up = !is_device(from), down = !is_device(to);
    const char* name = up ? (down ? "host to host" : "upload") : down ? "download" : "device to device";
    const int pageable = (up && !is_pinned(from)) || (down && !is_pinned(to));
    char captured[40];
    snprintf(captured, sizeof captured, "captured %s", name);
    count(stream->capture ? captured : name, bytes);
    note("%s of %zu on %d", name, bytes, stream->number);
    int error = SUCCESS;
    if ((stream->capture && pageable) || (wait && captured_by_this_thread())) {
        violation("%s of %zu bytes %s in a capture", name, bytes, wait ? "that waits" : "of pageable memory");
        error = CAPTURE_UNSUPPORTED;
    } else {
        Operation* it = new_operation(COPY);
        it->to = to;
        it->from = (void*)from;
        it->bytes = bytes;
        if (up && pageable) {
            it->staged = malloc(bytes + 1);
            memcpy(it->staged, from, bytes);
        }
        error = queue(stream, it);
        if (!error && (wait || (down && pageable))) error = drain(stream, stream->queued);
    }
    unlock();
    return error;
}

CALL do_cudaMemcpy(void* to, const void* from, size_t bytes, enum cudaMemcpyKind kind) {
    return copy(to, from, bytes, stream_of(NULL), 1);
}
CALL do_cudaMemcpyAsync(void* to, const void* from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, from, bytes, stream_of(stream), 0);
}

static int fill(void* to, int value, size_t bytes, Stream* stream) {
    lock();
    count(stream->capture ? "captured fill" : "fill", bytes);
    note("fill of %zu on %d", bytes, stream->number);
    Operation* it = new_operation(FILL);
    it->to = to;
    it->value = value;
    it->bytes = bytes;
    const int error = queue(stream, it);
    unlock();
    return error;
}
CALL do_cudaMemset(void* to, int value, size_t bytes) { return fill(to, value, bytes, stream_of(NULL)); }
CALL do_cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    return fill(to, value, bytes, stream_of(stream));
}

// ------------------------------------------------------------------------------------------ kernels of CUB

// They are compiled into CuPy: there is no source to execute here.
CALL do_cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                         cudaStream_t stream) {
    lock();
    count("launch", 0);
    count("kernel of CUB", 0);
    static Kernel of_cub = {.name = "a kernel of CUB"};
    Operation* it = new_operation(KERNEL);
    it->kernel = &of_cub;
    const int error = queue(stream_of(stream), it);
    unlock();
    return error;
}
CALL do_cudaFuncGetAttributes(struct cudaFuncAttributes* attributes, const void* function) {
    memset(attributes, 0, sizeof *attributes);
    attributes->ptxVersion = attributes->binaryVersion = capability;
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
CALL do_cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads, size_t shared) {
    return *blocks = 4, cudaSuccess;
}
CALL do_cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads, size_t shared, unsigned flags) {
    return do_cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}
