// RUN: tilewright-opt %s -p 'convert-attn-to-tile{warps=2 kv_tile=32 stages=3}' | filecheck %s
// RUN: tilewright-opt %s -p 'convert-attn-to-tile{target=sm_90a}' | filecheck %s --check-prefix=DEFAULT

// Warps have 16 rows each; a ring of 3 stages has the tiles of 2 steps under way before the loop.
// CHECK-LABEL: tile.kernel @attend
// CHECK-SAME: warps 2 grid [cta_bounds - 1, 1, 1]
// CHECK: tile.alloc : !tile.ring<1 x [32, 64], bf16, swizzle128>
// CHECK: tile.alloc : !tile.ring<3 x [32, 64], bf16, swizzle128>
// CHECK: tile.copy_async %q
// CHECK: %[[K0:.*]], %[[V0:.*]] = tile.copy_async %k_pages, %v_pages
// CHECK: %[[K1:.*]], %[[V1:.*]] = tile.copy_async %k_pages, %v_pages
// CHECK: tile.wait
// CHECK: scf.for {{.*}}iter_args({{.*}}, %[[K2:.*]] = %[[K0]], %[[V2:.*]] = %[[V0]], %[[K3:.*]] = %[[K1]], %[[V3:.*]] = %[[V1]])
// CHECK: scf.for {{.*}}iter_args({{.*}}, %[[K:.*]] = %[[K2]], %[[V:.*]] = %[[V2]], %[[K_AHEAD:.*]] = %[[K3]], %[[V_AHEAD:.*]] = %[[V3]])
// A step waits for its keys and later for its values, and passes the others on, the newest last.
// CHECK: tile.wait %[[K]] :
// CHECK: %[[K4:.*]], %[[V4:.*]] = tile.copy_async %k_pages, %v_pages
// CHECK: tile.wait %[[V]] :
// CHECK: scf.yield %{{.*}}, %{{.*}}, %{{.*}}, %[[K_AHEAD]], %[[V_AHEAD]], %[[K4]], %[[V4]] :

// DEFAULT-LABEL: tile.kernel @attend
// DEFAULT-SAME: warps 4
// DEFAULT: tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
// DEFAULT: tile.alloc : !tile.ring<2 x [64, 64], bf16, swizzle128>
attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 2, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>
}
