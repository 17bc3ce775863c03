// The kernels of the GPU engine: what a layer does to its numbers in one launch, where the array library takes several.
//
// Everything is row-major, and shapes are by the letters of layers.py; R is the number of rows, which are texts while
// decoding. Activations are float. Weights and remembered keys and values are weight_t, float or, with -DHALF, half:
// they are widened as they are read, and all arithmetic is in float.
//
// A step of the decoder has to be one CUDA graph, replayed for every token. So nothing here allocates, and what changes
// from token to token, how many came before, is read from the device's memory.
//
// Sums are taken in a fixed order, without atomics: the same input gives the same bits.
//
// gpu_kernels.py puts the constants before this text: GELU_LIMIT and GELU_COEFFICIENTS of layers.py, and those by which
// it chooses grids and shared memory, THREADS, TEXTS, OUTPUTS, STAGED, CHUNK and MOST_SIZE.

#ifdef HALF
#include <cuda_fp16.h>
typedef __half weight_t;
#else
typedef float weight_t;
#endif

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffff;  // of a warp's threads
constexpr int TEAM = 8;               // threads that compare a query with a key

// Its size in bytes is given at the launch. Four numbers at a time are read from it.
extern __shared__ __align__(16) float shared[];

// ------------------------------------------------------------------------------------------ numbers

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

// Four numbers in one load; their address has to be a multiple of their size.
__device__ float4 four(const float* at) { return *reinterpret_cast<const float4*>(at); }

#ifdef HALF
__device__ float4 four(const __half* at) {
    const Halves read = *reinterpret_cast<const Halves*>(at);
    return make_float4(widen(read.x), widen(read.y), widen(read.z), widen(read.w));
}
#endif

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

// Of a block's threads; each gets it. They need a number of shared memory a warp, and it may be what they used before.
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

// ------------------------------------------------------------------------------------------ rows

// A block a row: x (R, D), weight (D,), bias (D,) -> out (R, D), which may be x.
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

// A thread a number: x (…, F) of so many numbers becomes gelu(x + bias), bias (F,).
extern "C" __global__ void __launch_bounds__(THREADS)
bias_gelu(float* x, const weight_t* bias, int width, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) x[i] = exact_gelu(x[i] + widen(bias[i % width]));
}

// A block a row of scores (…, length, columns), in place. Row i of `length` sees the columns up to past + i, the others
// become 0; with past < 0 it sees all.
extern "C" __global__ void __launch_bounds__(THREADS)
softmax(float* scores, int columns, int length, int past) {
    scores += (size_t)blockIdx.x * columns;
    const int row = blockIdx.x % length;
    const int seen = past < 0 ? columns : min(columns, past + row + 1);
    float highest = scores[0];
    for (int i = threadIdx.x; i < seen; i += blockDim.x) highest = fmaxf(highest, scores[i]);
    highest = block_max(highest);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < seen; i += blockDim.x) {
        scores[i] = expf(scores[i] - highest);
        sum += scores[i];
    }
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) scores[i] = i < seen ? scores[i] / sum : 0.0f;
}

// A block a text: tokens (R,), table (V, D), positions (…, D) -> x (R, D). All stand at the same position.
extern "C" __global__ void __launch_bounds__(THREADS)
embed(const int* tokens, const weight_t* table, const weight_t* positions, const int* position, float* x, int width) {
    table += (size_t)tokens[blockIdx.x] * width;
    positions += (size_t)*position * width;
    x += (size_t)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) x[i] = widen(table[i]) + widen(positions[i]);
}

// ------------------------------------------------------------------------------------------ products

// Up to TEXTS rows of x times a matrix: reading the matrix takes the time, so each of its numbers is read once for all
// of the rows. A warp computes OUTPUTS outputs of them at a time, each thread a part of the sums. The rows wait in
// shared memory, as much of them as there is room for.
template <int ROWS>
__device__ void multiply(const float* x, const weight_t* weight, const weight_t* bias, const float* residual, float* y,
                         int inner, int outer, int gelu) {
    constexpr int TILE = STAGED / ROWS / (4 * WARP) * (4 * WARP);
    constexpr int TOGETHER = THREADS / WARP * OUTPUTS;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const bool aligned = inner % 4 == 0 && (size_t)weight % (4 * sizeof(weight_t)) == 0;
    const int begin = blockIdx.x * TOGETHER;
    for (int first = begin; first < outer; first += gridDim.x * TOGETHER) {
        const int output = first + warp * OUTPUTS;
        float sums[OUTPUTS][ROWS] = {};
        for (int start = 0; start < inner; start += TILE) {
            const int count = min(TILE, inner - start);
            if (first == begin || inner > TILE) {  // otherwise they are there
                __syncthreads();
#pragma unroll
                for (int row = 0; row < ROWS; row++)
                    for (int i = threadIdx.x; i < count; i += THREADS)
                        shared[row * TILE + i] = x[(size_t)row * inner + start + i];
                __syncthreads();
            }
            const weight_t* of[OUTPUTS];  // behind the last output, the last: computed, and not written
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) of[o] = weight + (size_t)min(output + o, outer - 1) * inner + start;
            const int fours = aligned ? count / 4 * 4 : 0;
#pragma unroll(ROWS > 4 ? 1 : 2)  // what the registers of four blocks on a processor hold
            for (int i = 4 * lane; i < fours; i += 4 * WARP) {
                float4 numbers[OUTPUTS];
#pragma unroll
                for (int o = 0; o < OUTPUTS; o++) numbers[o] = four(of[o] + i);
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    const float4 its = four(shared + row * TILE + i);
#pragma unroll
                    for (int o = 0; o < OUTPUTS; o++) sums[o][row] = dot(numbers[o], its, sums[o][row]);
                }
            }
            for (int i = fours + lane; i < count; i += WARP)
#pragma unroll
                for (int row = 0; row < ROWS; row++)
#pragma unroll
                    for (int o = 0; o < OUTPUTS; o++)
                        sums[o][row] = fmaf(widen(of[o][i]), shared[row * TILE + i], sums[o][row]);
        }
        float mine = 0.0f;  // a thread finishes one of the sums
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                const float sum = warp_sum(sums[o][row]);
                if (lane == o * ROWS + row) mine = sum;
            }
        const int o = output + lane / ROWS, row = lane % ROWS;
        if (lane < OUTPUTS * ROWS && o < outer) {
            if (bias) mine += widen(bias[o]);
            if (gelu) mine = exact_gelu(mine);
            const size_t place = (size_t)row * outer + o;
            if (residual) mine += residual[place];
            y[place] = mine;
        }
    }
}

// x (R, I), weight (O, I), bias (O,) or null, residual (R, O) or null -> y (R, O), which may be the residual:
// y = gelu(x Wᵀ + b) + residual, gelu or not. blockIdx.y counts groups of up to TEXTS rows.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
matvec(const float* x, const weight_t* weight, const weight_t* bias, const float* residual, float* y, int rows,
       int inner, int outer, int gelu) {
    const size_t first = (size_t)blockIdx.y * TEXTS;
    x += first * inner;
    y += first * outer;
    if (residual) residual += first * outer;
    switch (min(TEXTS, rows - (int)first)) {
        case 1: return multiply<1>(x, weight, bias, residual, y, inner, outer, gelu);
        case 2: return multiply<2>(x, weight, bias, residual, y, inner, outer, gelu);
        case 3: return multiply<3>(x, weight, bias, residual, y, inner, outer, gelu);
        case 4: return multiply<4>(x, weight, bias, residual, y, inner, outer, gelu);
        case 5: return multiply<5>(x, weight, bias, residual, y, inner, outer, gelu);
        case 6: return multiply<6>(x, weight, bias, residual, y, inner, outer, gelu);
        case 7: return multiply<7>(x, weight, bias, residual, y, inner, outer, gelu);
        default: return multiply<TEXTS>(x, weight, bias, residual, y, inner, outer, gelu);
    }
}

// ------------------------------------------------------------------------------------------ attention

// What one block needs to let some texts look at positions of one head, in shared memory.
struct Look {
    float* queries;  // (texts, K), scaled
    float* highest;  // (texts,) of the scores
    float* sums;     // (texts,) of exp(score - highest)
    float* partial;  // (THREADS, 4)
    float* scores;   // (texts, positions), then exp(score - highest)

    __device__ Look(int texts, int size)
        : queries(shared),
          highest(queries + texts * size),
          sums(highest + TEXTS),
          partial(sums + TEXTS),
          scores(partial + 4 * THREADS) {}
};

// The queries of one head into shared memory: (texts, D) from where the head begins in the first of them.
__device__ void take_queries(const Look& look, const float* queries, int texts, int size, int apart) {
    const float scale = 1.0f / sqrtf(size);
    for (int i = threadIdx.x; i < texts * size; i += THREADS)
        look.queries[i] = queries[(size_t)(i / size) * apart + i % size] * scale;
}

// softmax(Q Kᵀ) V of a head: keys, values (count, K) -> out (texts, K), whose rows are so far apart. Threads have to be
// synchronised before it, and the scores are (texts, room).
template <int MOST>
__device__ void attend(const Look& look, const weight_t* keys, const weight_t* values, float* out, int texts, int count,
                       int size, int room, int apart) {
    constexpr int PARTS = MOST_SIZE / (4 * TEAM);  // of a key: a thread has four neighbouring numbers of each
    const int member = threadIdx.x % TEAM, team = threadIdx.x / TEAM;
    for (int first = 0; first < count; first += THREADS / TEAM) {  // by all threads: a warp adds up together
        const int position = first + team;
        const weight_t* key = keys + (size_t)min(position, count - 1) * size;
        float4 parts[PARTS];
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int k = 4 * (part * TEAM + member);
            parts[part] = k < size ? four(key + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        for (int text = 0; text < texts; text++) {
            float sum = 0.0f;
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int k = 4 * (part * TEAM + member);
                if (k < size) sum = dot(parts[part], four(look.queries + text * size + k), sum);
            }
#pragma unroll
            for (int other = TEAM / 2; other > 0; other /= 2) sum += __shfl_xor_sync(ALL, sum, other);
            if (member == 0 && position < count) look.scores[text * room + position] = sum;
        }
    }
    __syncthreads();

    for (int text = threadIdx.x / WARP; text < texts; text += THREADS / WARP) {  // a warp a text
        float* scores = look.scores + text * room;
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
            look.highest[text] = highest;
            look.sums[text] = sum;
        }
    }
    __syncthreads();

    const int fours = size / 4, groups = THREADS / fours;  // a thread has four neighbours of every so many positions
    const int group = threadIdx.x / fours, k = 4 * (threadIdx.x % fours);
    float4 heard[MOST] = {};
    if (group < groups)
        for (int position = group; position < count; position += groups) {
            const float4 value = four(values + (size_t)position * size + k);
#pragma unroll
            for (int text = 0; text < MOST; text++)
                if (text < texts) {
                    const float share = look.scores[text * room + position];
                    heard[text].x = fmaf(share, value.x, heard[text].x);
                    heard[text].y = fmaf(share, value.y, heard[text].y);
                    heard[text].z = fmaf(share, value.z, heard[text].z);
                    heard[text].w = fmaf(share, value.w, heard[text].w);
                }
        }
#pragma unroll
    for (int text = 0; text < MOST; text++)
        if (text < texts) {
            __syncthreads();
            if (group < groups) reinterpret_cast<float4*>(look.partial)[threadIdx.x] = heard[text];  // (groups, K)
            __syncthreads();
            if (threadIdx.x < size) {
                float sum = 0.0f;
                for (int i = threadIdx.x; i < groups * size; i += size) sum += look.partial[i];
                out[(size_t)text * apart + threadIdx.x] = sum / look.sums[text];
            }
        }
}

// New tokens look at their text up to themselves, a block a head of a text: query_key_value (3, R, D), the new tokens'
// own, of which the three are so many numbers apart, and the rows; keys, values (R, H, room, K), into which theirs are
// written at the position -> out (R, D).
extern "C" __global__ void __launch_bounds__(THREADS)
attend_text(const float* query_key_value, int three_apart, int rows_apart, weight_t* keys, weight_t* values,
            const int* position, float* out, int heads, int size, int room) {
    const int head = blockIdx.x, text = blockIdx.y, width = heads * size, place = *position;
    if (place < 0 || place >= room) return;  // rather than write into what is not ours
    query_key_value += (size_t)text * rows_apart + head * size;
    keys += ((size_t)text * heads + head) * room * size;
    values += ((size_t)text * heads + head) * room * size;
    const Look look(1, size);
    take_queries(look, query_key_value, 1, size, 0);
    for (int k = threadIdx.x; k < size; k += THREADS) {
        keys[(size_t)place * size + k] = narrow(query_key_value[three_apart + k]);
        values[(size_t)place * size + k] = narrow(query_key_value[2 * (size_t)three_apart + k]);
    }
    __syncthreads();
    attend<1>(look, keys, values, out + (size_t)text * width + head * size, 1, place + 1, size, room, 0);
}

// New tokens look at their window: queries (R, D), keys, values (H, T, K), one window that all hear -> partial
// (R, H, chunks, K + 2). A block takes a CHUNK of the positions, so that there are enough blocks for all processors,
// and up to TEXTS texts, so that what they hear is read once: (chunks, heads, groups of texts) blocks. Of a chunk,
// partial has what was heard in it, then the highest score and the sum of exp(score - highest).
extern "C" __global__ void __launch_bounds__(THREADS)
attend_audio(const float* queries, const weight_t* keys, const weight_t* values, float* partial, int rows, int heads,
             int size, int positions) {
    const int start = blockIdx.x * CHUNK, head = blockIdx.y, first = blockIdx.z * TEXTS;
    const int texts = min(TEXTS, rows - first), width = heads * size, entry = size + 2;
    const int apart = heads * gridDim.x * entry;
    keys += ((size_t)head * positions + start) * size;
    values += ((size_t)head * positions + start) * size;
    partial += (size_t)first * apart + (head * gridDim.x + blockIdx.x) * entry;
    const Look look(texts, size);
    take_queries(look, queries + (size_t)first * width + head * size, texts, size, width);
    __syncthreads();
    attend<TEXTS>(look, keys, values, partial, texts, min(CHUNK, positions - start), size, CHUNK, apart);
    if (threadIdx.x < texts) {
        partial[(size_t)threadIdx.x * apart + size] = look.highest[threadIdx.x];
        partial[(size_t)threadIdx.x * apart + size + 1] = look.sums[threadIdx.x];
    }
}

// Then what was heard in the chunks becomes what was heard, a block a head of a text: partial -> out (R, D).
extern "C" __global__ void __launch_bounds__(MOST_SIZE)
combine_audio(const float* partial, float* out, int heads, int size, int chunks) {
    const int head = blockIdx.x, text = blockIdx.y, entry = size + 2, k = threadIdx.x;
    if (k >= size) return;
    partial += ((size_t)text * heads + head) * chunks * entry;
    float highest = partial[size];
    for (int chunk = 1; chunk < chunks; chunk++) highest = fmaxf(highest, partial[chunk * entry + size]);
    float sum = 0.0f, heard = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const float* its = partial + chunk * entry;
        const float share = its[size + 1] * expf(its[size] - highest);
        sum += share;
        heard = fmaf(share, its[k], heard);
    }
    out[((size_t)text * heads + head) * size + k] = heard / sum;
}
