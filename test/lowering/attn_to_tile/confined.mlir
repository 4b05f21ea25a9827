// RUN: tilewright-opt %s --split-input-file -p convert-attn-to-tile | filecheck %s

// In tiles that a mask cuts, a hidden weight is -0.0, and NaN and infinities are taken out of the
// values before the product, some columns after the others. Whole tiles have neither.
// CHECK-LABEL: tile.kernel @causal
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 iter_args
// CHECK: %masked = arith.select
// CHECK: %probabilities = scf.if %masked
// CHECK-NEXT: tile.map
// CHECK-NEXT: ^{{.*}}(%[[WEIGHT:.*]]: f32, %[[SCORE:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32):
// CHECK-NEXT: %[[HIDDEN:.*]] = arith.cmpf oeq, %[[SCORE]], %{{.*}} : f32
// CHECK-NEXT: arith.select %[[HIDDEN]], %{{.*}}, %[[WEIGHT]] : f32
// CHECK: } else {
// CHECK-NEXT: scf.yield
// CHECK: scf.if %masked
// CHECK: %[[A:.*]] = tile.extract
// CHECK-NEXT: scf.for %[[INDEX:.*]] = %c0 to %{{.*}} step %c1 iter_args(%[[OUT:.*]] = %{{.*}})
// CHECK: %[[B:.*]] = tile.ldmatrix %{{.*}} transpose : {{.*}} -> !tile.frag<[16, 32], bf16, mma_b>
// CHECK-NEXT: %[[C:.*]] = tile.columns %[[OUT]][%[[INDEX]]] : {{.*}} -> !tile.frag<[64, 32], f32, mma_c>
// CHECK-NEXT: %[[FINITE:.*]], %[[REACHED:.*]] = tile.confine %[[A]], %[[B]], %[[C]] : {{.*}}
// CHECK-NEXT: %[[SUMS:.*]] = tile.mma %[[A]], %[[FINITE]], %[[REACHED]]
// CHECK-NEXT: tile.insert_columns %[[SUMS]] into %[[OUT]][%[[INDEX]]]
// CHECK: } else {
// CHECK-NOT: tile.confine
// CHECK: tile.mma
attn.variant @past mask {
^bb0(%b: i32, %h: i32, %q: i32, %k: i32):
  %keep = arith.cmpi sle, %k, %q : i32
  attn.yield %keep : i1
}

func.func @causal(
  %q: !attn.ragged<[n, 4, 128], bf16>, %k: !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 128], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @past {confined}
    : !attn.ragged<[n, 4, 128], bf16>, !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 128], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// Without a mask there is nothing to hide: values behind the last key are never copied.
// CHECK-LABEL: tile.kernel @full
// CHECK-NOT: tile.confine
attn.variant @all

func.func @full(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all {confined}
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// Weights without a softmax may be negative. One too small for 16 bits is not rounded to -0.0.
// CHECK-LABEL: tile.kernel @signed
// CHECK: %probabilities = scf.if %masked
// CHECK: %[[NEGATIVE:.*]] = arith.cmpf olt, %[[WEIGHT:.*]], %{{.*}} : f32
// CHECK-NEXT: %[[BELOW:.*]] = arith.minnumf %[[WEIGHT]], %{{.*}} : f32
// CHECK-NEXT: %[[POSITIVE:.*]] = arith.addf %[[WEIGHT]], %{{.*}} : f32
// CHECK-NEXT: %[[VISIBLE:.*]] = arith.select %[[NEGATIVE]], %[[BELOW]], %[[POSITIVE]] : f32
// CHECK-NEXT: arith.select %{{.*}}, %[[VISIBLE]], %{{.*}} : f32
// CHECK: tile.confine %{{.*}} signed :
attn.variant @weights no_softmax score {
^bb0(%score: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  attn.yield %score : f32
} mask {
^bb0(%b: i32, %h: i32, %q: i32, %k: i32):
  %keep = arith.cmpi sle, %k, %q : i32
  attn.yield %keep : i1
}

func.func @signed(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @weights {confined}
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}
