// The kernels of the GPU engine: everything except large matrix products, which cuBLAS computes.
//
// All arrays are row-major, and shapes use the letters of model/layers.py. Activations are float. Weights, keys and
// values are weight_t: float or, with -DHALF, half. They are widened when they are read, and all arithmetic is in
// float.
//
// While decoding, a row is one token of one sequence at one position; R is the number of rows. A decoder step is one
// CUDA graph, replayed for every token. So nothing here allocates memory, and everything that changes between steps is
// read from a table in the GPU's memory (see table.py): the number of rows, their tokens and positions, and the
// addresses of the keys and values that they attend to. Kernels are launched for `capacity` rows, and blocks beyond the
// last row return at once.
//
// Sums are taken in a fixed order, so the same input gives the same bits.
//
// kernels.py inserts constants before this text: GELU's coefficients, the layout of the table, and the sizes from which
// it computes grids and shared memory.

#ifdef HALF
#include <cuda_fp16.h>
typedef __half weight_t;
#else
typedef float weight_t;
#endif

constexpr int WARP = 32;
constexpr int WARPS = THREADS / WARP;
constexpr unsigned FULL_MASK = 0xffffffff;     // all threads of a warp
constexpr int TEAM = 8;                        // threads that compute one attention score
constexpr int VECTOR = 16 / sizeof(weight_t);  // values of a weight in one load of 16 bytes

// Its size is set at launch. It is read four values at a time.
extern __shared__ __align__(16) float shared[];

// ------------------------------------------------------------------------------------------ values

__device__ float widen(float x) { return x; }

#ifdef HALF
__device__ float widen(__half x) { return __half2float(x); }

struct __align__(8) Half4 {
    __half x, y, z, w;
};
#endif

__device__ weight_t narrow(float x) {
#ifdef HALF
    return __float2half(x);
#else
    return x;
#endif
}

// Load four values at once, from an address that is a multiple of their size.
__device__ float4 four(const float* at) { return *reinterpret_cast<const float4*>(at); }

#ifdef HALF
__device__ float4 widen(const Half4& read) {
    return make_float4(widen(read.x), widen(read.y), widen(read.z), widen(read.w));
}

__device__ float4 four(const __half* at) { return widen(*reinterpret_cast<const Half4*>(at)); }
#endif

// Load VECTOR values of a weight at once, from an address that is a multiple of 16.
#ifdef HALF
typedef Half4 Quad;
#else
typedef float4 Quad;
__device__ float4 widen(const float4& read) { return read; }
#endif

struct __align__(16) Vector {
    Quad parts[VECTOR / 4];
};

__device__ Vector load(const weight_t* at) { return *reinterpret_cast<const Vector*>(at); }

__device__ float infinity() { return __int_as_float(0x7f800000); }

__device__ float dot(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// The exact GELU of model/layers.py: x/2 (1 + tanh(x p(x²))).
__device__ float exact_gelu(float x) {
    const float coefficients[] = GELU_COEFFICIENTS;
    constexpr int count = sizeof(coefficients) / sizeof(float);
    const float square = fminf(x * x, GELU_LIMIT);
    float p = coefficients[count - 1];
#pragma unroll
    for (int i = count - 2; i >= 0; i--) p = fmaf(p, square, coefficients[i]);
    return 0.5f * x * (1.0f + tanhf(x * p));
}

// ------------------------------------------------------------------------------------------ sums and maxima

__device__ float warp_sum(float value) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(FULL_MASK, value, offset);
    return value;
}

__device__ float warp_max(float value) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_MASK, value, offset));
    return value;
}

// The sum over a block's threads, returned to each of them. It overwrites one float per warp of `shared`.
__device__ float block_sum(float value) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    value = shared[0];
    for (int warp = 1; warp < blockDim.x / WARP; warp++) value += shared[warp];
    return value;
}

__device__ float block_max(float value) {
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    value = shared[0];
    for (int warp = 1; warp < blockDim.x / WARP; warp++) value = fmaxf(value, shared[warp]);
    return value;
}

// ------------------------------------------------------------------------------------------ around large products

// One block per row: x (N, D), weight (D,), bias (D,) -> out (N, D), which may be x.
extern "C" __global__ void __launch_bounds__(THREADS)
layer_norm(const float* x, const weight_t* weight, const weight_t* bias, float* out, int width, float eps) {
    x += (size_t)blockIdx.x * width;
    out += (size_t)blockIdx.x * width;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += x[i];
    const float mean = block_sum(sum) / width;
    sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum = fmaf(x[i] - mean, x[i] - mean, sum);
    const float deviation = sqrtf(block_sum(sum) / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        out[i] = fmaf((x[i] - mean) / deviation, widen(weight[i]), widen(bias[i]));
}

// x = gelu(x + bias) + residual, with or without GELU. One thread per value: x (…, F) has `size` values. bias (F,) and
// residual, in the dtype of the weights, may be null.
extern "C" __global__ void __launch_bounds__(THREADS)
epilogue(float* x, const weight_t* bias, const weight_t* residual, int gelu, int width, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float value = x[i];
    if (bias) value += widen(bias[i % width]);
    if (gelu) value = exact_gelu(value);
    if (residual) value += widen(residual[i]);
    x[i] = value;
}

// In place, one block per row of scores (…, T).
extern "C" __global__ void __launch_bounds__(THREADS)
softmax(float* scores, int columns) {
    scores += (size_t)blockIdx.x * columns;
    float highest = scores[0];
    for (int i = threadIdx.x; i < columns; i += blockDim.x) highest = fmaxf(highest, scores[i]);
    highest = block_max(highest);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        scores[i] = expf(scores[i] - highest);
        sum += scores[i];
    }
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) scores[i] /= sum;
}

// The inputs of each output of a convolution with kernel 3 and padding 1: x (T, I) -> columns (⌈T / stride⌉, I, 3). One
// thread per value of columns. `by_time` and `by_channel` are the strides of x, in values.
extern "C" __global__ void __launch_bounds__(THREADS)
im2col(const float* x, float* columns, int length, int channels, int stride, int by_time, int by_channel,
       int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int time = i / (3 * channels) * stride + i % 3 - 1, channel = i / 3 % channels;
    columns[i] = time < 0 || time >= length ? 0.0f : x[(size_t)time * by_time + (size_t)channel * by_channel];
}

// out = x + bias, in the dtype of the weights. One thread per value: x (…, F) has `size` values; bias (F,) or null.
extern "C" __global__ void __launch_bounds__(THREADS)
add_bias_cast(const float* x, const weight_t* bias, weight_t* out, int width, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) out[i] = narrow(x[i] + (bias ? widen(bias[i % width]) : 0.0f));
}

// A weight of `size` values in float. One thread per value.
extern "C" __global__ void __launch_bounds__(THREADS)
widen_weight(const weight_t* weight, float* out, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) out[i] = widen(weight[i]);
}

// ------------------------------------------------------------------------------------------ the table of rows

__device__ int row_count(const long long* table) { return (int)table[ROWS_AT]; }

__device__ long long field(const long long* table, int capacity, int name, int row) {
    return table[HEADER + name * capacity + row];
}

// The addresses of the slots of a row's sequence, one per position. A slot is (L, 2, P, D).
__device__ const long long* slot_addresses(const long long* table, int capacity, int row, int positions) {
    return table + HEADER + FIELDS * capacity + field(table, capacity, SEQUENCE, row) * positions;
}

// The address of a row's own key (which = 0) or value (1) in its slot.
__device__ weight_t* kv_address(const long long* table, int capacity, int row, int positions, int width, int layer,
                                int which) {
    const long long position = field(table, capacity, POSITION, row);
    weight_t* slot = (weight_t*)slot_addresses(table, capacity, row, positions)[position];
    return slot + ((2 * layer + which) * (size_t)positions + position) * width;
}

// One block per row: embeddings of tokens (V, D) and positions (P, D) -> x (R, D).
extern "C" __global__ void __launch_bounds__(THREADS)
embed(const long long* table, int capacity, const weight_t* tokens, const weight_t* positions, float* x,
      int width) {
    const int row = blockIdx.x;
    if (row >= row_count(table)) return;
    tokens += field(table, capacity, TOKEN, row) * width;
    positions += field(table, capacity, POSITION, row) * width;
    x += (size_t)row * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) x[i] = widen(tokens[i]) + widen(positions[i]);
}

// Write keys (R, D) and values (R, D) plus their bias (D,), computed by cuBLAS, to the slots of the rows. One block per
// row.
extern "C" __global__ void __launch_bounds__(THREADS)
write_kv(const long long* table, int capacity, const float* keys, const float* values, const weight_t* bias,
         int layer, int positions, int width) {
    const int row = blockIdx.x;
    if (row >= row_count(table)) return;
    weight_t* key = kv_address(table, capacity, row, positions, width, layer, 0);
    weight_t* value = kv_address(table, capacity, row, positions, width, layer, 1);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        key[i] = narrow(keys[(size_t)row * width + i]);
        value[i] = narrow(values[(size_t)row * width + i] + widen(bias[i]));
    }
}

// ------------------------------------------------------------------------------------------ products with few rows

struct LinearArguments {
    const weight_t *weight, *bias, *norm_weight, *norm_bias;  // all but the first may be null
    const float* residual;                                    // (R, O) or null
    float* y;                                                 // (R, O), if `kv` is negative
    const long long* table;
    int capacity, inner, outer, gelu, split, staged;
    int kv;  // 0 if the outputs are the rows' keys, 1 if values, which go to the slots
    int layer, positions;
    float eps;
};

// Mean and standard deviation of the rows of x (rows, I), into shared memory (2, ROWS_PER_PASS). One warp per row.
__device__ void norm_statistics(const float* x, int rows, int inner, float eps, float* into) {
    const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP;
    if (row < rows) {
        x += (size_t)row * inner;
        float sum = 0.0f;
        for (int i = lane; i < inner; i += WARP) sum += x[i];
        const float mean = warp_sum(sum) / inner;
        sum = 0.0f;
        for (int i = lane; i < inner; i += WARP) sum = fmaf(x[i] - mean, x[i] - mean, sum);
        sum = warp_sum(sum);
        if (lane == 0) {
            into[row] = mean;
            into[ROWS_PER_PASS + row] = sqrtf(sum / inner + eps);
        }
    }
    __syncthreads();
}

// Copy `count` columns of x (rows, I), normed if there are weights for it, to shared memory (ROWS, tile). The last row
// is repeated up to ROWS.
template <int ROWS>
__device__ void stage_rows(const LinearArguments& args, const float* x, int rows, int start, int count, int tile,
                           const float* statistics) {
    if (args.inner % 4) {
        for (int i = threadIdx.x; i < ROWS * count; i += THREADS) {
            const int row = i / count, k = i - row * count, source = min(row, rows - 1);
            float value = x[(size_t)source * args.inner + start + k];
            if (args.norm_weight)
                value = fmaf((value - statistics[source]) / statistics[ROWS_PER_PASS + source],
                             widen(args.norm_weight[start + k]), widen(args.norm_bias[start + k]));
            shared[row * tile + k] = value;
        }
        return;
    }
    const int fours = count / 4;
#pragma unroll 2
    for (int i = threadIdx.x; i < ROWS * fours; i += THREADS) {
        const int row = i / fours, k = 4 * (i - row * fours), source = min(row, rows - 1);
        float4 value = four(x + (size_t)source * args.inner + start + k);
        if (args.norm_weight) {
            const float mean = statistics[source], scale = 1.0f / statistics[ROWS_PER_PASS + source];
            const float4 weight = four(args.norm_weight + start + k), bias = four(args.norm_bias + start + k);
            value.x = fmaf((value.x - mean) * scale, weight.x, bias.x);
            value.y = fmaf((value.y - mean) * scale, weight.y, bias.y);
            value.z = fmaf((value.z - mean) * scale, weight.z, bias.z);
            value.w = fmaf((value.w - mean) * scale, weight.w, bias.w);
        }
        *reinterpret_cast<float4*>(shared + row * tile + k) = value;
    }
}

template <int ROWS>
__device__ void accumulate(const Vector* values, const float* staged, int tile, float (*sums)[ROWS]) {
#pragma unroll
    for (int v = 0; v < VECTOR / 4; v++) {
        float4 weights[OUTPUTS_PER_WARP];
#pragma unroll
        for (int o = 0; o < OUTPUTS_PER_WARP; o++) weights[o] = widen(values[o].parts[v]);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            const float4 input = four(staged + row * tile + 4 * v);
#pragma unroll
            for (int o = 0; o < OUTPUTS_PER_WARP; o++) sums[o][row] = dot(weights[o], input, sums[o][row]);
        }
    }
}

// Multiply up to ROWS rows of x by a matrix. Reading the matrix takes most of the time, so each of its values is read
// once for all rows. `split` warps share the sums of OUTPUTS_PER_WARP outputs, and each thread adds up a part of them.
// The rows, normed if there are weights for it, are copied to shared memory, as many columns at a time as fit. The
// first weights and the bias do not depend on x, so they are read before x.
template <int ROWS>
__device__ void linear_rows(const LinearArguments& args, const float* x, int first_row, int rows) {
    const int inner = args.inner, outer = args.outer, split = args.split;
    const int tile = min(inner, args.staged / ROWS / (VECTOR * WARP) * (VECTOR * WARP));
    float* const statistics = shared + args.staged;         // (2, ROWS_PER_PASS)
    float* const partial = statistics + 2 * ROWS_PER_PASS;  // (WARPS, OUTPUTS_PER_WARP · ROWS)
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int group = warp / split, part = warp % split, outputs_per_block = WARPS / split * OUTPUTS_PER_WARP;
    const bool aligned = inner % VECTOR == 0 && (size_t)args.weight % 16 == 0;
    const int begin = blockIdx.x * outputs_per_block, step = VECTOR * WARP * split;
    for (int first = begin; first < outer; first += gridDim.x * outputs_per_block) {
        const int output = first + group * OUTPUTS_PER_WARP;
        const int o = output + lane / ROWS, row = lane % ROWS;  // the output that this thread writes
        const bool finishes = part == 0 && lane < OUTPUTS_PER_WARP * ROWS && row < rows && o < outer;
        const int place = (first_row + row) * outer + o;
        const float bias = finishes && args.bias ? widen(args.bias[o]) : 0.0f;
        float sums[OUTPUTS_PER_WARP][ROWS] = {};
        for (int start = 0; start < inner; start += tile) {
            const int count = min(tile, inner - start);
            const weight_t* weights[OUTPUTS_PER_WARP];  // the last output is repeated, but written once
#pragma unroll
            for (int o = 0; o < OUTPUTS_PER_WARP; o++)
                weights[o] = args.weight + (size_t)min(output + o, outer - 1) * inner + start;
            const int vectors = aligned ? count / VECTOR * VECTOR : 0;
            int i = VECTOR * (part * WARP + lane);
            Vector values[OUTPUTS_PER_WARP];
            if (i < vectors)
#pragma unroll
                for (int o = 0; o < OUTPUTS_PER_WARP; o++) values[o] = load(weights[o] + i);
            if (first == begin || inner > tile) {  // otherwise they are still there
                if (args.norm_weight && first == begin && start == 0)
                    norm_statistics(x, rows, inner, args.eps, statistics);
                __syncthreads();
                stage_rows<ROWS>(args, x, rows, start, count, tile, statistics);
                __syncthreads();
            }
            if (i < vectors) accumulate<ROWS>(values, shared + i, tile, sums);
#pragma unroll(ROWS > 1 ? 1 : 4)  // what fits into registers
            for (i += step; i < vectors; i += step) {
#pragma unroll
                for (int o = 0; o < OUTPUTS_PER_WARP; o++) values[o] = load(weights[o] + i);
                accumulate<ROWS>(values, shared + i, tile, sums);
            }
            for (int i = vectors + part * WARP + lane; i < count; i += WARP * split)
#pragma unroll
                for (int row = 0; row < ROWS; row++)
#pragma unroll
                    for (int o = 0; o < OUTPUTS_PER_WARP; o++)
                        sums[o][row] = fmaf(widen(weights[o][i]), shared[row * tile + i], sums[o][row]);
        }
        const float residual = finishes && args.residual ? args.residual[place] : 0.0f;
        float sum_of_lane = 0.0f;
#pragma unroll
        for (int o = 0; o < OUTPUTS_PER_WARP; o++)
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                const float sum = warp_sum(sums[o][row]);
                if (lane == o * ROWS + row) sum_of_lane = sum;
            }
        if (split > 1) {
            __syncthreads();  // the partial sums of the previous outputs have been read
            if (lane < OUTPUTS_PER_WARP * ROWS) partial[warp * OUTPUTS_PER_WARP * ROWS + lane] = sum_of_lane;
            __syncthreads();
            if (part == 0 && lane < OUTPUTS_PER_WARP * ROWS)
                for (int other = 1; other < split; other++)
                    sum_of_lane += partial[(warp + other) * OUTPUTS_PER_WARP * ROWS + lane];
        }
        if (finishes) {
            sum_of_lane += bias;
            if (args.gelu) sum_of_lane = exact_gelu(sum_of_lane);
            if (args.kv < 0)
                args.y[place] = sum_of_lane + residual;
            else
                kv_address(args.table, args.capacity, first_row + row, args.positions, outer, args.layer, args.kv)[o] =
                    narrow(sum_of_lane);
        }
    }
}

// y = gelu(norm(x) Wᵀ + b) + residual: x (R, I), weight (O, I) -> y (R, O), which may be the residual. Norm, bias (O,),
// GELU and residual (R, O) are optional; pointers may be null. blockIdx.y counts groups of up to ROWS_PER_PASS rows. R
// is in the table, or 1 without one.
//
// With three blocks along z it computes the projections of self-attention: weight gives the queries, which go to y; key
// (O, I), value (O, I) and value_bias (O,) give the rows' keys and values, which go to their slots.
extern "C" __global__ void __launch_bounds__(THREADS, LINEAR_BLOCKS)
linear(const float* x, const weight_t* weight, const weight_t* bias, const weight_t* norm_weight,
       const weight_t* norm_bias, const float* residual, float* y, const long long* table, int capacity, int inner,
       int outer, int gelu, int split, int staged, float eps, const weight_t* key, const weight_t* value,
       const weight_t* value_bias, int layer, int positions) {
    const int which = blockIdx.z, first = blockIdx.y * ROWS_PER_PASS;
    const int rows = (capacity > 1 ? row_count(table) : 1) - first;
    const weight_t* const its_weight = which == 0 ? weight : which == 1 ? key : value;
    const weight_t* const its_bias = which == 0 ? bias : which == 1 ? nullptr : value_bias;
    const LinearArguments args = {its_weight, its_bias,  norm_weight, norm_bias, residual, y,
                                  table,      capacity,  inner,       outer,     gelu,     split,
                                  staged,     which - 1, layer,       positions, eps};
    x += (size_t)first * inner;
    if (rows == 1)
        linear_rows<1>(args, x, first, 1);
    else if (rows == 2)
        linear_rows<2>(args, x, first, 2);
    else if (rows >= 3 && rows <= 5)
        linear_rows<5>(args, x, first, rows);
    else if (rows > 5)
        linear_rows<ROWS_PER_PASS>(args, x, first, min(ROWS_PER_PASS, rows));
}

// ------------------------------------------------------------------------------------------ attention

// The buffers in shared memory of a block that computes the attention of some rows, for one head.
struct AttentionBuffers {
    float* queries;  // (rows, K), scaled
    float* highest;  // (rows,) of the scores
    float* sums;     // (rows,) of exp(score - highest)
    float* partial;  // (THREADS, 4)
    float* scores;   // (rows, CHUNK), then exp(score - highest)

    __device__ AttentionBuffers(int rows, int size)
        : queries(shared),
          highest(queries + rows * size),
          sums(highest + ROWS_PER_PASS),
          partial(sums + ROWS_PER_PASS),
          scores(partial + 4 * THREADS) {}
};

// Keys and values of a head: those of a sequence, where each position has its own slot, or those of a window.
struct SequenceKV {
    const long long* slots;  // addresses, from the first position of the chunk on
    size_t keys, values;     // offsets in a slot, for the first position of the chunk
    int width;
    __device__ const weight_t* key(int i) const { return (const weight_t*)slots[i] + keys + (size_t)i * width; }
    __device__ const weight_t* value(int i) const { return (const weight_t*)slots[i] + values + (size_t)i * width; }
};

struct WindowKV {
    const weight_t *keys, *values;
    int width;
    __device__ const weight_t* key(int i) const { return keys + (size_t)i * width; }
    __device__ const weight_t* value(int i) const { return values + (size_t)i * width; }
};

// softmax(Q Kᵀ) V of a head over `count` positions: queries (rows, D), from the head's first value on -> out
// (rows, K + 2), with `stride` values between rows: the weighted sum before division, the highest score, and the sum of
// exp(score - highest).
template <int MAX_ROWS, class Source>
__device__ void attend_chunk(const Source& source, const float* queries, int width, float* out, int rows, int count,
                             int size, int stride) {
    constexpr int PARTS = MAX_HEAD_WIDTH / (4 * TEAM);  // of a key; a thread has four consecutive values of each
    const AttentionBuffers buffers(rows, size);
    const float scale = 1.0f / sqrtf(size);
    for (int i = threadIdx.x; i < rows * size; i += THREADS)
        buffers.queries[i] = queries[(size_t)(i / size) * width + i % size] * scale;
    __syncthreads();

    const int member = threadIdx.x % TEAM, team = threadIdx.x / TEAM;
    for (int first = 0; first < count; first += THREADS / TEAM) {  // the same passes for all threads: warps add up
        const int position = first + team;
        const weight_t* key = source.key(min(position, count - 1));
        float4 parts[PARTS];
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int k = 4 * (part * TEAM + member);
            parts[part] = k < size ? four(key + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        for (int row = 0; row < rows; row++) {
            float sum = 0.0f;
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int k = 4 * (part * TEAM + member);
                if (k < size) sum = dot(parts[part], four(buffers.queries + row * size + k), sum);
            }
#pragma unroll
            for (int other = TEAM / 2; other > 0; other /= 2) sum += __shfl_xor_sync(FULL_MASK, sum, other);
            if (member == 0 && position < count) buffers.scores[row * CHUNK + position] = sum;
        }
    }
    __syncthreads();

    for (int row = threadIdx.x / WARP; row < rows; row += WARPS) {  // one warp per row
        float* scores = buffers.scores + row * CHUNK;
        const int lane = threadIdx.x % WARP;
        float highest = scores[0];
        for (int i = lane; i < count; i += WARP) highest = fmaxf(highest, scores[i]);
        highest = warp_max(highest);
        float sum = 0.0f;
        for (int i = lane; i < count; i += WARP) {
            scores[i] = expf(scores[i] - highest);
            sum += scores[i];
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            buffers.highest[row] = highest;
            buffers.sums[row] = sum;
        }
    }
    __syncthreads();

    const int fours = size / 4, groups = THREADS / fours;  // a thread has four values of every groups-th position
    const int group = threadIdx.x / fours, k = 4 * (threadIdx.x % fours);
    float4 sums[MAX_ROWS] = {};
    if (group < groups)
        for (int position = group; position < count; position += groups) {
            const float4 value = four(source.value(position) + k);
#pragma unroll
            for (int row = 0; row < MAX_ROWS; row++)
                if (row < rows) {
                    const float weight = buffers.scores[row * CHUNK + position];
                    sums[row].x = fmaf(weight, value.x, sums[row].x);
                    sums[row].y = fmaf(weight, value.y, sums[row].y);
                    sums[row].z = fmaf(weight, value.z, sums[row].z);
                    sums[row].w = fmaf(weight, value.w, sums[row].w);
                }
        }
#pragma unroll
    for (int row = 0; row < MAX_ROWS; row++)
        if (row < rows) {  // the same for all threads
            __syncthreads();
            *reinterpret_cast<float4*>(buffers.partial + 4 * threadIdx.x) = sums[row];
            __syncthreads();
            if (threadIdx.x < size) {
                float sum = 0.0f;
                for (int i = 0; i < groups; i++) sum += buffers.partial[i * size + threadIdx.x];
                out[(size_t)row * stride + threadIdx.x] = sum;
            } else if (threadIdx.x == size) {
                out[(size_t)row * stride + size] = buffers.highest[row];
                out[(size_t)row * stride + size + 1] = buffers.sums[row];
            }
        }
}

// Return whether this is the last of `count` blocks to get here. If so, it can read the results of the others,
// bypassing the L1 cache.
__device__ bool is_last(int* counter, int count) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const bool last = atomicAdd(counter, 1) == count - 1;
        if (last) *counter = 0;  // for the next launch
        shared[0] = last;
    }
    __syncthreads();
    const bool last = shared[0] != 0.0f;
    if (last) __threadfence();
    return last;
}

// Combine the chunks of a row and head: partial (chunks, K + 2) -> out (K,).
__device__ void combine_chunks(const float* partial, float* out, int chunks, int size) {
    const int entry = size + 2, k = threadIdx.x;
    if (k >= size) return;
    float highest = __ldcg(partial + size);
    for (int chunk = 1; chunk < chunks; chunk++) highest = fmaxf(highest, __ldcg(partial + chunk * entry + size));
    float sum = 0.0f, mixed = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const float* chunk_partial = partial + chunk * entry;
        const float scale = expf(__ldcg(chunk_partial + size) - highest);
        sum = fmaf(__ldcg(chunk_partial + size + 1), scale, sum);
        mixed = fmaf(__ldcg(chunk_partial + k), scale, mixed);
    }
    out[k] = mixed / sum;
}

// Self-attention of rows to their sequences up to themselves: queries (R, D) -> out (R, D). One block per chunk of
// positions, head and row; the last one of a head and row combines the chunks. partial (R, H, chunks, K + 2) is
// uninitialised, counters (R · H,) have to be 0.
extern "C" __global__ void __launch_bounds__(THREADS)
self_attention(const float* queries, const long long* table, int capacity, float* partial, int* counters,
               float* out, int heads, int size, int layer, int positions) {
    const int start = blockIdx.x * CHUNK, head = blockIdx.y, row = blockIdx.z, width = heads * size;
    if (row >= row_count(table)) return;
    const int count = (int)field(table, capacity, POSITION, row) + 1;
    if (start >= count) return;
    const size_t keys = (2 * layer * (size_t)positions + start) * width + head * size;
    const SequenceKV sequence = {slot_addresses(table, capacity, row, positions) + start, keys,
                                 keys + (size_t)positions * width, width};
    const size_t begin = (size_t)row * width + head * size;
    const int chunks = (count + CHUNK - 1) / CHUNK, counter = row * heads + head;
    partial += (size_t)counter * gridDim.x * (size + 2);
    attend_chunk<1>(sequence, queries + begin, width, partial + blockIdx.x * (size + 2), 1, min(CHUNK, count - start),
                    size, 0);
    if (is_last(counters + counter, chunks)) combine_chunks(partial, out + begin, chunks, size);
}

// Cross-attention of rows to their windows: queries (R, D), keys and values (L, 2, T, D) of a window -> out (R, D). One
// block per chunk of positions, head and group of up to ROWS_PER_PASS rows of a window, so that the window is read once
// for the group; otherwise as above.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_attention(const float* queries, const long long* table, int capacity, float* partial, int* counters,
                float* out, int heads, int size, int layer, int positions) {
    const int start = blockIdx.x * CHUNK, head = blockIdx.y, group = blockIdx.z, width = heads * size;
    if (group >= (int)table[GROUPS_AT]) return;
    const int row = (int)field(table, capacity, FIRST_ROW, group), rows = (int)field(table, capacity, ROW_COUNT, group);
    const weight_t* keys = (const weight_t*)field(table, capacity, CROSS_KV, group);
    keys += (2 * layer * (size_t)positions + start) * width + head * size;
    const WindowKV window = {keys, keys + (size_t)positions * width, width};
    const int chunks = gridDim.x, entry = size + 2, stride = heads * chunks * entry;
    const size_t begin = (size_t)row * width + head * size;
    partial += (size_t)row * stride + head * chunks * entry;
    float* chunk_partial = partial + blockIdx.x * entry;
    const int count = min(CHUNK, positions - start);
    if (rows == 1)
        attend_chunk<1>(window, queries + begin, width, chunk_partial, rows, count, size, stride);
    else
        attend_chunk<ROWS_PER_PASS>(window, queries + begin, width, chunk_partial, rows, count, size, stride);
    if (is_last(counters + row * heads + head, chunks))
        for (int i = 0; i < rows; i++)
            combine_chunks(partial + (size_t)i * stride, out + begin + (size_t)i * width, chunks, size);
}

// ------------------------------------------------------------------------------------------ choosing tokens

// The tokens that a choice may take: LogitFilters of decoding/logit_filters.py for one row. Ids of text come first,
// then those of timestamps.
struct Allowed {
    const int *suppressed, *blank;  // one bit per token; the second is null after the first generated token
    int text_from, text_to, times_from, times_to, never;

    __device__ bool in(const int* bits, int token) const { return bits[token / 32] >> (token % 32) & 1; }
    __device__ bool operator()(int token) const {
        const bool inside = token < text_to ? token >= text_from : token >= times_from && token < times_to;
        return inside && token != never && !in(suppressed, token) && !(blank && in(blank, token));
    }
};

// The highest value and its token; of equal values, the first token.
struct Best {
    float value;
    int token;

    __device__ void update(float other, int id) {
        if (other > value || (other == value && (unsigned)id < (unsigned)token)) {
            value = other;
            token = id;
        }
    }
};

__device__ Best block_best(Best mine) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        const float value = __shfl_xor_sync(FULL_MASK, mine.value, offset);
        const int token = __shfl_xor_sync(FULL_MASK, mine.token, offset);
        mine.update(value, token);
    }
    int* const tokens = (int*)shared + WARPS;
    __syncthreads();
    if (threadIdx.x % WARP == 0) {
        shared[threadIdx.x / WARP] = mine.value;
        tokens[threadIdx.x / WARP] = mine.token;
    }
    __syncthreads();
    for (int warp = 0; warp < WARPS; warp++) mine.update(shared[warp], tokens[warp]);
    return mine;
}

// The sum over a block's threads, and for each thread the sum over the threads before it.
struct Scan {
    double before, sum;
};

__device__ Scan block_scan(double value) {
    double* const sums = (double*)shared;  // (THREADS,), each including the threads before it
    __syncthreads();
    sums[threadIdx.x] = value;
    for (int offset = 1; offset < THREADS; offset *= 2) {
        __syncthreads();
        const double other = threadIdx.x >= offset ? sums[threadIdx.x - offset] : 0.0;
        __syncthreads();
        sums[threadIdx.x] += other;
    }
    __syncthreads();
    const Scan scan = {threadIdx.x ? sums[threadIdx.x - 1] : 0.0, sums[THREADS - 1]};
    __syncthreads();
    return scan;
}

// The results of a block for its slice of the vocabulary; separate for text and for timestamps.
struct SlicePart {
    float best;  // the highest logit
    int token;   // its token, or -1
    float sum;   // of exp(logit - highest)
    float unused;
    double sample_sum;  // of exp((logit - highest) / temperature)
};

struct Slice {
    SlicePart parts[2];
    float values[2][MAX_TOP];  // the highest logits
    int tokens[2][MAX_TOP];    // and their tokens
};

// A choice, made by SLICES blocks.
struct Choice {
    const float* logits;
    Allowed allowed;
    int vocabulary, first, slice, kind, top;  // first: the first timestamp
    double temperature;

    __device__ int slice_begin(int number) const { return min(vocabulary, number * slice); }
    // The tokens of a slice that are text (part = 0) or timestamps (1).
    __device__ int begin(int number, int part) const {
        const int from = slice_begin(number);
        return part ? max(from, min(first, slice_begin(number + 1))) : from;
    }
    __device__ int end(int number, int part) const {
        const int to = slice_begin(number + 1);
        return part ? to : max(slice_begin(number), min(to, first));
    }
    __device__ bool counts(int token) const { return kind == PROBE || allowed(token); }
    __device__ double sample_weight(float logit, float highest) const {
        return exp(((double)logit - highest) / temperature);
    }
};

// Compute a slice's results for text (part = 0) or timestamps (1).
__device__ void scan_slice(const Choice& choice, int number, int part, Slice* into) {
    const int begin = choice.begin(number, part), end = choice.end(number, part);
    Best best = {-infinity(), -1};
    for (int token = begin + threadIdx.x; token < end; token += THREADS)
        if (choice.counts(token)) best.update(choice.logits[token], token);
    best = block_best(best);
    float sum = 0.0f;
    double sample_sum = 0.0;
    for (int token = begin + threadIdx.x; token < end; token += THREADS)
        if (choice.counts(token)) {
            sum += expf(choice.logits[token] - best.value);
            if (choice.kind == SAMPLE) sample_sum += choice.sample_weight(choice.logits[token], best.value);
        }
    sum = block_sum(sum);
    if (choice.kind == SAMPLE) sample_sum = block_scan(sample_sum).sum;
    if (threadIdx.x == 0) into->parts[part] = {best.value, best.token, sum, 0.0f, sample_sum};
    for (int i = 0; i < choice.top; i++) {
        if (threadIdx.x == 0) {
            into->values[part][i] = best.value;
            into->tokens[part][i] = best.token;
        }
        if (i + 1 == choice.top || best.token < 0) {  // the same for all threads
            if (threadIdx.x == 0 && i + 1 < choice.top) into->tokens[part][i + 1] = -1;
            break;
        }
        Best next = {-infinity(), -1};
        for (int token = begin + threadIdx.x; token < end; token += THREADS) {
            const float value = choice.logits[token];
            if ((value < best.value || (value == best.value && token > best.token)) && choice.counts(token))
                next.update(value, token);
        }
        best = block_best(next);
    }
}

// Read a value that another block has written, bypassing the L1 cache.
__device__ int read_uncached(const int* at) { return __float_as_int(__ldcg((const float*)at)); }
__device__ double read_uncached(const double* at) {
    const int* halves = (const int*)at;
    return __longlong_as_double((long long)read_uncached(halves + 1) << 32 | (unsigned)read_uncached(halves));
}

// Sample a token: the first at which the running sum of exp((logit - highest) / temperature) exceeds `draw` times the
// sum of all.
__device__ int sample_token(const Choice& choice, const Slice* slices, float highest, bool only_times, double draw) {
    // After the buffer of block_scan: the index of a slice and part, and the sum to reach in it.
    double* const found = (double*)shared + THREADS;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int pass = 0; pass < 2; pass++) {
            const double wanted = draw * total;
            double reached = 0.0;
            found[0] = -1.0;
            for (int i = 0; i < 2 * SLICES; i++) {
                if (only_times && i % 2 == 0) continue;
                const SlicePart* part = slices[i / 2].parts + i % 2;
                if (read_uncached(&part->token) < 0) continue;
                const double weight =
                    read_uncached(&part->sample_sum) * choice.sample_weight(__ldcg(&part->best), highest);
                if (pass) {
                    found[0] = i;  // or the last part, if rounding takes the sum past all of them
                    found[1] = wanted - reached;
                    if (reached + weight > wanted) break;
                }
                reached += weight;
            }
            total = reached;
        }
    }
    __syncthreads();
    const int place = (int)found[0];
    const double wanted = found[1];
    if (place < 0) return -1;
    const int from = choice.begin(place / 2, place % 2), to = choice.end(place / 2, place % 2);
    const int each = (to - from + THREADS - 1) / THREADS;
    const int begin = min(to, from + (int)threadIdx.x * each), end = min(to, begin + each);
    double sum = 0.0;
    int last = -1;
    for (int token = begin; token < end; token++)
        if (choice.counts(token)) {
            sum += choice.sample_weight(choice.logits[token], highest);
            last = token;
        }
    const double before = block_scan(sum).before;
    Best latest = {last < 0 ? -infinity() : (float)last, last};  // the token if rounding takes the sum past all of them
    latest = block_best(latest);
    int* const drawn = (int*)(found + 2);
    __syncthreads();
    if (threadIdx.x == 0) *drawn = latest.token;
    __syncthreads();
    if (before <= wanted && wanted < before + sum) {
        double reached = before;
        for (int token = begin; token < end; token++)
            if (choice.counts(token)) {
                reached += choice.sample_weight(choice.logits[token], highest);
                last = token;
                if (reached > wanted) break;
            }
        *drawn = last;
    }
    __syncthreads();
    return *drawn;
}

// Choose tokens: logits (N, V) -> out (choices, top, 2), tokens and the bits of their log-probabilities as int32. It
// does the work of LogitFilters, log_softmax and a KernelSampler of decoding/search.py. The table describes each
// choice. A probe chooses no token but returns the probability of one. If ADVANCE_AT is set, a choice becomes the next
// token of its row in the table. SLICES blocks per choice compute slices (choices, SLICES), and the last one combines
// them.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
choose_tokens(const float* logits, long long* table, int capacity, int vocabulary, int* slices_of_all,
              int* counters, int* out) {
    const int number = blockIdx.y;
    if (number >= (int)table[CHOICES_AT]) return;
    const int top = (int)table[TOP_AT];
    const int* filters = (const int*)field(table, capacity, FILTERS, number);
    const int eot = filters[0], has_timestamps = filters[1], no_timestamps = filters[2], max_initial = filters[4];
    const int words = (vocabulary + 31) / 32;
    const int generated = (int)field(table, capacity, GENERATED, number);
    const int last = (int)field(table, capacity, LAST, number);
    const int previous = (int)field(table, capacity, PREVIOUS, number);
    const int last_timestamp = (int)field(table, capacity, LAST_TIMESTAMP, number);
    Choice choice;
    choice.logits = logits + field(table, capacity, LOGITS_ROW, number) * vocabulary;
    choice.kind = (int)field(table, capacity, KIND, number);
    choice.vocabulary = vocabulary;
    choice.first = has_timestamps && choice.kind != PROBE ? filters[3] : vocabulary;
    choice.slice = (vocabulary + SLICES - 1) / SLICES;
    choice.top = choice.kind == TOP_K ? top : 1;
    choice.temperature = __longlong_as_double(field(table, capacity, TEMPERATURE, number));
    const int first = choice.first;

    choice.allowed = {filters + 8, generated ? nullptr : filters + 8 + words, 0, first, first, vocabulary, -1};
    if (first < vocabulary) {
        choice.allowed.never = no_timestamps;
        const bool at_time = generated && last >= first;
        const bool opened = at_time && (generated < 2 || previous >= first), closed = at_time && !opened;
        if (!generated) {  // open the first segment
            choice.allowed.text_from = first;
            if (max_initial >= 0) choice.allowed.times_to = min(vocabulary, first + max_initial + 1);
        } else {
            if (opened) choice.allowed.times_from = vocabulary;  // text must follow
            if (closed) choice.allowed.text_from = eot;          // the next segment opens, or the text ends
            if (!opened && last_timestamp >= first) choice.allowed.times_from = last_timestamp + (closed ? 0 : 1);
        }
    }

    Slice* const slices = (Slice*)slices_of_all + (size_t)number * SLICES;
    for (int part = 0; part < 2; part++) scan_slice(choice, blockIdx.x, part, slices + blockIdx.x);
    if (!is_last(counters + number, SLICES)) return;

    Best best[2];  // of text, of timestamps
    for (int part = 0; part < 2; part++) {
        best[part] = {-infinity(), -1};
        for (int i = 0; i < SLICES; i++)
            best[part].update(__ldcg(&slices[i].parts[part].best), read_uncached(&slices[i].parts[part].token));
    }
    const float highest = fmaxf(best[0].value, best[1].value);
    float sums[2] = {0.0f, 0.0f};
    for (int part = 0; part < 2; part++)
        for (int i = 0; i < SLICES; i++) {
            const SlicePart* one = slices[i].parts + part;
            const float sum = __ldcg(&one->sum);
            if (sum != 0.0f) sums[part] += sum * expf(__ldcg(&one->best) - highest);
        }
    float* const values = (float*)out + (size_t)number * top * 2;
    out += (size_t)number * top * 2;
    if (choice.kind == PROBE) {
        const int token = (int)field(table, capacity, PROBE_TOKEN, number);
        if (threadIdx.x == 0) {
            out[0] = token;
            values[1] = expf(choice.logits[token] - highest) / sums[0];
        }
        return;
    }
    // If timestamps together are more likely than every single text token, only a timestamp may be chosen.
    const bool only_times = first < vocabulary && generated && sums[1] > expf(best[0].value - highest);
    const float total = only_times ? sums[1] : sums[0] + sums[1], offset = highest + logf(total);
    // If no token is allowed, choose the end, with probability 1.
    const bool none_allowed = best[0].token < 0 && best[1].token < 0 && total == 0.0f;

    Best chosen = only_times || best[1].value > best[0].value ? best[1] : best[0];
    int token = none_allowed || chosen.token < 0 ? eot : chosen.token;
    if (choice.kind == SAMPLE && !none_allowed) {
        const double draw = __longlong_as_double(field(table, capacity, DRAW, number));
        token = sample_token(choice, slices, only_times ? best[1].value : highest, only_times, draw);
        token = token < 0 ? eot : token;
        chosen.value = choice.logits[token];
    }
    for (int i = 0; i < top; i++) {
        if (i > 0) {
            Best next = {-infinity(), -1};
            for (int j = threadIdx.x; j < 2 * SLICES * choice.top && choice.top > 1; j += THREADS) {
                const int part = j % 2, place = j / 2 % choice.top;
                const Slice& slice = slices[j / (2 * choice.top)];
                bool there = !only_times || part;
                for (int k = 0; k <= place && there; k++)
                    there = read_uncached(&slice.tokens[part][k]) >= 0;  // the list has not ended
                if (!there) continue;
                const float value = __ldcg(&slice.values[part][place]);
                const int where = read_uncached(&slice.tokens[part][place]);
                if (value < chosen.value || (value == chosen.value && where > chosen.token)) next.update(value, where);
            }
            chosen = block_best(next);
        }
        if (threadIdx.x == 0) {
            out[2 * i] = i == 0 ? token : chosen.token < 0 ? eot : chosen.token;
            values[2 * i + 1] = none_allowed ? (i ? -infinity() : 0.0f) : chosen.value - offset;
        }
    }
    if (table[ADVANCE_AT] && threadIdx.x == 0) {
        long long* fields = table + HEADER + number;
        fields[TOKEN * capacity] = token;
        fields[POSITION * capacity] += 1;
        fields[GENERATED * capacity] += 1;
        fields[PREVIOUS * capacity] = last;
        fields[LAST * capacity] = token;
        if (first < vocabulary && token >= first) fields[LAST_TIMESTAMP * capacity] = token;
    }
}
