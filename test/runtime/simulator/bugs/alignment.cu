// Vectors of four from an address that is none of theirs: row 1 begins at an odd element.
extern "C" __global__ void alignment(const float *x, float4 *y, int columns) {
  const float *row = x + blockIdx.x * columns;
  y[blockIdx.x * blockDim.x + threadIdx.x] =
      reinterpret_cast<const float4 *>(row)[threadIdx.x];  // BUG
}
