// Persistent warp-specialised GEMM for sm_90a: C = A B^T with A [M, K], B [N, K] and C [M, N] f16,
// all rows contiguous. One warp brings tiles of 128x64 and 64x64 by TMA (128-byte swizzle) in three
// stages; two warpgroups own 64 rows each, keep one wgmma group in flight while they issue the next,
// and store through shared memory by TMA. Each CTA takes every gridDim.x-th tile. 384 threads;
// 3 * 24 KiB + 16 KiB of dynamic shared memory.
#include "ptx.cuh"

constexpr int BM = 128, BN = 64, BK = 64, STAGES = 3;
constexpr int A_BYTES = BM * BK * 2, STAGE = A_BYTES + BN * BK * 2, OUT = 64 * BN * 2;

extern "C" __global__ void __launch_bounds__(384, 1)
    gemm(const __grid_constant__ Map a, const __grid_constant__ Map b, const __grid_constant__ Map c,
         int m, int n, int k) {
  extern __shared__ __align__(1024) char smem[];
  __shared__ uint64_t bars[2 * STAGES];
  uint32_t tiles = shared(smem), full = shared(bars), empty = full + 8 * STAGES;
  int group = threadIdx.x / 128, steps = (k + BK - 1) / BK;
  int across = (n + BN - 1) / BN, count = across * ((m + BM - 1) / BM);
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) init(full + 8 * s, 1), init(empty + 8 * s, 2);
    fence_init();
  }
  __syncthreads();
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0)
      for (int tile = blockIdx.x, i = 0; tile < count; tile += gridDim.x)
#pragma unroll 1
        for (int step = 0; step < steps; ++step, ++i) {
          int s = i % STAGES;
          uint32_t at = tiles + s * STAGE, bar = full + 8 * s;
          wait(empty + 8 * s, (i / STAGES & 1) ^ 1);
          expect(bar, STAGE);
          tensor_load(at, &a, step * BK, tile / across * BM, bar);
          tensor_load(at + A_BYTES, &b, step * BK, tile % across * BN, bar);
        }
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  int rows = (group - 1) * 64, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
  uint32_t out = tiles + STAGES * STAGE + (group - 1) * OUT;
  for (int tile = blockIdx.x, i = 0; tile < count; tile += gridDim.x) {
    float d[32] = {};
#pragma unroll 1
    for (int step = 0; step < steps; ++step, ++i) {
      int s = i % STAGES;
      uint32_t at = tiles + s * STAGE;
      wait(full + 8 * s, i / STAGES & 1);
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < BK / 16; ++j)
        wgmma(d, describe(at + rows * 128 + j * 32), describe(at + A_BYTES + j * 32), step + j > 0);
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0 && thread == 0) arrive(empty + 8 * ((i - 1) % STAGES));
    }
    wgmma_wait<0>();
    if (thread == 0) {
      arrive(empty + 8 * ((i - 1) % STAGES));
      bulk_wait_read();
    }
    bar_sync(group, 128);
#pragma unroll
    for (int j = 0; j < 32; j += 2) {
      int row = warp * 16 + lane / 4 + j / 2 % 2 * 8, chunk = j / 4;
      uint32_t place = out + row * 128 + ((chunk ^ (row & 7)) << 4) + lane % 4 * 4;
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(place), "r"(pack(d[j], d[j + 1])) : "memory");
    }
    proxy_fence();
    bar_sync(group, 128);
    if (thread == 0) {
      tensor_store(&c, tile % across * BN, tile / across * BM + rows, out);
      bulk_commit();
    }
  }
  if (thread == 0) bulk_wait();
}
