// RUN: tilewright-opt %s --split-input-file -p 'convert-attn-to-tile{rows=128}' | filecheck %s

// Two blocks of rows use each fragment of keys. Tiles that only the second block sees have a loop of
// their own, behind the others, whose step leaves out the first.
// CHECK-LABEL: tile.kernel @causal
// CHECK: scf.while
// CHECK: %last_block_begin = arith.maxsi
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 iter_args
// CHECK: arith.select %{{.*}}, %full_end, %last_block_begin : i32
// CHECK: %[[B:.*]] = tile.ldmatrix {{.*}} mma_b>
// CHECK: tile.mma %{{.*}}, %[[B]]
// CHECK: tile.mma %{{.*}}, %[[B]]
// CHECK: scf.for %{{.*}} = %last_block_begin to %end step
// CHECK: %[[B:.*]] = tile.ldmatrix {{.*}} mma_b>
// CHECK: tile.mma %{{.*}}, %[[B]]
// CHECK-NOT: tile.mma %{{.*}}, %[[B]]
// CHECK: tile.drain
attn.variant @past mask {
^bb0(%b: i32, %h: i32, %q: i32, %k: i32):
  %keep = arith.cmpi sle, %k, %q : i32
  attn.yield %keep : i1
}

func.func @causal(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @past
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// Beside the outputs of two blocks there are no registers for weights that wait to be added up: a
// product with ones adds up what they are rounded to, in each of 8 columns.
// CHECK-LABEL: tile.kernel @wide
// CHECK: scf.while
// CHECK: tile.row_reduce max
// CHECK-NOT: tile.row_reduce sum
// CHECK: %[[ONES:.*]] = tile.fill %{{.*}} : bf16 -> !tile.frag<[16, 8], bf16, mma_b>
// CHECK: %[[A:.*]] = tile.extract %{{.*}} : !tile.frag<[64, 64], bf16, mma_a>
// CHECK: tile.mma %[[A]], %{{.*}}, %{{.*}} -> !tile.frag<[64, 128], f32, mma_c>
// CHECK: tile.mma %[[A]], %[[ONES]], %{{.*}} -> !tile.frag<[64, 8], f32, mma_c>
// CHECK: tile.drain
// CHECK-NEXT: %[[OF_LANE:.*]] = tile.row_reduce max %{{.*}} : !tile.frag<[64, 8], f32, mma_c>
// CHECK-NEXT: tile.quad_reduce max %[[OF_LANE]]
attn.variant @all

func.func @wide(
  %q: !attn.ragged<[n, 4, 128], bf16>, %k: !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 128], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 128], bf16>, !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>
}
