// Every thread reads the value after its own; the last one has none.
extern "C" __global__ void bounds(const float *x, float *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i + 1];  // BUG
}
