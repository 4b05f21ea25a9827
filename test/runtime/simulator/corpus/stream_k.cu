// CTAs that wait for each other through global memory.
#include "ptx.cuh"

constexpr int B = 16;

DEVICE unsigned acquire(const unsigned *p) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}

// Stream-K GEMM (Osama et al., PPoPP 2023): C = A B of f32 in tiles of 16x16, the steps of all tiles
// dealt out to gridDim.x CTAs in runs of equal length. The CTA with a tile's first step stores it,
// after it has added what the others left in the workspace [CTAs, 256]; a flag says that it is there.
// 16x16 threads.
extern "C" __global__ void __launch_bounds__(256)
    stream_k(const float *a, const float *b, float *c, float *workspace, unsigned *flags, int m, int n,
             int k) {
  __shared__ float as[B][B], bs[B][B];
  int tx = threadIdx.x, ty = threadIdx.y, thread = ty * B + tx;
  int steps = (k + B - 1) / B, across = (n + B - 1) / B, all = steps * across * ((m + B - 1) / B);
  int each = (all + gridDim.x - 1) / gridDim.x;
  int at = blockIdx.x * each, end = min(at + each, all);
  while (at < end) {
    int tile = at / steps, first = tile * steps, last = min(end, first + steps);
    int row = tile / across * B + ty, column = tile % across * B + tx;
    float sum = 0;
    bool mine = at == first;
    for (; at < last; ++at) {
      int x = (at - first) * B;
      as[ty][tx] = row < m && x + tx < k ? a[row * k + x + tx] : 0.0f;
      bs[ty][tx] = x + ty < k && column < n ? b[(x + ty) * n + column] : 0.0f;
      __syncthreads();
      for (int i = 0; i < B; ++i) sum += as[ty][i] * bs[i][tx];
      __syncthreads();
    }
    if (!mine) {
      workspace[blockIdx.x * B * B + thread] = sum;
      __syncthreads();
      if (thread == 0) {
        __threadfence();
        atomicExch(flags + blockIdx.x, 1);
      }
      continue;
    }
    for (int other = blockIdx.x + 1; (other - 1) * each + each < first + steps; ++other) {
      if (thread == 0)
        while (acquire(flags + other) == 0) {
        }
      __syncthreads();
      sum += workspace[other * B * B + thread];
    }
    if (row < m && column < n) c[row * n + column] = sum;
  }
}

// Rounds of v[i] = v[i - 1] + v[i + 1] over a ring of one value a thread, with a barrier over the
// whole grid between rounds: one counter, and the round that it has reached.
extern "C" __global__ void grid_rounds(unsigned *values, unsigned *counter, int rounds) {
  unsigned count = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int round = 0; round < rounds; ++round) {
    const unsigned *from = values + (round & 1) * count;
    unsigned *to = values + (round & 1 ^ 1) * count;
    to[i] = from[i ? i - 1 : count - 1] + from[i + 1 < count ? i + 1 : 0];
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(counter, 1);
      while (acquire(counter) < gridDim.x * (round + 1)) {
      }
      __threadfence();
    }
    __syncthreads();
  }
}
