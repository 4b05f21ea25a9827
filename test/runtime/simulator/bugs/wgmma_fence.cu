// A wgmma adds to registers that the thread has just written, with no fence between.
#include "../corpus/ptx.cuh"

extern "C" __global__ void __launch_bounds__(128) wgmma_fence(const uint4 *x, float *y) {
  __shared__ __align__(1024) uint4 a[512], b[64];
  for (int i = threadIdx.x; i < 512; i += 128) a[i] = x[i];
  if (threadIdx.x < 64) b[threadIdx.x] = x[threadIdx.x];
  proxy_fence();
  __syncthreads();
  uint64_t left = describe(shared(a)), right = describe(shared(b));
  float d[4] = {1, 2, 3, 4};
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "l"(left), "l"(right) : "memory");  // BUG
  wgmma_commit();
  wgmma_wait<0>();
  y[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}
