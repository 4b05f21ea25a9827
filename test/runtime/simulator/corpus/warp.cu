// Warps and blocks working together: scans, votes, matches, elections, transposes, histograms.
#include "ptx.cuh"

// Keeps the positive values of each row of 32, in order; counts[row] is their number.
extern "C" __global__ void compact(const int *x, int *y, int *counts, int rows) {
  int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  int value = x[row * 32 + lane];
  unsigned kept = __ballot_sync(~0u, value > 0);
  if (value > 0) y[row * 32 + __popc(kept & ((1u << lane) - 1))] = value;
  if (lane == 0) counts[row] = __popc(kept);
}

// Of each row of n <= 32 values: inclusive sums, then sum, minimum, maximum, or of the bits. Lanes
// from n on leave first: the masks name the others.
extern "C" __global__ void scan(const int *x, int *sums, int *totals, int n) {
  int lane = threadIdx.x % 32, row = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  unsigned mask = __ballot_sync(~0u, lane < n);
  if (lane >= n) return;
  int value = x[row * n + lane], sum = value;
  for (int d = 1; d < 32; d *= 2) {
    int other = __shfl_up_sync(mask, sum, d);
    if (lane >= d) sum += other;
  }
  sums[row * n + lane] = sum;
  int add = __reduce_add_sync(mask, value), low = __reduce_min_sync(mask, value);
  int high = __reduce_max_sync(mask, value), bits = __reduce_or_sync(mask, unsigned(value));
  if (lane == 0) *reinterpret_cast<int4 *>(totals + row * 4) = make_int4(add, low, high, bits);
}

// Counts keys: lanes with one key add once, by their first lane. An elected lane counts the warps.
extern "C" __global__ void count(const unsigned *keys, unsigned *counts, unsigned *warps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned mask = __ballot_sync(~0u, i < n), chosen;
  if (i >= n) return;
  unsigned same = __match_any_sync(mask, keys[i]);
  if (threadIdx.x % 32 == __ffs(same) - 1) atomicAdd(counts + keys[i], __popc(same));
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, %1;\nselp.u32 %0, 1, 0, p;\n\t}"
               : "=r"(chosen) : "r"(mask));
  if (chosen) atomicAdd(warps, 1u);
}

// Inclusive sums of n <= blockDim.x values a block; threads from n on leave before the barriers.
extern "C" __global__ void block_scan(const unsigned *x, unsigned *y, int n) {
  __shared__ unsigned totals[32];
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  unsigned mask = __ballot_sync(~0u, thread < n);
  if (thread >= n) return;
  unsigned sum = x[blockIdx.x * n + thread];
  for (int d = 1; d < 32; d *= 2) {
    unsigned other = __shfl_up_sync(mask, sum, d);
    if (lane >= d) sum += other;
  }
  if (lane == 31 || thread == n - 1) totals[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    int warps = (n + 31) / 32;
    unsigned total = lane < warps ? totals[lane] : 0;
    for (int d = 1; d < 32; d *= 2) {
      unsigned other = __shfl_up_sync(mask, total, d);
      if (lane >= d) total += other;
    }
    if (lane < warps) totals[lane] = total;
  }
  __syncthreads();
  y[blockIdx.x * n + thread] = sum + (warp ? totals[warp - 1] : 0);
}

// y = x transposed, through tiles of 32x32 with padded rows; the block walks down. 32x8 threads.
extern "C" __global__ void transpose(const float *x, float *y, int rows, int columns) {
  __shared__ float tile[32][33];
  int column0 = blockIdx.x * 32;
  for (int row0 = 0; row0 < rows; row0 += 32) {
    for (int i = threadIdx.y; i < 32; i += 8)
      if (row0 + i < rows && column0 + threadIdx.x < columns)
        tile[i][threadIdx.x] = x[(row0 + i) * columns + column0 + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8)
      if (row0 + threadIdx.x < rows && column0 + i < columns)
        y[(column0 + i) * rows + row0 + threadIdx.x] = tile[threadIdx.x][i];
    __syncthreads();
  }
}

// Counts bytes: 256 counters of a block in shared memory, then added to those of the grid.
extern "C" __global__ void histogram(const uint8_t *x, unsigned *counts, int n) {
  __shared__ unsigned local[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(local + x[i], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x)
    if (local[255 - i]) atomicAdd(counts + 255 - i, local[255 - i]);
}

DEVICE float block_sum(float value, float *part) {
  for (int d = 16; d; d /= 2) value += __shfl_xor_sync(~0u, value, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += part[w];
  __syncthreads();
  return sum;
}

// Layer norm of rows of 4 * blockDim.x values, by vectors of four.
extern "C" __global__ void layer_norm(const float4 *x, const float4 *scale, const float4 *shift,
                                      float4 *y, float epsilon) {
  __shared__ float part[32];
  int i = threadIdx.x, at = blockIdx.x * blockDim.x + i;
  float count = 4.0f * blockDim.x;
  float4 v = x[at], g = scale[i], b = shift[i];
  float mean = block_sum(v.x + v.y + v.z + v.w, part) / count;
  v = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
  float square = block_sum(v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w, part) / count;
  float r = rsqrtf(square + epsilon);
  y[at] = make_float4(v.x * r * g.x + b.x, v.y * r * g.y + b.y, v.z * r * g.z + b.z,
                      v.w * r * g.w + b.w);
}
