// The second CTA reads what the host has freed.
extern "C" __global__ void use_after_free(const float *live, const float *dead, float *y) {
  const float *x = blockIdx.x ? dead : live;
  y[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];  // BUG
}
