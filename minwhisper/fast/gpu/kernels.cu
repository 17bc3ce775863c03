// The kernels of the GPU engine: everything that is not a large matrix product, which is left to cuBLAS.
//
// Everything is row-major, and shapes are by the letters of layers.py. Activations are float. Weights, keys and values
// are weight_t, float or, with -DHALF, half: they are widened as they are read, and all arithmetic is in float.
//
// While decoding, a row is one token of one sequence at one position; R is the number of rows. A step of the decoder is
// one CUDA graph that is replayed for every token, so nothing here allocates, and everything that changes from step to
// step is read from a table in the GPU's memory (see gpu_table.py): how many rows there are, their tokens and
// positions, and the addresses of the keys and values that they attend to. Kernels are launched for `capacity` rows,
// and blocks of rows that are not there return at once.
//
// Sums are taken in a fixed order: the same input gives the same bits.
//
// gpu_kernels.py puts the constants before this text: those of GELU from layers.py, the layout of the table, and those
// by which it chooses grids and shared memory.

#ifdef HALF
#include <cuda_fp16.h>
typedef __half weight_t;
#else
typedef float weight_t;
#endif

constexpr int WARP = 32;
constexpr int WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffff;           // of a warp's threads
constexpr int TEAM = 8;                        // threads that compare a query with a key
constexpr int VECTOR = 16 / sizeof(weight_t);  // values of a weight that one load of 16 bytes brings

// Its size in bytes is given at the launch. Four values at a time are read from it.
extern __shared__ __align__(16) float shared[];

// ------------------------------------------------------------------------------------------ values

__device__ float widen(float x) { return x; }

#ifdef HALF
__device__ float widen(__half x) { return __half2float(x); }

struct __align__(8) Halves {
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

// Four values in one load; their address has to be a multiple of their size.
__device__ float4 four(const float* at) { return *reinterpret_cast<const float4*>(at); }

#ifdef HALF
__device__ float4 widen(const Halves& read) {
    return make_float4(widen(read.x), widen(read.y), widen(read.z), widen(read.w));
}

__device__ float4 four(const __half* at) { return widen(*reinterpret_cast<const Halves*>(at)); }
#endif

// VECTOR values of a weight, from an address that is a multiple of 16, in one load.
#ifdef HALF
typedef Halves Quad;
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

// The exact GELU, as in layers.py: x/2 (1 + tanh(x p(x²))).
__device__ float exact_gelu(float x) {
    const float coefficients[] = GELU_COEFFICIENTS;
    constexpr int count = sizeof(coefficients) / sizeof(float);
    const float square = fminf(x * x, GELU_LIMIT);
    float p = coefficients[count - 1];
#pragma unroll
    for (int i = count - 2; i >= 0; i--) p = fmaf(p, square, coefficients[i]);
    return 0.5f * x * (1.0f + tanhf(x * p));
}

// ------------------------------------------------------------------------------------------ threads together

__device__ float warp_sum(float value) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(ALL, value, apart);
    return value;
}

__device__ float warp_max(float value) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) value = fmaxf(value, __shfl_xor_sync(ALL, value, apart));
    return value;
}

// Of a block's threads; each gets it. `shared` has to hold a float per warp, and may be in use before the call.
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

// ------------------------------------------------------------------------------------------ around the products

// A block per row: x (N, D), weight (D,), bias (D,) -> out (N, D), which may be x.
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

// A thread per value: x (…, F) of `size` values becomes gelu(x + bias) + residual, with or without GELU; bias (F,) and
// residual (size,), which has the dtype of the weights, may be null.
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

// A block per row of scores (…, T), in place.
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

// A thread per value of columns (⌈T / stride⌉, I, 3): what each output of a convolution with kernel 3 and a zero of
// padding at both ends sees. The input (T, I) is `by_time` and `by_channel` values apart.
extern "C" __global__ void __launch_bounds__(THREADS)
im2col(const float* x, float* columns, int length, int channels, int stride, int by_time, int by_channel, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int time = i / (3 * channels) * stride + i % 3 - 1, channel = i / 3 % channels;
    columns[i] = time < 0 || time >= length ? 0.0f : x[(size_t)time * by_time + (size_t)channel * by_channel];
}

// A thread per value: out = x + bias in the dtype of the weights. x (…, F) of `size` values, bias (F,) or null.
extern "C" __global__ void __launch_bounds__(THREADS)
add_bias_cast(const float* x, const weight_t* bias, weight_t* out, int width, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) out[i] = narrow(x[i] + (bias ? widen(bias[i % width]) : 0.0f));
}

// A thread per value: a weight of `size` values in float.
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

// Where the keys and values of a row's sequence are: for each position the address of an array (L, 2, P, D).
__device__ const long long* slot_addresses(const long long* table, int capacity, int row, int positions) {
    return table + HEADER + FIELDS * capacity + field(table, capacity, SEQUENCE, row) * positions;
}

// Where a row's own key (which = 0) or value (1) is kept.
__device__ weight_t* kv_address(const long long* table, int capacity, int row, int positions, int width, int layer,
                               int which) {
    const long long position = field(table, capacity, POSITION, row);
    weight_t* slot = (weight_t*)slot_addresses(table, capacity, row, positions)[position];
    return slot + ((2 * layer + which) * (size_t)positions + position) * width;
}

// A block per row: table of tokens (V, D), positions (P, D) -> x (R, D).
extern "C" __global__ void __launch_bounds__(THREADS)
embed(const long long* table, int capacity, const weight_t* tokens, const weight_t* positions, float* x, int width) {
    const int row = blockIdx.x;
    if (row >= row_count(table)) return;
    tokens += field(table, capacity, TOKEN, row) * width;
    positions += field(table, capacity, POSITION, row) * width;
    x += (size_t)row * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) x[i] = widen(tokens[i]) + widen(positions[i]);
}

// A block per row, for rows whose products cuBLAS has computed: keys (R, D) and values (R, D) without their bias (D,)
// into the places of the rows.
extern "C" __global__ void __launch_bounds__(THREADS)
write_kv(const long long* table, int capacity, const float* keys, const float* values, const weight_t* bias, int layer,
         int positions, int width) {
    const int row = blockIdx.x;
    if (row >= row_count(table)) return;
    weight_t* key = kv_address(table, capacity, row, positions, width, layer, 0);
    weight_t* value = kv_address(table, capacity, row, positions, width, layer, 1);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        key[i] = narrow(keys[(size_t)row * width + i]);
        value[i] = narrow(values[(size_t)row * width + i] + widen(bias[i]));
    }
}

// ------------------------------------------------------------------------------------------ products of few rows

struct Product {
    const weight_t *weight, *bias, *norm_weight, *norm_bias;  // all but the first may be null
    const float* residual;                                    // (R, O) or null
    float* y;                                                 // (R, O), if `keep` is negative
    const long long* table;
    int capacity, inner, outer, gelu, split, staged;
    int keep;  // 0: the outputs are the rows' keys, and 1: their values, which go to their places
    int layer, positions;
    float eps;
};

// The mean and the deviation of rows of x (rows, I), a warp per row, into shared memory: (2, ROWS_PER_PASS).
__device__ void moments(const float* x, int rows, int inner, float eps, float* into) {
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

// Part of the rows of x (rows, I), normed if there are weights for it, into shared memory: (ROWS, tile). Beyond the
// last row comes the last one again.
template <int ROWS>
__device__ void stage(const Product& its, const float* x, int rows, int start, int count, int tile,
                      const float* statistics) {
    if (its.inner % 4) {
        for (int i = threadIdx.x; i < ROWS * count; i += THREADS) {
            const int row = i / count, k = i - row * count, mine = min(row, rows - 1);
            float value = x[(size_t)mine * its.inner + start + k];
            if (its.norm_weight)
                value = fmaf((value - statistics[mine]) / statistics[ROWS_PER_PASS + mine], widen(its.norm_weight[start + k]),
                             widen(its.norm_bias[start + k]));
            shared[row * tile + k] = value;
        }
        return;
    }
    const int fours = count / 4;
#pragma unroll 2
    for (int i = threadIdx.x; i < ROWS * fours; i += THREADS) {
        const int row = i / fours, k = 4 * (i - row * fours), mine = min(row, rows - 1);
        float4 value = four(x + (size_t)mine * its.inner + start + k);
        if (its.norm_weight) {
            const float mean = statistics[mine], scale = 1.0f / statistics[ROWS_PER_PASS + mine];
            const float4 weight = four(its.norm_weight + start + k), bias = four(its.norm_bias + start + k);
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
        float4 ours[OUTPUTS_PER_WARP];
#pragma unroll
        for (int o = 0; o < OUTPUTS_PER_WARP; o++) ours[o] = widen(values[o].parts[v]);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            const float4 theirs = four(staged + row * tile + 4 * v);
#pragma unroll
            for (int o = 0; o < OUTPUTS_PER_WARP; o++) sums[o][row] = dot(ours[o], theirs, sums[o][row]);
        }
    }
}

// Up to ROWS rows of x times a matrix: reading the matrix takes the time, so each of its values is read once for all of
// the rows. `split` warps share the sums of OUTPUTS_PER_WARP outputs, each thread a part of them. The rows, normed if there are
// weights for it, wait in shared memory, as much of them as there is room for; beyond the last row, the last. What does
// not depend on x, the first values of the weights and the bias, is read before it.
template <int ROWS>
__device__ void multiply(const Product& its, const float* x, int first_row, int rows) {
    const int inner = its.inner, outer = its.outer, split = its.split;
    const int tile = min(inner, its.staged / ROWS / (VECTOR * WARP) * (VECTOR * WARP));
    float* const statistics = shared + its.staged;  // (2, ROWS_PER_PASS)
    float* const partial = statistics + 2 * ROWS_PER_PASS;  // (WARPS, OUTPUTS_PER_WARP · ROWS)
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int group = warp / split, part = warp % split, together = WARPS / split * OUTPUTS_PER_WARP;
    const bool aligned = inner % VECTOR == 0 && (size_t)its.weight % 16 == 0;
    const int begin = blockIdx.x * together, step = VECTOR * WARP * split;
    for (int first = begin; first < outer; first += gridDim.x * together) {
        const int output = first + group * OUTPUTS_PER_WARP;
        const int o = output + lane / ROWS, row = lane % ROWS;  // the output that this thread finishes
        const bool finishes = part == 0 && lane < OUTPUTS_PER_WARP * ROWS && row < rows && o < outer;
        const int place = (first_row + row) * outer + o;
        const float bias = finishes && its.bias ? widen(its.bias[o]) : 0.0f;
        float sums[OUTPUTS_PER_WARP][ROWS] = {};
        for (int start = 0; start < inner; start += tile) {
            const int count = min(tile, inner - start);
            const weight_t* of[OUTPUTS_PER_WARP];  // beyond the last output, the last: computed, and not written
#pragma unroll
            for (int o = 0; o < OUTPUTS_PER_WARP; o++) of[o] = its.weight + (size_t)min(output + o, outer - 1) * inner + start;
            const int vectors = aligned ? count / VECTOR * VECTOR : 0;
            int i = VECTOR * (part * WARP + lane);
            Vector values[OUTPUTS_PER_WARP];
            if (i < vectors)
#pragma unroll
                for (int o = 0; o < OUTPUTS_PER_WARP; o++) values[o] = load(of[o] + i);
            if (first == begin || inner > tile) {  // otherwise they are there
                if (its.norm_weight && first == begin && start == 0) moments(x, rows, inner, its.eps, statistics);
                __syncthreads();
                stage<ROWS>(its, x, rows, start, count, tile, statistics);
                __syncthreads();
            }
            if (i < vectors) accumulate<ROWS>(values, shared + i, tile, sums);
#pragma unroll(ROWS > 1 ? 1 : 4)  // what the registers hold
            for (i += step; i < vectors; i += step) {
#pragma unroll
                for (int o = 0; o < OUTPUTS_PER_WARP; o++) values[o] = load(of[o] + i);
                accumulate<ROWS>(values, shared + i, tile, sums);
            }
            for (int i = vectors + part * WARP + lane; i < count; i += WARP * split)
#pragma unroll
                for (int row = 0; row < ROWS; row++)
#pragma unroll
                    for (int o = 0; o < OUTPUTS_PER_WARP; o++)
                        sums[o][row] = fmaf(widen(of[o][i]), shared[row * tile + i], sums[o][row]);
        }
        const float residual = finishes && its.residual ? its.residual[place] : 0.0f;
        float mine = 0.0f;
#pragma unroll
        for (int o = 0; o < OUTPUTS_PER_WARP; o++)
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                const float sum = warp_sum(sums[o][row]);
                if (lane == o * ROWS + row) mine = sum;
            }
        if (split > 1) {
            __syncthreads();  // the partial sums of the outputs before have been read
            if (lane < OUTPUTS_PER_WARP * ROWS) partial[warp * OUTPUTS_PER_WARP * ROWS + lane] = mine;
            __syncthreads();
            if (part == 0 && lane < OUTPUTS_PER_WARP * ROWS)
                for (int other = 1; other < split; other++) mine += partial[(warp + other) * OUTPUTS_PER_WARP * ROWS + lane];
        }
        if (finishes) {
            mine += bias;
            if (its.gelu) mine = exact_gelu(mine);
            if (its.keep < 0)
                its.y[place] = mine + residual;
            else
                kv_address(its.table, its.capacity, first_row + row, its.positions, outer, its.layer, its.keep)[o] =
                    narrow(mine);
        }
    }
}

// x (R, I), which norm_weight (I,) and norm_bias (I,) norm first if they are not null, weight (O, I), bias (O,) or null,
// residual (R, O) or null -> y (R, O), which may be the residual: y = gelu(x Wᵀ + b) + residual, with or without GELU.
// blockIdx.y counts groups of up to ROWS_PER_PASS rows. R is in the table, or 1 without one.
//
// With three blocks along z, these are the projections of self-attention: weight is that of the queries, which go to y,
// and key (O, I) and value (O, I), value_bias (O,) give the rows' keys and values, which go to their places.
extern "C" __global__ void __launch_bounds__(THREADS, LINEAR_BLOCKS)
linear(const float* x, const weight_t* weight, const weight_t* bias, const weight_t* norm_weight,
       const weight_t* norm_bias, const float* residual, float* y, const long long* table, int capacity, int inner,
       int outer, int gelu, int split, int staged, float eps, const weight_t* key, const weight_t* value,
       const weight_t* value_bias, int layer, int positions) {
    const int which = blockIdx.z, first = blockIdx.y * ROWS_PER_PASS, rows = (capacity > 1 ? row_count(table) : 1) - first;
    const Product its = {which == 0 ? weight : which == 1 ? key : value,
                         which == 0 ? bias : which == 1 ? nullptr : value_bias,
                         norm_weight,
                         norm_bias,
                         residual,
                         y,
                         table,
                         capacity,
                         inner,
                         outer,
                         gelu,
                         split,
                         staged,
                         which - 1,
                         layer,
                         positions,
                         eps};
    x += (size_t)first * inner;
    if (rows == 1)
        multiply<1>(its, x, first, 1);
    else if (rows == 2)
        multiply<2>(its, x, first, 2);
    else if (rows >= 3 && rows <= 5)
        multiply<5>(its, x, first, rows);
    else if (rows > 5)
        multiply<ROWS_PER_PASS>(its, x, first, min(ROWS_PER_PASS, rows));
}

// ------------------------------------------------------------------------------------------ attention

// What a block needs to let some rows attend to positions of one head, in shared memory.
struct Look {
    float* queries;  // (rows, K), scaled
    float* highest;  // (rows,) of the scores
    float* sums;     // (rows,) of exp(score - highest)
    float* partial;  // (THREADS, 4)
    float* scores;   // (rows, CHUNK), then exp(score - highest)

    __device__ Look(int rows, int size)
        : queries(shared),
          highest(queries + rows * size),
          sums(highest + ROWS_PER_PASS),
          partial(sums + ROWS_PER_PASS),
          scores(partial + 4 * THREADS) {}
};

// Where keys and values of a head are: those of a text, each in an array of its own, or those of a window.
struct Text {
    const long long* places;  // from the first position of the chunk
    size_t keys, values;      // how far from its beginning an array has them for the first position
    int width;
    __device__ const weight_t* key(int i) const { return (const weight_t*)places[i] + keys + (size_t)i * width; }
    __device__ const weight_t* value(int i) const { return (const weight_t*)places[i] + values + (size_t)i * width; }
};

struct Window {
    const weight_t *keys, *values;
    int width;
    __device__ const weight_t* key(int i) const { return keys + (size_t)i * width; }
    __device__ const weight_t* value(int i) const { return values + (size_t)i * width; }
};

// softmax(Q Kᵀ) V of a head over `count` positions: queries (rows, D) from where the head begins -> out (rows, K + 2),
// whose rows are `apart` values apart: the weighted sum, not divided by the sum of weights; then the highest score and
// the sum of exp(score - highest).
template <int MOST, class Source>
__device__ void attend(const Source& source, const float* queries, int width, float* out, int rows, int count, int size,
                       int apart) {
    constexpr int PARTS = MAX_HEAD_WIDTH / (4 * TEAM);  // of a key: a thread has four neighbouring values of each
    const Look look(rows, size);
    const float scale = 1.0f / sqrtf(size);
    for (int i = threadIdx.x; i < rows * size; i += THREADS)
        look.queries[i] = queries[(size_t)(i / size) * width + i % size] * scale;
    __syncthreads();

    const int member = threadIdx.x % TEAM, team = threadIdx.x / TEAM;
    for (int first = 0; first < count; first += THREADS / TEAM) {  // by all threads: a warp adds up together
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
                if (k < size) sum = dot(parts[part], four(look.queries + row * size + k), sum);
            }
#pragma unroll
            for (int other = TEAM / 2; other > 0; other /= 2) sum += __shfl_xor_sync(ALL, sum, other);
            if (member == 0 && position < count) look.scores[row * CHUNK + position] = sum;
        }
    }
    __syncthreads();

    for (int row = threadIdx.x / WARP; row < rows; row += WARPS) {  // a warp per row
        float* scores = look.scores + row * CHUNK;
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
            look.highest[row] = highest;
            look.sums[row] = sum;
        }
    }
    __syncthreads();

    const int fours = size / 4, groups = THREADS / fours;  // a thread has four neighbours of every groups-th position
    const int group = threadIdx.x / fours, k = 4 * (threadIdx.x % fours);
    float4 sums[MOST] = {};
    if (group < groups)
        for (int position = group; position < count; position += groups) {
            const float4 value = four(source.value(position) + k);
#pragma unroll
            for (int row = 0; row < MOST; row++)
                if (row < rows) {
                    const float share = look.scores[row * CHUNK + position];
                    sums[row].x = fmaf(share, value.x, sums[row].x);
                    sums[row].y = fmaf(share, value.y, sums[row].y);
                    sums[row].z = fmaf(share, value.z, sums[row].z);
                    sums[row].w = fmaf(share, value.w, sums[row].w);
                }
        }
#pragma unroll
    for (int row = 0; row < MOST; row++)
        if (row < rows) {  // by all threads
            __syncthreads();
            *reinterpret_cast<float4*>(look.partial + 4 * threadIdx.x) = sums[row];
            __syncthreads();
            if (threadIdx.x < size) {
                float sum = 0.0f;
                for (int i = 0; i < groups; i++) sum += look.partial[i * size + threadIdx.x];
                out[(size_t)row * apart + threadIdx.x] = sum;
            } else if (threadIdx.x == size) {
                out[(size_t)row * apart + size] = look.highest[row];
                out[(size_t)row * apart + size + 1] = look.sums[row];
            }
        }
}

// Whether this is the last of `count` blocks to come here, whose results are then there to be read past the first cache.
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

// The chunks of a row and head together: partial (chunks, K + 2) -> out (K,).
__device__ void combine(const float* partial, float* out, int chunks, int size) {
    const int entry = size + 2, k = threadIdx.x;
    if (k >= size) return;
    float highest = __ldcg(partial + size);
    for (int chunk = 1; chunk < chunks; chunk++) highest = fmaxf(highest, __ldcg(partial + chunk * entry + size));
    float sum = 0.0f, mixed = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const float* its = partial + chunk * entry;
        const float share = expf(__ldcg(its + size) - highest);
        sum = fmaf(__ldcg(its + size + 1), share, sum);
        mixed = fmaf(__ldcg(its + k), share, mixed);
    }
    out[k] = mixed / sum;
}

// Self-attention of rows to their sequences up to themselves: queries (R, D) -> out (R, D). A block per chunk of the
// positions, head and row; the last one of a head and row combines them. partial (R, H, chunks, K + 2) may hold
// anything before, counters (R · H,) have to be 0.
extern "C" __global__ void __launch_bounds__(THREADS)
self_attention(const float* queries, const long long* table, int capacity, float* partial, int* counters, float* out,
            int heads, int size, int layer, int positions) {
    const int start = blockIdx.x * CHUNK, head = blockIdx.y, row = blockIdx.z, width = heads * size;
    if (row >= row_count(table)) return;
    const int count = (int)field(table, capacity, POSITION, row) + 1;
    if (start >= count) return;
    const size_t keys = (2 * layer * (size_t)positions + start) * width + head * size;
    const Text text = {slot_addresses(table, capacity, row, positions) + start, keys, keys + (size_t)positions * width, width};
    const size_t begin = (size_t)row * width + head * size;
    const int chunks = (count + CHUNK - 1) / CHUNK, one = row * heads + head;
    partial += (size_t)one * gridDim.x * (size + 2);
    attend<1>(text, queries + begin, width, partial + blockIdx.x * (size + 2), 1, min(CHUNK, count - start), size, 0);
    if (is_last(counters + one, chunks)) combine(partial, out + begin, chunks, size);
}

// Cross-attention of rows to their windows: queries (R, D), keys and values (L, 2, T, D) per window -> out (R, D). A
// block per chunk of the positions, head and group of up to ROWS_PER_PASS rows of a window, so that the window is read once for
// all of them; otherwise as above.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_attention(const float* queries, const long long* table, int capacity, float* partial, int* counters, float* out,
             int heads, int size, int layer, int positions) {
    const int start = blockIdx.x * CHUNK, head = blockIdx.y, group = blockIdx.z, width = heads * size;
    if (group >= (int)table[GROUPS_AT]) return;
    const int row = (int)field(table, capacity, FIRST_ROW, group), rows = (int)field(table, capacity, ROW_COUNT, group);
    const weight_t* keys = (const weight_t*)field(table, capacity, CROSS_KV, group);
    keys += (2 * layer * (size_t)positions + start) * width + head * size;
    const Window window = {keys, keys + (size_t)positions * width, width};
    const int chunks = gridDim.x, entry = size + 2, apart = heads * chunks * entry;
    const size_t begin = (size_t)row * width + head * size;
    partial += (size_t)row * apart + head * chunks * entry;
    float* mine = partial + blockIdx.x * entry;
    const int count = min(CHUNK, positions - start);
    if (rows == 1)
        attend<1>(window, queries + begin, width, mine, rows, count, size, apart);
    else
        attend<ROWS_PER_PASS>(window, queries + begin, width, mine, rows, count, size, apart);
    if (is_last(counters + row * heads + head, chunks))
        for (int i = 0; i < rows; i++)
            combine(partial + (size_t)i * apart, out + begin + (size_t)i * width, chunks, size);
}

// ------------------------------------------------------------------------------------------ choosing tokens

// The tokens that a choice may take: rules.LogitFilters for one row. Text comes before the first timestamp.
struct Allowed {
    const int *suppressed, *blank;  // a bit per token; the second is null once something was said
    int text_from, text_to, times_from, times_to, never;

    __device__ bool in(const int* bits, int token) const { return bits[token / 32] >> (token % 32) & 1; }
    __device__ bool operator()(int token) const {
        const bool inside = token < text_to ? token >= text_from : token >= times_from && token < times_to;
        return inside && token != never && !in(suppressed, token) && !(blank && in(blank, token));
    }
};

// A value and where it was; of equal values the first counts.
struct Best {
    float value;
    int token;

    __device__ void take(float other, int where) {
        if (other > value || (other == value && (unsigned)where < (unsigned)token)) {
            value = other;
            token = where;
        }
    }
};

__device__ Best block_best(Best mine) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        const float value = __shfl_xor_sync(ALL, mine.value, apart);
        const int token = __shfl_xor_sync(ALL, mine.token, apart);
        mine.take(value, token);
    }
    int* const tokens = (int*)shared + WARPS;
    __syncthreads();
    if (threadIdx.x % WARP == 0) {
        shared[threadIdx.x / WARP] = mine.value;
        tokens[threadIdx.x / WARP] = mine.token;
    }
    __syncthreads();
    for (int warp = 0; warp < WARPS; warp++) mine.take(shared[warp], tokens[warp]);
    return mine;
}

// The sum of a block's threads in the order of their numbers, and for each thread what comes before it.
struct Scan {
    double before, sum;
};

__device__ Scan block_scan(double value) {
    double* const sums = (double*)shared;  // (THREADS,): of each thread and those before it
    __syncthreads();
    sums[threadIdx.x] = value;
    for (int apart = 1; apart < THREADS; apart *= 2) {
        __syncthreads();
        const double other = threadIdx.x >= apart ? sums[threadIdx.x - apart] : 0.0;
        __syncthreads();
        sums[threadIdx.x] += other;
    }
    __syncthreads();
    const Scan scan = {threadIdx.x ? sums[threadIdx.x - 1] : 0.0, sums[THREADS - 1]};
    __syncthreads();
    return scan;
}

// What a block finds in its slice of the vocabulary, for text and for timestamps.
struct Part {
    float best;     // the highest logit,
    int token;      // where it is, or -1,
    float sum;      // the sum of exp(logit - highest),
    float unused;
    double heated;  // and that of exp((logit - highest) / temperature)
};

struct Slice {
    Part parts[2];
    float values[2][MAX_TOP];  // the highest logits,
    int tokens[2][MAX_TOP];    // and where they are
};

// The choice of the block's slice, of which it is one of SLICES.
struct Choice {
    const float* logits;
    Allowed allowed;
    int vocabulary, first, slice, kind, top;  // first: of timestamps
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
    __device__ double heat(float logit, float highest) const { return exp(((double)logit - highest) / temperature); }
};

// What a slice has of one part.
__device__ void look(const Choice& its, int number, int part, Slice* into) {
    const int begin = its.begin(number, part), end = its.end(number, part);
    Best best = {-infinity(), -1};
    for (int token = begin + threadIdx.x; token < end; token += THREADS)
        if (its.counts(token)) best.take(its.logits[token], token);
    best = block_best(best);
    float sum = 0.0f;
    double heated = 0.0;
    for (int token = begin + threadIdx.x; token < end; token += THREADS)
        if (its.counts(token)) {
            sum += expf(its.logits[token] - best.value);
            if (its.kind == SAMPLE) heated += its.heat(its.logits[token], best.value);
        }
    sum = block_sum(sum);
    if (its.kind == SAMPLE) heated = block_scan(heated).sum;
    if (threadIdx.x == 0) into->parts[part] = {best.value, best.token, sum, 0.0f, heated};
    for (int i = 0; i < its.top; i++) {
        if (threadIdx.x == 0) {
            into->values[part][i] = best.value;
            into->tokens[part][i] = best.token;
        }
        if (i + 1 == its.top || best.token < 0) {  // by all threads
            if (threadIdx.x == 0 && i + 1 < its.top) into->tokens[part][i + 1] = -1;
            break;
        }
        Best next = {-infinity(), -1};
        for (int token = begin + threadIdx.x; token < end; token += THREADS) {
            const float value = its.logits[token];
            if ((value < best.value || (value == best.value && token > best.token)) && its.counts(token))
                next.take(value, token);
        }
        best = block_best(next);
    }
}

// A value that another block has written, past the first cache.
__device__ int fresh(const int* at) { return __float_as_int(__ldcg((const float*)at)); }
__device__ double fresh(const double* at) {
    const int* halves = (const int*)at;
    return __longlong_as_double((long long)fresh(halves + 1) << 32 | (unsigned)fresh(halves));
}

// The first token at which the sum of exp((logit - highest) / temperature) exceeds that share of the sum of all.
__device__ int draw(const Choice& its, const Slice* slices, float highest, bool only_times, double share) {
    double* const found = (double*)shared + THREADS;  // behind what a scan needs: the place, and what comes before it
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int pass = 0; pass < 2; pass++) {
            const double wanted = share * total;
            double reached = 0.0;
            found[0] = -1.0;
            for (int i = 0; i < 2 * SLICES; i++) {
                if (only_times && i % 2 == 0) continue;
                const Part* part = slices[i / 2].parts + i % 2;
                if (fresh(&part->token) < 0) continue;
                const double weight = fresh(&part->heated) * its.heat(__ldcg(&part->best), highest);
                if (pass) {
                    found[0] = i;  // the last there is, if rounding takes us past all of them
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
    const int from = its.begin(place / 2, place % 2), to = its.end(place / 2, place % 2);
    const int each = (to - from + THREADS - 1) / THREADS;
    const int begin = min(to, from + (int)threadIdx.x * each), end = min(to, begin + each);
    double sum = 0.0;
    int last = -1;
    for (int token = begin; token < end; token++)
        if (its.counts(token)) {
            sum += its.heat(its.logits[token], highest);
            last = token;
        }
    const double before = block_scan(sum).before;
    Best latest = {last < 0 ? -infinity() : (float)last, last};  // where it is, if rounding takes us past all of them
    latest = block_best(latest);
    int* const drawn = (int*)(found + 2);
    __syncthreads();
    if (threadIdx.x == 0) *drawn = latest.token;
    __syncthreads();
    if (before <= wanted && wanted < before + sum) {
        double reached = before;
        for (int token = begin; token < end; token++)
            if (its.counts(token)) {
                reached += its.heat(its.logits[token], highest);
                last = token;
                if (reached > wanted) break;
            }
        *drawn = last;
    }
    __syncthreads();
    return *drawn;
}

// SLICES blocks per choice: from logits (N, V) to tokens and their log-probabilities, out (choices, top, 2) as int32:
// what the filters of rules.py, log_softmax and a choice of search.py compute. What a choice is, is in the table; there is
// also the choice of no token, which returns the probability of one among all. If the table says so, a choice is
// entered there as the next token of its row. The last block of a choice makes it from the slices (choices, SLICES).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
choose_tokens(const float* logits, long long* table, int capacity, int vocabulary, int* slices_of_all, int* counters, int* out) {
    const int number = blockIdx.y;
    if (number >= (int)table[CHOICES_AT]) return;
    const int top = (int)table[TOP_AT];
    const int* filters = (const int*)field(table, capacity, FILTERS, number);
    const int eot = filters[0], times = filters[1], no_timestamps = filters[2], latest = filters[4];
    const int words = (vocabulary + 31) / 32;
    const int said = (int)field(table, capacity, GENERATED, number), last = (int)field(table, capacity, LAST, number);
    const int before = (int)field(table, capacity, PREVIOUS, number), time = (int)field(table, capacity, LAST_TIMESTAMP, number);
    Choice its;
    its.logits = logits + field(table, capacity, LOGITS_ROW, number) * vocabulary;
    its.kind = (int)field(table, capacity, KIND, number);
    its.vocabulary = vocabulary;
    its.first = times && its.kind != PROBE ? filters[3] : vocabulary;
    its.slice = (vocabulary + SLICES - 1) / SLICES;
    its.top = its.kind == TOP_K ? top : 1;
    its.temperature = __longlong_as_double(field(table, capacity, TEMPERATURE, number));
    const int first = its.first;

    its.allowed = {filters + 8, said ? nullptr : filters + 8 + words, 0, first, first, vocabulary, -1};
    if (first < vocabulary) {
        its.allowed.never = no_timestamps;
        const bool at_time = said && last >= first;
        const bool opened = at_time && (said < 2 || before >= first), closed = at_time && !opened;
        if (!said) {  // open the first segment
            its.allowed.text_from = first;
            if (latest >= 0) its.allowed.times_to = min(vocabulary, first + latest + 1);
        } else {
            if (opened) its.allowed.times_from = vocabulary;  // text must follow
            if (closed) its.allowed.text_from = eot;          // the next segment opens, or the text ends
            if (!opened && time >= first) its.allowed.times_from = time + (closed ? 0 : 1);
        }
    }

    Slice* const slices = (Slice*)slices_of_all + (size_t)number * SLICES;
    for (int part = 0; part < 2; part++) look(its, blockIdx.x, part, slices + blockIdx.x);
    if (!is_last(counters + number, SLICES)) return;

    Best best[2];  // of text, of timestamps
    for (int part = 0; part < 2; part++) {
        best[part] = {-infinity(), -1};
        for (int i = 0; i < SLICES; i++)
            best[part].take(__ldcg(&slices[i].parts[part].best), fresh(&slices[i].parts[part].token));
    }
    const float highest = fmaxf(best[0].value, best[1].value);
    float sums[2] = {0.0f, 0.0f};
    for (int part = 0; part < 2; part++)
        for (int i = 0; i < SLICES; i++) {
            const Part* one = slices[i].parts + part;
            const float sum = __ldcg(&one->sum);
            if (sum != 0.0f) sums[part] += sum * expf(__ldcg(&one->best) - highest);
        }
    float* const values = (float*)out + (size_t)number * top * 2;
    out += (size_t)number * top * 2;
    if (its.kind == PROBE) {
        const int token = (int)field(table, capacity, PROBE_TOKEN, number);
        if (threadIdx.x == 0) {
            out[0] = token;
            values[1] = expf(its.logits[token] - highest) / sums[0];
        }
        return;
    }
    // If a timestamp, whichever, is more likely than any one text token, only a timestamp may be chosen.
    const bool only_times = first < vocabulary && said && sums[1] > expf(best[0].value - highest);
    const float total = only_times ? sums[1] : sums[0] + sums[1], offset = highest + logf(total);
    const bool stuck = best[0].token < 0 && best[1].token < 0 && total == 0.0f;  // nothing is allowed: the end, certainly

    Best chosen = only_times || best[1].value > best[0].value ? best[1] : best[0];
    int token = stuck || chosen.token < 0 ? eot : chosen.token;
    if (its.kind == SAMPLE && !stuck) {
        const double share = __longlong_as_double(field(table, capacity, DRAW, number));
        token = draw(its, slices, only_times ? best[1].value : highest, only_times, share);
        token = token < 0 ? eot : token;
        chosen.value = its.logits[token];
    }
    for (int i = 0; i < top; i++) {
        if (i > 0) {
            Best next = {-infinity(), -1};
            for (int j = threadIdx.x; j < 2 * SLICES * its.top && its.top > 1; j += THREADS) {
                const int part = j % 2, place = j / 2 % its.top;
                const Slice& slice = slices[j / (2 * its.top)];
                bool there = !only_times || part;
                for (int k = 0; k <= place && there; k++) there = fresh(&slice.tokens[part][k]) >= 0;  // the list goes on
                if (!there) continue;
                const float value = __ldcg(&slice.values[part][place]);
                const int where = fresh(&slice.tokens[part][place]);
                if (value < chosen.value || (value == chosen.value && where > chosen.token)) next.take(value, where);
            }
            chosen = block_best(next);
        }
        if (threadIdx.x == 0) {
            out[2 * i] = i == 0 ? token : chosen.token < 0 ? eot : chosen.token;
            values[2 * i + 1] = stuck ? (i ? -infinity() : 0.0f) : chosen.value - offset;
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
