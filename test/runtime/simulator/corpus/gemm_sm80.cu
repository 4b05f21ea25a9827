// GEMM for sm_80: C = A B with A [M, K], B [K, N] f16 and C [M, N] f32, all rows contiguous, K and N
// multiples of 8. Tiles of 64x32 and 32x64 come by cp.async in three stages, their 16-byte chunks
// swizzled; four warps multiply 32x32 each by ldmatrix and mma.sync. 128 threads, 24 KiB of shared
// memory.
#include "ptx.cuh"

constexpr int BM = 64, BN = 64, BK = 32, STAGES = 3;
constexpr int A_BYTES = BM * BK * 2, STAGE = A_BYTES + BK * BN * 2;

DEVICE uint32_t at_a(int row, int chunk) { return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4); }
DEVICE uint32_t at_b(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

DEVICE void load(uint32_t stage, const char *a, const char *b, int m, int n, int k, int k0) {
  int row0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
#pragma unroll
  for (int i = threadIdx.x; i < BM * BK / 8; i += 128) {
    int row = i / 4, chunk = i % 4, y = row0 + row, x = k0 + chunk * 8;
    bool inside = y < m && x < k;
    copy16(stage + at_a(row, chunk), inside ? a + (size_t(y) * k + x) * 2 : a, inside ? 16 : 0);
  }
#pragma unroll
  for (int i = threadIdx.x; i < BK * BN / 8; i += 128) {
    int row = i / 8, chunk = i % 8, y = k0 + row, x = column0 + chunk * 8;
    bool inside = y < k && x < n;
    copy16(stage + A_BYTES + at_b(row, chunk), inside ? b + (size_t(y) * n + x) * 2 : b,
           inside ? 16 : 0);
  }
}

extern "C" __global__ void __launch_bounds__(128)
    gemm(const char *a, const char *b, float *c, int m, int n, int k) {
  __shared__ __align__(128) char smem[STAGES * STAGE];
  uint32_t tiles = shared(smem);
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, rows = (warp & 1) * 32, cols = (warp >> 1) * 32;
  int steps = (k + BK - 1) / BK;
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < steps) load(tiles + s * STAGE, a, b, m, n, k, s * BK);
    commit();
  }
  float d[2][4][4] = {};
  for (int i = 0; i < steps; ++i) {
    wait_group<STAGES - 2>();
    __syncthreads();
    int next = i + STAGES - 1;
    if (next < steps) load(tiles + next % STAGES * STAGE, a, b, m, n, k, next * BK);
    commit();
    uint32_t at = tiles + i % STAGES * STAGE, bt = at + A_BYTES;
#pragma unroll
    for (int j = 0; j < BK / 16; ++j) {
      uint32_t left[2][4], right[2][4];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        ldsm(left[h], at + at_a(rows + h * 16 + (lane & 15), j * 2 + (lane >> 4)));
        ldsm_t(right[h], bt + at_b(j * 16 + (lane & 15), cols / 8 + h * 2 + (lane >> 4)));
      }
#pragma unroll
      for (int y = 0; y < 2; ++y)
#pragma unroll
        for (int x = 0; x < 4; ++x)
          mma(d[y][x], left[y], right[x / 2][x % 2 * 2], right[x / 2][x % 2 * 2 + 1]);
    }
  }
#pragma unroll
  for (int y = 0; y < 2; ++y)
#pragma unroll
    for (int x = 0; x < 4; ++x)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int row = blockIdx.y * BM + rows + y * 16 + lane / 4 + e / 2 * 8;
        int column = blockIdx.x * BN + cols + x * 8 + lane % 4 * 2 + e % 2;
        if (row < m && column < n) c[size_t(row) * n + column] = d[y][x][e];
      }
}
