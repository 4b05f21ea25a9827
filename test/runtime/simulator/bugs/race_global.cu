// Each CTA reads what the next one writes in the same launch.
extern "C" __global__ void race_global(const int *x, int *y, int *z) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  y[i] = x[i];  // OTHER
  __syncthreads();
  int next = i + blockDim.x;
  z[i] = y[next < n ? next : next - n];  // BUG
}
