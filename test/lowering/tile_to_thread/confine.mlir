// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// Columns of an accumulator are some of a thread's blocks of 8, one after the other.
// CHECK: "gpu.module"() <{sym_name = "columns"}>
// CHECK: %[[FIRST:.*]] = arith.muli %{{.*}}, %c4 : index
// CHECK: scf.for %[[N:.*]] = %c0 to %c4 step %c1 {{.*}} -> (vector<4x4xf32>) {
// CHECK-NEXT: %[[AT:.*]] = arith.addi %[[FIRST]], %[[N]] : index
// CHECK-NEXT: vector.extract %{{.*}}[%[[AT]]] : vector<4xf32> from vector<8x4xf32>
// CHECK: scf.for {{.*}} -> (vector<8x4xf32>) {
// CHECK: vector.insert
tile.kernel @columns(%n: i32, %f: f32) warps 4 grid [1, 1, 1] {
  %i = arith.index_cast %n : i32 to index
  %c = tile.fill %f : f32 -> !tile.frag<[64, 64], f32, mma_c>
  %part = tile.columns %c[%i]
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 32], f32, mma_c>
  %after = tile.insert_columns %part into %c[%i]
    : !tile.frag<[64, 32], f32, mma_c> into !tile.frag<[64, 64], f32, mma_c>
    -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// A warp that has finite numbers alone goes on: the exponent of others, plus the distance to the
// sign, sets it. Otherwise each 8 columns that have others are taken one by one: products of ones
// count the plus and the minus infinities that weights without a sign meet.
// CHECK: "gpu.module"() <{sym_name = "confined"}>
// CHECK: %[[FOUND:.*]] = scf.for {{.*}} -> (i32) {
// CHECK: %[[EXPONENT:.*]] = arith.andi %{{.*}}, %[[MASK:.*]] : i32
// CHECK-NEXT: arith.addi %[[EXPONENT]], %{{.*}} : i32
// CHECK: %[[SIGNS:.*]] = arith.andi %[[FOUND]], %{{.*}} : i32
// CHECK-NEXT: %[[LANE:.*]] = arith.cmpi ne, %[[SIGNS]], %{{.*}} : i32
// CHECK: %[[WARP:.*]] = nvvm.vote.sync any %{{.*}}, %[[LANE]] -> i1
// CHECK: scf.if %[[WARP]] -> (vector<2x2xi32>, vector<2x4xf32>) {
// CHECK: scf.for {{.*}} -> (vector<2x2xi32>, vector<2x4xf32>) {
// CHECK: %[[EIGHT:.*]] = nvvm.vote.sync any
// CHECK: scf.if %[[EIGHT]] -> (vector<2xi32>, vector<4xf32>) {
// CHECK: nvvm.mma.sync
// CHECK: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK: arith.mulf
// CHECK: arith.subf
// CHECK: arith.addf
// CHECK: } else {
// CHECK: } {tilewright.unroll}
// CHECK: } else {
// CHECK-NEXT: scf.yield
tile.kernel @confined(%h: bf16, %f: f32) warps 1 grid [1, 1, 1] {
  %a = tile.fill %h : bf16 -> !tile.frag<[16, 16], bf16, mma_a>
  %b = tile.fill %h : bf16 -> !tile.frag<[16, 16], bf16, mma_b>
  %c = tile.fill %f : f32 -> !tile.frag<[16, 16], f32, mma_c>
  %finite, %reached = tile.confine %a, %b, %c
    : !tile.frag<[16, 16], bf16, mma_a>, !tile.frag<[16, 16], bf16, mma_b>,
      !tile.frag<[16, 16], f32, mma_c>
    -> !tile.frag<[16, 16], bf16, mma_b>, !tile.frag<[16, 16], f32, mma_c>
  tile.return
}

// Weights below 0 meet infinities of the other sign.
// CHECK: "gpu.module"() <{sym_name = "signed"}>
// CHECK: scf.if %{{.*}} -> (vector<2xi32>, vector<4xf32>) {
// CHECK: nvvm.mma.sync
// CHECK: nvvm.mma.sync
// CHECK: nvvm.mma.sync
// CHECK: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK: arith.mulf
tile.kernel @signed(%h: f16, %f: f32) warps 1 grid [1, 1, 1] {
  %a = tile.fill %h : f16 -> !tile.frag<[16, 16], f16, mma_a>
  %b = tile.fill %h : f16 -> !tile.frag<[16, 16], f16, mma_b>
  %c = tile.fill %f : f32 -> !tile.frag<[16, 16], f32, mma_c>
  %finite, %reached = tile.confine %a, %b, %c signed
    : !tile.frag<[16, 16], f16, mma_a>, !tile.frag<[16, 16], f16, mma_b>,
      !tile.frag<[16, 16], f32, mma_c>
    -> !tile.frag<[16, 16], f16, mma_b>, !tile.frag<[16, 16], f32, mma_c>
  tile.return
}
