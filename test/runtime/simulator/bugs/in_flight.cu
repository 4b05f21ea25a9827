// The last tile is brought ahead for a step that doesn't come, and nobody waits for it.
#include "../corpus/ptx.cuh"

extern "C" __global__ void in_flight(const int *x, int *y, int tiles) {
  __shared__ __align__(16) int tile[2][128];
  int i = threadIdx.x;
  uint32_t at = shared(tile) + i * 16;
  const int *mine = x + i * 4;
  copy16(at, mine, 16);
  commit();
  int4 sum = make_int4(0, 0, 0, 0);
  for (int t = 0; t < tiles; ++t) {
    at ^= 512;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(mine));  // BUG
    commit();
    wait_group<1>();
    int4 v = *reinterpret_cast<int4 *>(&tile[t & 1][i * 4]);
    sum = make_int4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
  }
  reinterpret_cast<int4 *>(y)[i] = sum;
}
