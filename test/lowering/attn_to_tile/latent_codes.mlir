// RUN: tilewright-opt %s -p 'convert-attn-to-tile{target=sm_90 warps=4 rows=32 kv_tile=32 stages=3}' | filecheck %s

// Codes lie in rings of their own, and one tile of them is widened at a time.
// CHECK-LABEL: tile.kernel @codes({{.*}}, %softmax_scale: f32, %ckv_scale: f32, %kpe_scale: f32)
// CHECK-DAG: tile.alloc : !tile.ring<3 x [32, 512], f8E4M3FN, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<3 x [32, 64], f8E4M3FN, padded16>
// CHECK-DAG: tile.alloc : !tile.ring<1 x [32, 512], bf16, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<1 x [32, 64], bf16, swizzle128>
// The scale of the latent elements is a factor of the scores.
// CHECK: %[[SCALE:.*]] = arith.mulf %softmax_scale, %ckv_scale : f32
// A step: the part that carries positions is widened first, and its product in units of the other's scale.
// CHECK: scf.for
// CHECK: %[[KPE:.*]] = tile.widen %{{.*}} into %wide_kpe {convert}
// CHECK: %[[CKV:.*]] = tile.widen %{{.*}} into %wide_ckv {convert}
// CHECK: tile.slice %[[KPE]][%keys]
// CHECK: tile.mma {{.*}} -> !tile.frag<[32, 16], f32, mma_c>
// CHECK: arith.divf %kpe_scale, %ckv_scale : f32
// CHECK: tile.slice %[[CKV]][%keys]
// CHECK: tile.mma {{.*}} -> !tile.frag<[32, 16], f32, mma_c>
// CHECK: tile.ldmatrix %[[CKV]][%{{.*}}, %{{.*}}] transpose
attn.variant @all

func.func @codes(
  %q_nope: !attn.ragged<[n, 16, 512], bf16>, %q_pe: !attn.ragged<[n, 16, 64], bf16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f8E4M3FN, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], f8E4M3FN, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>) {
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %ckv, %kpe over %batch scale %scale variant @all
    {scales = #attn.scales<tensor>}
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], f8E4M3FN, NHD>, !attn.paged<[pages, 16, 1, 64], f8E4M3FN, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
}
