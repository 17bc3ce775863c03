// The cuBLAS functions that are used. The others that CuPy links to are generated; to call one of them is a violation.

#include "pretended.h"

int pretended_product(const char* name, void* stream, Product product);
int pretended_missing(const char* name);

typedef struct {
    void* stream;
} Handle;

static void* stream(void* handle) { return ((Handle*)handle)->stream; }

EXPORTED int cublasSgemm_v2(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha,
                            const float* a, int lda, const float* b, int ldb, const float* beta, float* c, int ldc) {
    const Product product = {transpose_a, transpose_b, m, n, k, lda, ldb, ldc, 1, *alpha, *beta, a, b, c, 0, 0, 0};
    return pretended_product("cublasSgemm", stream(handle), product);
}

EXPORTED int cublasSgemmStridedBatched(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                                       const float* alpha, const float* a, int lda, long long stride_a, const float* b,
                                       int ldb, long long stride_b, const float* beta, float* c, int ldc,
                                       long long stride_c, int batches) {
    const Product product = {transpose_a, transpose_b, m, n, k, lda, ldb, ldc, batches, *alpha, *beta, a, b, c,
                             stride_a, stride_b, stride_c};
    return pretended_product("cublasSgemmStridedBatched", stream(handle), product);
}

// The product that CuPy calls for any types; here for float32 (0) only.
enum { FLOAT32 = 0 };
EXPORTED int cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha,
                          const void* a, int type_a, int lda, const void* b, int type_b, int ldb, const void* beta,
                          void* c, int type_c, int ldc, int computed_in, int algorithm) {
    if (type_a != FLOAT32 || type_b != FLOAT32 || type_c != FLOAT32) return NOT_SUPPORTED;
    return cublasSgemm_v2(handle, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
EXPORTED int cublasGemmStridedBatchedEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                                        const void* alpha, const void* a, int type_a, int lda, long long stride_a,
                                        const void* b, int type_b, int ldb, long long stride_b, const void* beta,
                                        void* c, int type_c, int ldc, long long stride_c, int batches, int computed_in,
                                        int algorithm) {
    if (type_a != FLOAT32 || type_b != FLOAT32 || type_c != FLOAT32) return NOT_SUPPORTED;
    return cublasSgemmStridedBatched(handle, transpose_a, transpose_b, m, n, k, alpha, a, lda, stride_a, b, ldb,
                                     stride_b, beta, c, ldc, stride_c, batches);
}

EXPORTED int cublasCreate_v2(void** handle) { return *handle = calloc(1, sizeof(Handle)), SUCCESS; }
EXPORTED int cublasDestroy_v2(void* handle) { return free(handle), SUCCESS; }
EXPORTED int cublasGetVersion_v2(void* handle, int* version) { return *version = 130000, SUCCESS; }
EXPORTED int cublasSetStream_v2(void* handle, void* stream) {
    return ((Handle*)handle)->stream = stream, SUCCESS;
}
EXPORTED int cublasGetStream_v2(void* handle, void** stream) {
    return *stream = ((Handle*)handle)->stream, SUCCESS;
}
EXPORTED int cublasSetPointerMode_v2(void* handle, int mode) {  // where alpha and beta are stored: 0 is the host
    return mode ? pretended_missing("cublasSetPointerMode to the device") : SUCCESS;
}
EXPORTED int cublasGetPointerMode_v2(void* handle, int* mode) { return *mode = 0, SUCCESS; }
EXPORTED int cublasSetMathMode(void* handle, int mode) {
    return mode ? pretended_missing("cublasSetMathMode to one that rounds") : SUCCESS;
}
EXPORTED int cublasGetMathMode(void* handle, int* mode) { return *mode = 0, SUCCESS; }
