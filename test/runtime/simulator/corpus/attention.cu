// FlashAttention-2 structure: one warp owns 16 rows of Q; K and V tiles of 64 keys come by
// cp.async in two stages; bf16 operands, f32 accumulators. 128 threads, 64 query rows a CTA.
// Layout [heads, rows, D]; rows a multiple of 64; shared memory 64*D*2 * 5 bytes.
#include <cstdint>

constexpr int D = 128, BM = 64, BN = 64, ROW = D * 2;

__device__ __forceinline__ uint32_t swizzle(int row, int chunk) {
  return row * ROW + ((chunk ^ (row & 7)) << 4);
}
__device__ __forceinline__ void copy_tile(uint32_t dst, const char *src, int tid) {
#pragma unroll
  for (int i = 0; i < 64 * ROW / 16 / 128; ++i) {
    int id = i * 128 + tid, row = id / (ROW / 16), chunk = id % (ROW / 16);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst + swizzle(row, chunk)),
                 "l"(src + row * ROW + chunk * 16));
  }
}
__device__ __forceinline__ void ldsm(uint32_t (&r)[4], uint32_t a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a));
}
__device__ __forceinline__ void ldsm_t(uint32_t (&r)[4], uint32_t a) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a));
}
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ uint32_t pack(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

extern "C" __global__ void __launch_bounds__(128)
    attention(const char *q, const char *k, const char *v, char *o, int rows, float scale) {
  extern __shared__ __align__(1024) char smem[];
  uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(smem));
  const uint32_t tile = 64 * ROW;
  int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  long head = static_cast<long>(blockIdx.y) * rows * ROW;
  q += head + static_cast<long>(blockIdx.x) * BM * ROW;
  o += head + static_cast<long>(blockIdx.x) * BM * ROW;
  k += head;
  v += head;
  copy_tile(base, q, tid);
  copy_tile(base + tile, k, tid);
  asm volatile("cp.async.commit_group;");
  copy_tile(base + 3 * tile, v, tid);
  asm volatile("cp.async.commit_group;");
  float acc[D / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  uint32_t qf[D / 16][4];
  int blocks = rows / BN;
  for (int j = 0; j < blocks; ++j) {
    uint32_t kt = base + tile * (1 + (j & 1)), vt = base + tile * (3 + (j & 1));
    asm volatile("cp.async.wait_group 1;");
    __syncthreads();
    if (j == 0) {
#pragma unroll
      for (int s = 0; s < D / 16; ++s)
        ldsm(qf[s], base + swizzle(warp * 16 + (lane & 15), s * 2 + (lane >> 4)));
    }
    if (j + 1 < blocks)
      copy_tile(base + tile * (1 + ((j + 1) & 1)), k + static_cast<long>(j + 1) * tile, tid);
    asm volatile("cp.async.commit_group;");
    float s[BN / 8][4] = {};
#pragma unroll
    for (int n = 0; n < BN / 16; ++n)
#pragma unroll
      for (int c = 0; c < D / 16; ++c) {
        uint32_t b[4];
        ldsm(b, kt + swizzle(n * 16 + (lane & 7) + ((lane >> 4) << 3), c * 2 + ((lane >> 3) & 1)));
        mma(s[2 * n], qf[c], b[0], b[1]);
        mma(s[2 * n + 1], qf[c], b[2], b[3]);
      }
    float rescale[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float m = top[h];
#pragma unroll
      for (int n = 0; n < BN / 8; ++n) m = fmaxf(m, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
      m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
      rescale[h] = exp2_approx((top[h] - m) * scale);
      top[h] = m;
      float offset = m * scale, part = 0;
#pragma unroll
      for (int n = 0; n < BN / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float p = exp2_approx(fmaf(s[n][2 * h + e], scale, -offset));
          s[n][2 * h + e] = p;
          part += p;
        }
      sum[h] = sum[h] * rescale[h] + part;
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      acc[n][0] *= rescale[0];
      acc[n][1] *= rescale[0];
      acc[n][2] *= rescale[1];
      acc[n][3] *= rescale[1];
    }
    asm volatile("cp.async.wait_group 1;");
    __syncthreads();
    if (j + 1 < blocks)
      copy_tile(base + tile * (3 + ((j + 1) & 1)), v + static_cast<long>(j + 1) * tile, tid);
    asm volatile("cp.async.commit_group;");
#pragma unroll
    for (int c = 0; c < BN / 16; ++c) {
      uint32_t p[4] = {pack(s[2 * c][0], s[2 * c][1]), pack(s[2 * c][2], s[2 * c][3]),
                       pack(s[2 * c + 1][0], s[2 * c + 1][1]),
                       pack(s[2 * c + 1][2], s[2 * c + 1][3])};
#pragma unroll
      for (int n = 0; n < D / 16; ++n) {
        uint32_t b[4];
        ldsm_t(b, vt + swizzle(c * 16 + (lane & 15), n * 2 + (lane >> 4)));
        mma(acc[2 * n], p, b[0], b[1]);
        mma(acc[2 * n + 1], p, b[2], b[3]);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
    sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
    float inverse = 1.0f / sum[h];
    int row = warp * 16 + (lane >> 2) + 8 * h;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<uint32_t *>(o + row * ROW + n * 16 + (lane & 3) * 4) =
          pack(acc[n][2 * h] * inverse, acc[n][2 * h + 1] * inverse);
  }
}
