// A hundred threads fill what 128 read.
extern "C" __global__ void uninitialised(const int *x, int *y) {
  __shared__ int tile[128];
  int i = threadIdx.x;
  if (i < 100) tile[i] = x[i];
  __syncthreads();
  y[i] = tile[127 - i];  // BUG
}
