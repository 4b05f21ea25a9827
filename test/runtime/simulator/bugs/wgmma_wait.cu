// The sums of a wgmma are stored before anybody has waited for them.
#include "../corpus/ptx.cuh"

extern "C" __global__ void __launch_bounds__(128) wgmma_wait(const uint4 *x, float *y) {
  __shared__ __align__(1024) uint4 a[512], b[64];
  for (int i = threadIdx.x; i < 512; i += 128) a[i] = x[i];
  if (threadIdx.x < 64) b[threadIdx.x] = x[threadIdx.x];
  proxy_fence();
  __syncthreads();
  uint64_t left = describe(shared(a)), right = describe(shared(b));
  float d[4] = {};
  wgmma_fence();
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "l"(left), "l"(right) : "memory");  // OTHER
  wgmma_commit();
  y[threadIdx.x] = d[0];  // BUG
  wgmma_wait<0>();
  y[threadIdx.x + 128] = d[1];
}
