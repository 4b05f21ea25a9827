// Threads read what other warps wrote, with no barrier between.
extern "C" __global__ void race(const int *x, int *y) {
  __shared__ int tile[128];
  int i = threadIdx.x;
  tile[i] = x[i];  // OTHER
  y[i] = tile[127 - i];  // BUG
}
