// Three warpgroups ask for 128 * 40 + 256 * 240 registers, more than the 65536 there are.
extern "C" __global__ void __launch_bounds__(384, 1) registers(int *y) {
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");  // BUG
  }
  y[threadIdx.x] = 1;
}
