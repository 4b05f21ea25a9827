// RUN: tilewright-opt %s -p 'convert-attn-to-tile{rows=64}' | filecheck %s

// Parameters follow those of every attention kernel, then the extents that are symbols.
// CHECK-LABEL: tile.kernel @attend(
// CHECK-SAME: %softmax_scale: f32, %slopes: !llvm.ptr<1>, %ids: !llvm.ptr<1>, %cap: f32, %extent_length: i32)
// What does not depend on the key is read once for a row, before the loop over keys.
// CHECK: tile.map(
// CHECK: tile.load %slopes[%{{.*}}] : f32
// CHECK: %{{.*}} = tile.map(
// A tile of queries is turned where it lies in shared memory, then every warp waits.
// CHECK: tile.rewrite_rows
// CHECK: tile.row_element
// CHECK: tile.barrier
// CHECK: scf.for
// An index that may lie outside is held within: 0 <= key < length.
// CHECK: %[[LAST:.*]] = arith.subi %extent_length, %c1_i32 : i32
// CHECK: %[[BELOW:.*]] = arith.minsi %{{.*}}, %[[LAST]] : i32
// CHECK: %[[WITHIN:.*]] = arith.maxsi %[[BELOW]], %c0_i32 : i32
// CHECK: tile.load %ids[%[[WITHIN]]] : i32
attn.variant @penalised(slopes: f32[4], ids: i32[length], cap: f32) query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  %seven = arith.constant 7 : i32
  %other = arith.xori %d, %seven : i32
  %partner = attn.element %other : f32
  attn.yield %partner : f32
} score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %slope = attn.param "slopes"[%h] : f32
  %id = attn.param "ids"[%kv_idx] : i32
  %number = arith.sitofp %id : i32 to f32
  %cap = attn.param "cap" : f32
  %bias = arith.mulf %slope, %number : f32
  %sum = arith.addf %score, %bias : f32
  %capped = arith.minimumf %sum, %cap : f32
  attn.yield %capped : f32
}

func.func @attend(
  %q: !attn.ragged<[n, 4, 64], f16>, %k: !attn.paged<[pages, 16, 2, 64], f16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], f16, NHD>, %batch: !attn.batch<[batch, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], f16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @penalised
    : !attn.ragged<[n, 4, 64], f16>, !attn.paged<[pages, 16, 2, 64], f16, NHD>,
      !attn.paged<[pages, 16, 2, 64], f16, NHD>, !attn.batch<[batch, nnz]>
    -> !attn.ragged<[n, 4, 64], f16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], f16>, !attn.ragged<[n, 4], f32>
}
