// Producers and consumers in one CTA: bulk copies and mbarriers, cp.async that arrives at mbarriers,
// and two warpgroups that take turns by named barriers.
#include "ptx.cuh"

constexpr int STAGES = 2, TILE = 128;

// y[c] = sum over t of (t + 1) x[t * 128 + c], for the tiles of one CTA's row. Warp 0 brings tiles by
// bulk copies, warps 1 to 4 add them up. 160 threads.
extern "C" __global__ void __launch_bounds__(160) bulk_sum(const float *x, float *y, int tiles) {
  __shared__ __align__(128) float stage[STAGES][TILE];
  __shared__ uint64_t bars[2 * STAGES];
  uint32_t full = shared(bars), empty = full + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) init(full + 8 * s, 1), init(empty + 8 * s, 128);
    fence_init();
  }
  __syncthreads();
  const float *row = x + size_t(blockIdx.x) * tiles * TILE;
  if (threadIdx.x < 32) {
    if (threadIdx.x == 0)
#pragma unroll 1
      for (int t = 0; t < tiles; ++t) {
        int s = t % STAGES;
        wait(empty + 8 * s, (t / STAGES & 1) ^ 1);
        expect(full + 8 * s, TILE * 4);
        bulk_load(shared(stage[s]), row + t * TILE, TILE * 4, full + 8 * s);
      }
    return;
  }
  int column = threadIdx.x - 32;
  float sum = 0;
#pragma unroll 1
  for (int t = 0; t < tiles; ++t) {
    int s = t % STAGES;
    wait(full + 8 * s, t / STAGES & 1);
    sum += (t + 1) * stage[s][column];
    arrive(empty + 8 * s);
  }
  y[blockIdx.x * TILE + column] = sum;
}

// The same sum with tiles brought by the cp.async of 32 threads; each copy arrives for its thread.
extern "C" __global__ void __launch_bounds__(160) copied_sum(const float *x, float *y, int tiles) {
  __shared__ __align__(128) float stage[STAGES][TILE];
  __shared__ uint64_t bars[2 * STAGES];
  uint32_t full = shared(bars), empty = full + 8 * STAGES;
  if (threadIdx.x == 0)
    for (int s = 0; s < STAGES; ++s) init(full + 8 * s, 32), init(empty + 8 * s, 128);
  __syncthreads();
  const float *row = x + size_t(blockIdx.x) * tiles * TILE;
  if (threadIdx.x < 32) {
    int lane = threadIdx.x;
#pragma unroll 1
    for (int t = 0; t < tiles; ++t) {
      int s = t % STAGES;
      wait(empty + 8 * s, (t / STAGES & 1) ^ 1);
      copy16(shared(stage[s]) + lane * 16, row + t * TILE + lane * 4, 16);
      asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(full + 8 * s)
                   : "memory");
    }
    return;
  }
  int column = TILE - 1 - (threadIdx.x - 32);
  float sum = 0;
#pragma unroll 1
  for (int t = 0; t < tiles; ++t) {
    int s = t % STAGES;
    wait(full + 8 * s, t / STAGES & 1);
    sum += (t + 1) * stage[s][column];
    arrive(empty + 8 * s);
  }
  y[blockIdx.x * TILE + column] = sum;
}

// Two warpgroups take turns on one row of integers: v = 3 v + x, then v = v ^ x with every column
// handed to another thread. 256 threads; barrier 1 is the first warpgroup's turn, 2 the second's.
extern "C" __global__ void __launch_bounds__(256) turns(const unsigned *x, unsigned *y, int rounds) {
  __shared__ unsigned v[128];
  int group = threadIdx.x / 128, thread = threadIdx.x % 128;
  if (group == 0) {
    v[thread] = 0;
  } else {
    bar_arrive(1, 256);
  }
#pragma unroll 1
  for (int i = 0; i < rounds; ++i) {
    const unsigned *row = x + (size_t(blockIdx.x) * 2 * rounds + 2 * i + group) * 128;
    if (group == 0) {
      bar_sync(1, 256);
      v[thread] = 3 * v[thread] + row[thread];
      bar_arrive(2, 256);
    } else {
      bar_sync(2, 256);
      v[127 - thread] ^= row[127 - thread];
      if (i + 1 < rounds) bar_arrive(1, 256);
    }
  }
  if (group == 1) y[blockIdx.x * 128 + 127 - thread] = v[127 - thread];
}
