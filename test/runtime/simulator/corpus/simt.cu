// Scalar kernels: streaming, a tiled product in shared memory, warp reductions, divergence.
#include <cstdint>

extern "C" __global__ void saxpy(int n, float a, const float *x, float *y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}

extern "C" __global__ void matmul(const float *a, const float *b, float *c, int m, int n, int k) {
  __shared__ float as[16][16], bs[16][16];
  int tx = threadIdx.x, ty = threadIdx.y;
  int row = blockIdx.y * 16 + ty, col = blockIdx.x * 16 + tx;
  float sum = 0;
  for (int t = 0; t < k; t += 16) {
    as[ty][tx] = row < m && t + tx < k ? a[row * k + t + tx] : 0.0f;
    bs[ty][tx] = t + ty < k && col < n ? b[(t + ty) * n + col] : 0.0f;
    __syncthreads();
    for (int i = 0; i < 16; ++i) sum += as[ty][i] * bs[i][tx];
    __syncthreads();
  }
  if (row < m && col < n) c[row * n + col] = sum;
}

extern "C" __global__ void softmax(const float *x, float *y, int columns) {
  const float *row = x + static_cast<long>(blockIdx.x) * columns;
  float *out = y + static_cast<long>(blockIdx.x) * columns;
  int lane = threadIdx.x;
  float top = -INFINITY, sum = 0;
  for (int i = lane; i < columns; i += 32) top = fmaxf(top, row[i]);
  for (int d = 16; d; d >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
  for (int i = lane; i < columns; i += 32) sum += __expf(row[i] - top);
  for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
  for (int i = lane; i < columns; i += 32) out[i] = __expf(row[i] - top) / sum;
}

extern "C" __global__ void mandelbrot(int *out, int width, int height, int limit) {
  int px = blockIdx.x * blockDim.x + threadIdx.x, py = blockIdx.y * blockDim.y + threadIdx.y;
  if (px >= width || py >= height) return;
  float cx = -2.0f + 3.0f * px / width, cy = -1.5f + 3.0f * py / height, x = 0, y = 0;
  int i = 0;
  while (i < limit && x * x + y * y < 4.0f) {
    float t = x * x - y * y + cx;
    y = 2.0f * x * y + cy;
    x = t;
    ++i;
  }
  out[py * width + px] = i;
}

__constant__ int weights[4] = {1, -2, 3, -4};
__device__ unsigned total = 5;

extern "C" __global__ void mixed(const int *x, int *y, int n) {
  int local[4], i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int value = x[i];
  for (int j = 0; j < 4; ++j) local[(value + j) & 3] = weights[j] * value;
  int picked = local[i & 3];
  switch (value & 7) {
    case 0: picked += 10; break;
    case 1: picked -= 20; break;
    case 2: picked ^= 30; break;
    case 3: picked *= 40; break;
    case 5: picked |= 50; break;
    default: picked = ~picked;
  }
  atomicAdd(&total, static_cast<unsigned>(value & 1));
  y[i] = picked;
}
