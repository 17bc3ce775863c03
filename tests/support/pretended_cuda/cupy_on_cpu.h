// What g++ needs, beside cuda_on_cpu.h, to compile CuPy's own kernels: they are made of CuPy's carray.cuh and a few
// names. CuPy's headers for complex numbers, atomics and half precision need NVIDIA's; this header takes their place.

#pragma once
#include <cassert>
#include <limits>

#define __host__
#define __forceinline__ inline
#undef __shared__
#define __shared__ static  // blocks run one after the other

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

// The minimum and maximum of two numbers of one type, or of an integer and a wider one.
template <class A, class B>
static inline std::common_type_t<A, B> min(A a, B b) {
    return b < a ? b : a;
}
template <class A, class B>
static inline std::common_type_t<A, B> max(A a, B b) {
    return a < b ? b : a;
}

template <class Number>
struct complex {
    Number real, imag;
};
template <class Number>
static inline Number norm(const complex<Number>& x) {
    return x.real * x.real + x.imag * x.imag;
}

using std::isfinite;
using std::isinf;
using std::isnan;

#include <cupy/carray.cuh>

class float16 {
    _Float16 value;

  public:
    float16() {}
    template <class Number>
    float16(Number x) : value((_Float16)(float)x) {}
    operator float() const { return (float)value; }
};
