// Warp-specialised GEMM for sm_90a: C = A B^T with A [M, K], B [N, K] f16 and C [M, N] f32, all rows
// contiguous. Warpgroup 0 brings tiles of 128x64 and 64x64 by TMA (128-byte swizzle) in three
// stages; warpgroups 1 and 2 own 64 rows each and multiply with wgmma: both operands from shared
// memory, or A from registers by ldmatrix. 384 threads; 3 * 24 KiB + 1 KiB of shared memory.
#include <cstdint>

constexpr int BM = 128, BN = 64, BK = 64, STAGES = 3;
constexpr int A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2, STAGE = A_BYTES + B_BYTES;

struct alignas(64) Map { char bytes[128]; };

__device__ __forceinline__ void init(uint32_t bar, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count));
}
__device__ __forceinline__ void wait(uint32_t bar, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred p;\nAGAIN%=:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra DONE%=;\nbra AGAIN%=;\nDONE%=:\n\t}" ::"r"(bar), "r"(parity) : "memory");
}
__device__ __forceinline__ void arrive(uint32_t bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void expect(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void fetch(uint32_t dst, const Map *map, int x, int y, uint32_t bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(dst), "l"(map), "r"(x), "r"(y), "r"(bar) : "memory");
}
__device__ __forceinline__ uint64_t describe(uint32_t address) {  // K-major, 128-byte swizzle
  return uint64_t((address & 0x3FFFF) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 |
         uint64_t(1) << 62;
}
__device__ __forceinline__ void multiply(float (&d)[32], uint64_t a, uint64_t b, int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;\n\t}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),
        "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
        "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
        "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
        "+f"(d[30]), "+f"(d[31]) : "l"(a), "l"(b), "r"(add));
}
__device__ __forceinline__ void multiply(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                         int add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, "
      "p, 1, 1, 0;\n\t}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),
        "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
        "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
        "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
        "+f"(d[30]), "+f"(d[31]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}
__device__ __forceinline__ void load(uint32_t (&a)[4], uint32_t tile, int row, int k) {
  int lane = threadIdx.x % 32, r = row + lane % 16, chunk = k / 8 + lane / 16;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(tile + r * 128 + ((chunk ^ (r & 7)) << 4)));
}

template <bool FROM_REGISTERS>
__device__ __forceinline__ void gemm(const Map *a, const Map *b, float *c, int m, int n, int k) {
  extern __shared__ __align__(1024) char smem[];
  __shared__ uint64_t bars[2 * STAGES];
  uint32_t tiles = __cvta_generic_to_shared(smem), full = __cvta_generic_to_shared(bars);
  uint32_t empty = full + 8 * STAGES;
  int group = threadIdx.x / 128, steps = (k + BK - 1) / BK;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; ++s) init(full + 8 * s, 1), init(empty + 8 * s, 256);
    asm volatile("fence.mbarrier_init.release.cluster;");
  }
  __syncthreads();
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0)
      for (int i = 0; i < steps; ++i) {
        int s = i % STAGES;
        uint32_t tile = tiles + s * STAGE, bar = full + 8 * s;
        wait(empty + 8 * s, (i / STAGES & 1) ^ 1);
        expect(bar, STAGE);
        fetch(tile, a, i * BK, blockIdx.y * BM, bar);
        fetch(tile + A_BYTES, b, i * BK, blockIdx.x * BN, bar);
      }
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  float d[32] = {};
  int rows = (group - 1) * 64, warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  for (int i = 0; i < steps; ++i) {
    int s = i % STAGES;
    uint32_t tile = tiles + s * STAGE;
    wait(full + 8 * s, i / STAGES & 1);
    uint32_t fragments[BK / 16][4];
    if (FROM_REGISTERS)
      for (int j = 0; j < BK / 16; ++j) load(fragments[j], tile, rows + warp * 16, j * 16);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int j = 0; j < BK / 16; ++j) {
      uint64_t right = describe(tile + A_BYTES + j * 32);
      if (FROM_REGISTERS) multiply(d, fragments[j], right, i + j > 0);
      else multiply(d, describe(tile + rows * 128 + j * 32), right, i + j > 0);
    }
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
    arrive(empty + 8 * s);
  }
  int row = blockIdx.y * BM + rows + warp * 16 + lane / 4, column = blockIdx.x * BN + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    int y = row + j / 2 % 2 * 8, x = column + j / 4 * 8 + j % 2;
    if (y < m && x < n) c[size_t(y) * n + x] = d[j];
  }
}

extern "C" __global__ void __launch_bounds__(384, 1) gemm_ss(
    const __grid_constant__ Map a, const __grid_constant__ Map b, float *c, int m, int n, int k) {
  gemm<false>(&a, &b, c, m, n, k);
}
extern "C" __global__ void __launch_bounds__(384, 1) gemm_rs(
    const __grid_constant__ Map a, const __grid_constant__ Map b, float *c, int m, int n, int k) {
  gemm<true>(&a, &b, c, m, n, k);
}
