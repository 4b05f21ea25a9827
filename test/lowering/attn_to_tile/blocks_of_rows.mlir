// RUN: tilewright-opt %s -p 'convert-attn-to-tile{rows=128}' | filecheck %s

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
