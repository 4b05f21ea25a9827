// Two stages, of which only the first one's barrier was initialised.
#include "../corpus/ptx.cuh"

extern "C" __global__ void mbarrier(int *y) {
  __shared__ uint64_t bars[2];
  uint32_t at = shared(bars) + threadIdx.x / 64 * 8;
  if (threadIdx.x == 0) init(at, 64);
  __syncthreads();
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");  // BUG
  wait(at, 0);
  y[threadIdx.x] = 1;
}
