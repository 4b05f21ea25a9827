// A bulk store still reads the shared memory of a CTA that ends.
#include "../corpus/ptx.cuh"

extern "C" __global__ void in_flight_store(const int *x, int *y) {
  __shared__ __align__(16) int tile[128];
  tile[threadIdx.x] = 2 * x[blockIdx.x * 128 + threadIdx.x];
  proxy_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int *to = y + blockIdx.x * 128;
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 512;"
                 ::"l"(to), "r"(shared(tile)) : "memory");  // BUG
    bulk_commit();
  }
}
