// The barrier expects 512 bytes, the copy brings 256: its phase never ends.
#include "../corpus/ptx.cuh"

extern "C" __global__ void transaction(const int *x, int *y) {
  __shared__ __align__(16) int tile[128];
  __shared__ uint64_t bar;
  uint32_t at = shared(&bar), done = 0;
  tile[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    init(at, 1);
    fence_init();
    proxy_fence();
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 512;" ::"r"(at));  // OTHER
    bulk_load(shared(tile), x, 256, at);
  }
  __syncthreads();
  while (!done)
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done) : "r"(at) : "memory");  // BUG
  y[threadIdx.x] = tile[threadIdx.x];
}
