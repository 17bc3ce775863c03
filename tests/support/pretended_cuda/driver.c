// The driver calls that CuPy makes itself: modules, their functions, and launches.

#define _GNU_SOURCE
#include <dlfcn.h>

#include "pretended.h"

enum { MOST_THREADS = 1024, MOST_GRID_Y_Z = 65535, MOST_SHARED = 48 << 10 };

typedef struct {
    char* image;  // the compiled code, in ELF format
    size_t bytes;
    void* library;  // the same kernels compiled for the CPU, or null
    int one_thread;
} Module;

// The library with the kernels of this thread's next module; the caller compiled both from one source.
static __thread void* next_library;
static __thread int next_one_thread;
EXPORTED void pretended_next_library(void* library, int one_thread) {
    next_library = library;
    next_one_thread = one_thread;
}

static size_t image_bytes(const unsigned char* image) {
    if (memcmp(image, "\177ELF", 4)) return 0;
    uint64_t sections;
    uint16_t each, number;
    memcpy(&sections, image + 40, 8);
    memcpy(&each, image + 58, 2);
    memcpy(&number, image + 60, 2);
    return sections + (size_t)each * number;
}

EXPORTED int cuModuleLoadData(void** module, const void* image) {
    count("cuModuleLoadData", 0);
    if (forbidden_in_capture("cuModuleLoadData")) return CAPTURE_UNSUPPORTED;
    Module* made = calloc(1, sizeof *made);
    made->bytes = image_bytes(image);
    made->image = malloc(made->bytes + 1);
    memcpy(made->image, image, made->bytes);
    made->library = next_library;
    made->one_thread = next_one_thread;
    next_library = NULL;
    *module = made;
    return SUCCESS;
}

EXPORTED int cuModuleUnload(void* module) {
    (void)module;  // queued kernels may belong to it
    return SUCCESS;
}

EXPORTED int cuModuleGetFunction(void** function, void* module, const char* name) {
    Module* of = module;
    char symbol[200];
    snprintf(symbol, sizeof symbol, ".text.%s", name);
    if (!memmem(of->image, of->bytes, symbol, strlen(symbol) + 1)) return NOT_FOUND;
    Kernel* kernel = calloc(1, sizeof *kernel);
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    kernel->one_thread = of->one_thread;
    if (of->library) {
        const char* (*signature)(void);
        const size_t* (*sizes)(void);
        snprintf(symbol, sizeof symbol, "launch_%s", name);
        *(void**)&kernel->launch = dlsym(of->library, symbol);
        snprintf(symbol, sizeof symbol, "signature_%s", name);
        *(void**)&signature = dlsym(of->library, symbol);
        snprintf(symbol, sizeof symbol, "sizes_%s", name);
        *(void**)&sizes = dlsym(of->library, symbol);
        if (!kernel->launch || !signature || !sizes) return NOT_FOUND;
        kernel->signature = signature();
        kernel->sizes = sizes();
    }
    *function = kernel;
    return SUCCESS;
}

EXPORTED int cuModuleGetGlobal_v2(uint64_t* at, size_t* bytes, void* module, const char* name) {
    return NOT_FOUND;
}

// Copies of the arguments, because the caller may overwrite them once the launch returns: addresses, then values.
static void** copied(const Kernel* kernel, void** arguments) {
    size_t number = 0, bytes = 0;
    for (; kernel->sizes[number]; number++) bytes += (kernel->sizes[number] + 15) / 16 * 16;
    void** copies = malloc(number * 16 + bytes + 16);
    char* value = (char*)copies + number * 16;
    for (size_t i = 0; i < number; i++) {
        memcpy(value, arguments[i], kernel->sizes[i]);
        copies[i] = value;
        value += (kernel->sizes[i] + 15) / 16 * 16;
    }
    return copies;
}

static void check_addresses(const Kernel* kernel, void** arguments) {
    for (int i = 0; kernel->signature[i]; i++) {
        if (kernel->signature[i] < 'A' || kernel->signature[i] > 'Z') continue;
        const void* at;
        memcpy(&at, arguments[i], sizeof at);
        if (at && !is_device(at)) violation("%s: argument %d is not an address on the device", kernel->name, i);
    }
}

EXPORTED int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                            unsigned block_y, unsigned block_z, unsigned shared, void* stream, void** arguments,
                            void** extra) {
    Kernel* kernel = function;
    Stream* on = stream_of(stream);
    if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z || grid_x > 0x7fffffff ||
        grid_y > MOST_GRID_Y_Z || grid_z > MOST_GRID_Y_Z || (uint64_t)block_x * block_y * block_z > MOST_THREADS ||
        shared > MOST_SHARED) {
        violation("%s: a grid of %u, %u, %u blocks of %u, %u, %u threads with %u bytes", kernel->name, grid_x, grid_y,
                  grid_z, block_x, block_y, block_z, shared);
        return INVALID_VALUE;
    }
    lock();
    char name[200];
    snprintf(name, sizeof name, "kernel %s", kernel->name);
    count(on->capture ? "captured launch" : "launch", 0);
    if (!on->capture) count(name, 0);
    note("launch %s on %d", kernel->name, on->number);
    Operation* it = new_operation(KERNEL);
    it->kernel = kernel;
    memcpy(it->grid, (unsigned[]){grid_x, grid_y, grid_z}, sizeof it->grid);
    memcpy(it->block, (unsigned[]){block_x, block_y, block_z}, sizeof it->block);
    it->shared = shared;
    if (kernel->launch) {
        check_addresses(kernel, arguments);
        it->arguments = copied(kernel, arguments);
    }
    const int error = queue(on, it);
    unlock();
    return error;
}

// Other functions that CuPy looks up. Those that are not needed here fail.
#define FAILS(name) \
    EXPORTED int name(void) { return NOT_SUPPORTED; }
FAILS(cuLaunchCooperativeKernel)
FAILS(cuCtxCreate_v2)
FAILS(cuCtxDestroy_v2)
FAILS(cuLinkCreate_v2)
FAILS(cuLinkAddData_v2)
FAILS(cuLinkAddFile_v2)
FAILS(cuLinkComplete)
FAILS(cuLinkDestroy)
FAILS(cuModuleLoad)
FAILS(cuFuncSetAttribute)

EXPORTED int cuGetErrorName(int error, const char** name) {
    *name = "CUDA_ERROR_PRETENDED";
    return SUCCESS;
}
EXPORTED int cuGetErrorString(int error, const char** text) {
    static __thread char said[80];
    snprintf(said, sizeof said, "error %d of the simulated driver", error);
    *text = said;
    return SUCCESS;
}
EXPORTED int cuCtxGetCurrent(void** context) {
    *context = (void*)1;
    return SUCCESS;
}
EXPORTED int cuCtxSetCurrent(void* context) { return SUCCESS; }
EXPORTED int cuStreamGetCtx(void* stream, void** context) { return cuCtxGetCurrent(context); }
EXPORTED int cuCtxGetDevice(int* device) { return *device = 0, SUCCESS; }
EXPORTED int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
EXPORTED int cuFuncGetAttribute(int* value, int attribute, void* function) {
    *value = attribute == 0 ? MOST_THREADS : 0;
    return SUCCESS;
}
EXPORTED int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t shared) {
    *blocks = 4;
    return SUCCESS;
}
EXPORTED int cuOccupancyMaxPotentialBlockSize(int* grid, int* block, void* function, void* shared_of, size_t shared,
                                              int limit) {
    *grid = 528;
    *block = 256;
    return SUCCESS;
}
