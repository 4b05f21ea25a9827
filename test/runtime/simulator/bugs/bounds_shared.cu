// The tile has a row for each warp; the warps read the row after their own.
extern "C" __global__ void bounds_shared(const int *x, int *y) {
  __shared__ int tile[4][32];
  int i = threadIdx.x, warp = i / 32, lane = i % 32;
  tile[warp][lane] = x[i];
  __syncthreads();
  y[i] = tile[warp + 1][lane];  // BUG
}
