// Clusters of CTAs: distributed shared memory, multicast, a ring.
#include <cooperative_groups.h>

#include "ptx.cuh"

namespace cg = cooperative_groups;

// Counts values below bins * cluster size: each CTA of a cluster holds `bins` <= 64 counters, and all
// of the cluster add to them; then they are added to those of the grid.
extern "C" __global__ void histogram(const unsigned *x, unsigned *counts, int n, int bins) {
  __shared__ unsigned local[64];
  cg::cluster_group cluster = cg::this_cluster();
  for (int i = threadIdx.x; i < bins; i += blockDim.x) local[i] = 0;
  cluster.sync();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(cluster.map_shared_rank(local, x[i] / bins) + x[i] % bins, 1u);
  cluster.sync();
  for (int i = threadIdx.x; i < bins; i += blockDim.x)
    atomicAdd(counts + cluster.block_rank() * bins + i, local[i]);
}

// Sums of the clusters' values, one a thread: every CTA reads the sums of the others.
extern "C" __global__ void sums(const unsigned *x, unsigned *y) {
  __shared__ unsigned own;
  cg::cluster_group cluster = cg::this_cluster();
  unsigned sum = __reduce_add_sync(~0u, x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) own = sum;
  cluster.sync();
  unsigned all = 0;
  for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank)
    all += *cluster.map_shared_rank(&own, rank);
  cluster.sync();  // nobody leaves while its sum is read
  if (threadIdx.x == 0) y[blockIdx.x] = all;
}

// Two CTAs load half a tile of 32x32 f32 each and send it to both; each adds the tiles of one cluster
// up, scaled by its own rank + 1. x is [tiles * 32, 32]; y is [CTAs, 32, 32]. 256 threads.
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(256)
    multicast(const __grid_constant__ Map x, float *y, int tiles) {
  __shared__ __align__(128) float tile[32][32];
  __shared__ uint64_t bar;
  cg::cluster_group cluster = cg::this_cluster();
  unsigned rank = cluster.block_rank(), full = shared(&bar);
  if (threadIdx.x == 0) {
    init(full, 1);
    fence_init();
  }
  cluster.sync();
  float sum[4] = {};
#pragma unroll 1
  for (int t = 0; t < tiles; ++t) {
    if (threadIdx.x == 0) {
      expect(full, sizeof(tile));
      asm volatile(
          "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
          ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared(tile[rank * 16])),
          "l"(&x), "r"(0), "r"(t * 32 + int(rank) * 16), "r"(full), "h"(uint16_t(3))
          : "memory");
    }
    wait(full, t & 1);
    for (int i = 0; i < 4; ++i)
      sum[i] += (rank + 1) * tile[i * 8 + threadIdx.x / 32][threadIdx.x % 32];
    cluster.sync();  // both have read the tile before either sends the next
  }
  for (int i = 0; i < 4; ++i) y[blockIdx.x * 1024 + i * 256 + threadIdx.x] = sum[i];
}

DEVICE void wait_cluster(uint32_t bar, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred p;\nAGAIN%=:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
      "@p bra DONE%=;\nbra AGAIN%=;\nDONE%=:\n\t}" ::"r"(bar), "r"(parity) : "memory");
}
DEVICE uint32_t remote(uint32_t address, unsigned rank) {
  uint32_t r;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}

// Values go round the CTAs of a cluster, one a thread: every CTA adds its own and hands the result
// on, as often as there are CTAs. 64 threads; one slot, filled by st.async and freed by the receiver's
// arrivals at the sender's mbarrier.
extern "C" __global__ void __launch_bounds__(64) ring(const unsigned *x, unsigned *y) {
  __shared__ unsigned slot[64];
  __shared__ uint64_t bars[2];
  cg::cluster_group cluster = cg::this_cluster();
  unsigned rank = cluster.block_rank(), size = cluster.num_blocks(), thread = threadIdx.x;
  uint32_t full = shared(&bars[0]), empty = shared(&bars[1]);  // of one's own, of the next one's slot
  if (thread == 0) {
    init(full, 1);
    init(empty, 64);
    fence_init();
  }
  cluster.sync();
  unsigned next = (rank + 1) % size, before = (rank + size - 1) % size;
  uint32_t target = remote(shared(&slot[thread]), next), signal = remote(full, next);
  uint32_t freed = remote(empty, before);
  unsigned own = x[blockIdx.x * 64 + thread], value = own;
#pragma unroll 1
  for (unsigned i = 0; i < size; ++i) {
    if (thread == 0) expect(full, sizeof(slot));
    wait_cluster(empty, i & 1 ^ 1);
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
                     target), "r"(value), "r"(signal) : "memory");
    wait_cluster(full, i & 1);
    value = 3 * slot[thread] + own;
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(freed)
                 : "memory");
  }
  cluster.sync();
  y[blockIdx.x * 64 + thread] = value;
}
