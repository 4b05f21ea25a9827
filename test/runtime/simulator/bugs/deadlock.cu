// The barrier counts one arrival more than there are threads: its phase never ends.
#include "../corpus/ptx.cuh"

extern "C" __global__ void deadlock(int *y) {
  __shared__ uint64_t bar;
  uint32_t at = shared(&bar), done = 0;
  if (threadIdx.x == 0) init(at, blockDim.x + 1);
  __syncthreads();
  arrive(at);
  while (!done)
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done) : "r"(at) : "memory");  // BUG
  y[threadIdx.x] = 1;
}
