// Every other thread comes to a barrier that all threads of a warp have to come to together.
extern "C" __global__ void divergence(const int *x, int *y) {
  __shared__ int tile[128];
  int i = threadIdx.x;
  tile[i] = x[i];
  if (i % 2 == 0) {
    __syncthreads();  // BUG
    tile[i] += 1;
  }
  y[i] = tile[i];
}
