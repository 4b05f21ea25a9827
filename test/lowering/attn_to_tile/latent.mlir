// RUN: tilewright-opt %s -p 'convert-attn-to-tile{target=sm_80 warps=4 rows=32 kv_tile=32 stages=3}' | filecheck %s
// RUN: tilewright-opt %s -p 'convert-attn-to-tile{target=sm_90 warps=8}' | filecheck %s --check-prefix=DEFAULT

// Two teams of 2 warps: each has 16 keys of a tile, and 256 columns of the output.
// CHECK-LABEL: tile.kernel @apart(%q_nope: !llvm.ptr<1>, %q_pe: !llvm.ptr<1>, %ckv_pages: !llvm.ptr<1>, %kpe_pages: !llvm.ptr<1>, %qo_indptr
// CHECK-DAG: tile.alloc : !tile.ring<1 x [32, 512], bf16, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<1 x [32, 64], bf16, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<3 x [32, 512], bf16, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<3 x [32, 64], bf16, swizzle128>
// CHECK-DAG: tile.alloc : !tile.ring<1 x [32, 32], bf16, padded16>
// CHECK: %[[TEAM:.*]] = tile.team_index rows 32
// CHECK: %keys = arith.muli %[[TEAM]], %c16_i32 : i32
// CHECK: %columns = arith.muli %[[TEAM]], %c256_i32 : i32
// Queries, then two tiles of the cache; one wait for both parts of the queries.
// CHECK: %[[QN:.*]] = tile.copy_async %q_nope
// CHECK: %[[QP:.*]] = tile.copy_async %q_pe
// CHECK: tile.copy_async %ckv_pages
// CHECK: tile.copy_async %kpe_pages
// CHECK: tile.copy_async %ckv_pages
// CHECK: tile.copy_async %kpe_pages
// CHECK: tile.wait %[[QN]], %[[QP]] :
// CHECK: tile.fill %{{.*}} : f32 -> !tile.frag<[32, 256], f32, mma_c>
// A step: scores of the team's keys, the greatest of all teams, probabilities of all, the team's columns.
// CHECK: scf.for
// CHECK: %[[CKV:.*]], %[[KPE:.*]] = tile.wait %{{.*}}, %{{.*}} :
// CHECK: tile.slice %[[CKV]][%keys] : !tile.shared<[32, 512], bf16, swizzle128> -> !tile.shared<[16, 512], bf16, swizzle128>
// CHECK: scf.for %{{.*}} = %c0 to %c32 step %c1
// CHECK: tile.mma {{.*}} -> !tile.frag<[32, 16], f32, mma_c>
// CHECK: tile.slice %[[KPE]][%keys] : !tile.shared<[32, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1
// CHECK: tile.quad_reduce max
// CHECK: tile.team_reduce max %{{.*}} through idle
// CHECK: tile.store_fragment %{{.*}} into %probabilities[%keys]
// CHECK-NEXT: tile.barrier
// CHECK: tile.stage %probabilities
// CHECK: tile.ldmatrix %[[CKV]][%{{.*}}, %{{.*}}] transpose {{.*}} -> !tile.frag<[16, 256], bf16, mma_b>
// CHECK: tile.mma {{.*}} -> !tile.frag<[32, 256], f32, mma_c>
// The totals of the teams are added; each stores its columns.
// CHECK: tile.drain
// CHECK: tile.team_reduce sum %{{.*}} through idle
// CHECK: tile.store_fragment %{{.*}} into %{{.*}}[%columns] : !tile.frag<[32, 256], f32, mma_c> into !tile.ring<1 x [32, 512], bf16, swizzle128>
// CHECK: tile.store_rows each_team %{{.*}} into %partial_out

// DEFAULT-LABEL: tile.kernel @apart
// DEFAULT: tile.alloc : !tile.ring<1 x [64, 512], bf16, swizzle128>
// DEFAULT: tile.alloc : !tile.ring<2 x [32, 512], bf16, swizzle128>
attn.variant @all

func.func @apart(
  %q_nope: !attn.ragged<[n, 16, 512], bf16>, %q_pe: !attn.ragged<[n, 16, 64], bf16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>) {
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
}

// Rows of one array are 576 elements apart; kpe begins 1024 bytes behind.
// CHECK-LABEL: tile.kernel @combined(%q_nope: !llvm.ptr<1>, %q_pe: !llvm.ptr<1>, %kv_pages: !llvm.ptr<1>, %qo_indptr
// CHECK: %[[KPE:.*]] = llvm.getelementptr %kv_pages[1024]
// CHECK: tile.copy_async %kv_pages into %ckv
// CHECK: arith.muli %{{.*}}, %c576_i64 : i64
// CHECK: tile.copy_async %[[KPE]] into %kpe
// CHECK: arith.muli %{{.*}}, %c576_i64 : i64
func.func @combined(
  %q_nope: !attn.ragged<[n, 16, 512], bf16>, %q_pe: !attn.ragged<[n, 16, 64], bf16>,
  %kv: !attn.paged<[pages, 16, 1, 576], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>) {
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %kv over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 576], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
}
