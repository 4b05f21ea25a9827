// Calls that the compiler must not inline. nvcc -ptx -arch=sm_80 calls.cu
#include <cassert>
#include <cstdio>

struct Pair {
    double sum;
    int count;
    float largest;
};

struct Bytes {
    unsigned char b[5];
};

__device__ __noinline__ float horner(float x, int degree) {
    float value = 0;
    for (int k = degree; k >= 0; --k) value = value * x + float(k + 1);
    return value;
}

// One call a lane and round, each with a number of rounds of its own.
extern "C" __global__ void polynomials(const float *x, const int *degree, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float total = 0;
    for (int round = 0; round <= i % 5; ++round) {
        if ((i + round) % 3 == 0) continue;
        total += horner(x[i], degree[(i + round) % n]);
    }
    out[i] = total;
}

__device__ __noinline__ Pair joined(Pair a, Pair b) {
    Pair result;
    result.sum = a.sum + b.sum;
    result.count = a.count + b.count;
    result.largest = a.largest > b.largest ? a.largest : b.largest;
    return result;
}

extern "C" __global__ void statistics(const float *x, Pair *out, int n, int rows) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    Pair total = {0.0, 0, -1e30f};
    for (int j = 0; j < n; ++j) {
        float value = x[row * n + j];
        total = joined(total, Pair{double(value), 1, value});
    }
    out[row] = total;
}

__device__ __noinline__ Bytes reversed(Bytes a) {
    Bytes result;
    for (int k = 0; k < 5; ++k) result.b[k] = a.b[4 - k];
    return result;
}

__device__ __noinline__ unsigned char picked(Bytes a, int at) { return a.b[at % 5]; }

extern "C" __global__ void bytes(const Bytes *x, Bytes *out, unsigned char *at, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = reversed(x[i]);
    at[i] = picked(x[i], i);
}

// Returns early for what is no power of two times an odd number below 8.
__device__ __noinline__ int odd_part(unsigned value) {
    if (value == 0) return -1;
    while ((value & 1) == 0) value >>= 1;
    if (value > 7) return -2;
    return int(value);
}

__device__ __noinline__ int doubled_odd_part(unsigned value) {
    int part = odd_part(value);
    return part < 0 ? part : 2 * odd_part(value + 1) + part;
}

extern "C" __global__ void parts(const unsigned *x, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = doubled_odd_part(x[i]);
}

__device__ __noinline__ void sorted(int *values, int n) {
    for (int i = 1; i < n; ++i)
        for (int j = i; j > 0 && values[j - 1] > values[j]; --j) {
            int larger = values[j - 1];
            values[j - 1] = values[j];
            values[j] = larger;
        }
}

// An array in local memory whose address is passed on.
extern "C" __global__ void medians(const int *x, int *out, int rows) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    int mine[9];
    for (int j = 0; j < 9; ++j) mine[j] = x[row * 9 + j];
    sorted(mine, 9);
    out[row] = mine[4];
}

__device__ __noinline__ float block_sum(float value) {
    __shared__ float part[128];
    part[threadIdx.x] = value;
    __syncthreads();
    for (int step = 64; step > 0; step /= 2) {
        if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
        __syncthreads();
    }
    float total = part[0];
    __syncthreads();
    return total;
}

// A barrier and a shared array in the function; two calls.
extern "C" __global__ void moments(const float *x, float *out) {
    float value = x[blockIdx.x * 128 + threadIdx.x];
    float mean = block_sum(value) / 128;
    float spread = block_sum((value - mean) * (value - mean));
    if (threadIdx.x == 0) out[blockIdx.x] = spread;
}

__device__ __noinline__ int reported(int i, float x, const char *name) {
    return printf("%s %d: %.3f %5u|%-6lld|%c\n", name, i, x, i * 7u, (long long)i << 33, 'a' + i);
}

extern "C" __global__ void print(const float *x, int *out) {
    int i = threadIdx.x;
    out[i] = reported(i, x[i], i & 1 ? "odd" : "even");
}

__device__ __noinline__ int checked(int value) {
    assert(value >= 0);
    return value + 1;
}

extern "C" __global__ void check(const int *x, int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = checked(x[i]);
}

// The heap of the device: a copy of a row, summed backwards.
extern "C" __global__ void heap(const int *x, int *out, int n) {
    int row = threadIdx.x;
    int *copy = (int *)malloc(n * sizeof(int));
    for (int j = 0; j < n; ++j) copy[j] = x[row * n + j];
    int total = 0;
    for (int j = n - 1; j >= 0; --j) total = total * 3 + copy[j];
    free(copy);
    out[row] = total;
}
