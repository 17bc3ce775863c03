// Products of column-major matrices in float32, by the BLAS that NumPy has loaded.

#include "pretended.h"

static void (*sgemm)(const char* transpose_a, const char* transpose_b, const int64_t* m, const int64_t* n,
                     const int64_t* k, const float* alpha, const float* a, const int64_t* lda, const float* b,
                     const int64_t* ldb, const float* beta, float* c, const int64_t* ldc);
EXPORTED void pretended_sgemm(void* of_blas) { *(void**)&sgemm = of_blas; }

enum { BAD_PARAMETER = 7 };  // CUBLAS_STATUS_INVALID_VALUE

void multiply(const Product* p) {
    const int64_t m = p->m, n = p->n, k = p->k, lda = p->lda, ldb = p->ldb, ldc = p->ldc;
    for (int i = 0; i < p->batches; i++)
        sgemm(p->transpose_a ? "T" : "N", p->transpose_b ? "T" : "N", &m, &n, &k, &p->alpha, p->a + i * p->stride_a,
              &lda, p->b + i * p->stride_b, &ldb, &p->beta, p->c + i * p->stride_c, &ldc);
}

static int most(int a, int b) { return a > b ? a : b; }

EXPORTED int pretended_product(const char* name, void* stream_handle, Product p) {
    Stream* stream = stream_of(stream_handle);
    lock();
    int error = SUCCESS;
    if (p.lda < most(1, p.transpose_a ? p.k : p.m) || p.ldb < most(1, p.transpose_b ? p.n : p.k) ||
        p.ldc < most(1, p.m) || p.m < 0 || p.n < 0 || p.k < 0 || p.batches < 0) {
        violation("%s: leading dimensions %d, %d, %d for m, n, k = %d, %d, %d", name, p.lda, p.ldb, p.ldc, p.m, p.n, p.k);
        error = BAD_PARAMETER;
    } else {
        if (!is_device(p.a) || !is_device(p.b) || !is_device(p.c)) violation("%s: a matrix is not on the device", name);
        count(stream->capture ? "captured launch" : "launch", 0);
        if (!stream->capture) count(name, 0);
        note("launch %s on %d", name, stream->number);
        Operation* it = new_operation(PRODUCT);
        it->product = p;
        error = queue(stream, it);
    }
    unlock();
    return error;
}

// A call of a cuBLAS function that is not implemented.
EXPORTED int pretended_missing(const char* name) {
    violation("%s is not simulated", name);
    return NOT_SUPPORTED;
}
