// CuPy has the CUDA runtime inside its own libraries. Once these are loaded, the functions there are overwritten with
// jumps to those of the same name here.

#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "pretended.h"

#define NAMES(X) \
    X(cudaGetDeviceCount) X(cudaGetDevice) X(cudaSetDevice) X(cudaDriverGetVersion) X(cudaRuntimeGetVersion) \
    X(cudaDeviceCanAccessPeer) X(cudaDeviceGetAttribute) X(cudaGetDeviceProperties) X(cudaDeviceSynchronize) \
    X(cudaGetLastError) X(cudaPeekAtLastError) X(cudaGetErrorName) X(cudaGetErrorString) X(cudaMalloc) \
    X(cudaFree) X(cudaMemGetInfo) X(cudaHostAlloc) X(cudaFreeHost) X(cudaPointerGetAttributes) X(cudaMemcpy) \
    X(cudaMemcpyAsync) X(cudaMemset) X(cudaMemsetAsync) X(cudaStreamCreate) X(cudaStreamCreateWithFlags) \
    X(cudaStreamCreateWithPriority) X(cudaStreamGetFlags) X(cudaStreamGetPriority) X(cudaStreamSynchronize) \
    X(cudaStreamQuery) X(cudaStreamDestroy) X(cudaEventCreate) X(cudaEventCreateWithFlags) \
    X(cudaEventDestroy) X(cudaEventRecord) X(cudaStreamWaitEvent) X(cudaEventSynchronize) X(cudaEventQuery) \
    X(cudaEventElapsedTime) X(cudaStreamIsCapturing) X(cudaStreamBeginCapture) X(cudaStreamEndCapture) \
    X(cudaGraphInstantiate) X(cudaGraphLaunch) X(cudaGraphUpload) X(cudaGraphDestroy) \
    X(cudaGraphExecDestroy) X(cudaLaunchKernel) X(cudaFuncGetAttributes) \
    X(cudaOccupancyMaxActiveBlocksPerMultiprocessor) \
    X(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)

#define DECLARE(name) extern void do_##name(void);
#define ENTRY(name) {#name, do_##name},
NAMES(DECLARE)
static const struct {
    const char* name;
    void (*function)(void);
} table[] = {NAMES(ENTRY){"cudaGetDeviceProperties_v2", do_cudaGetDeviceProperties}};  // its name in CUDA 12

// Overwrite the function at this address with a jump to ours of this name. Return 0 if there is none.
EXPORTED int pretended_replace(uint64_t address, const char* name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].name, name)) continue;
        const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), begin = address / page * page;
        if (mprotect((void*)begin, 2 * page, PROT_READ | PROT_WRITE | PROT_EXEC)) return 0;
        unsigned char jump[12] = {0x48, 0xb8, [10] = 0xff, 0xe0};  // mov rax, address; jmp rax
        memcpy(jump + 2, &table[i].function, 8);
        memcpy((void*)address, jump, sizeof jump);
        return 1;
    }
    return 0;
}
