// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// A thread holds of an accumulator [16, 24] the two columns of two rows for each 8 columns; of
// rows two; of an operand [16, 8] two pairs.
// CHECK: "gpu.module"() <{sym_name = "fill"}>
// CHECK: vector.broadcast %f : f32 to vector<3x4xf32>
// CHECK: vector.broadcast %f : f32 to vector<2xf32>
// CHECK: %[[ELEMENTS:.*]] = vector.broadcast %h : bf16 to vector<1x4xbf16>
// CHECK: vector.bitcast %[[ELEMENTS]] : vector<1x4xbf16> to vector<1x2xi32>
tile.kernel @fill(%f: f32, %h: bf16) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 24], f32, mma_c>
  %r = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  %b = tile.fill %h : bf16 -> !tile.frag<[16, 8], bf16, mma_b>
  tile.return
}

// A lane gives ldmatrix the address of one row of an 8x8 matrix. For operand A these are the 16
// rows of its warp; lanes from 16 on take the next 8 columns. Each ldmatrix gives 16 columns.
// CHECK: "gpu.module"() <{sym_name = "operands"}>
// CHECK: nvvm.cp.async.wait.group 0
// CHECK: %[[IN_WARP:.*]] = arith.remui %lane, %c16_i32 : i32
// CHECK-NEXT: %[[ROW:.*]] = arith.addi %warp_row, %[[IN_WARP]] : i32
// CHECK-NEXT: %[[CHUNK:.*]] = arith.divui %lane, %c16_i32 : i32
// CHECK: %a = scf.for %{{.*}} = %c0 to %[[TRIPS:.*]] step %c1 iter_args(%{{.*}} = %{{.*}}) -> (vector<8x2xi32>) {
// CHECK: nvvm.ldmatrix %{{.*}} {num = 4 : i32, layout = #nvvm.mma_layout<row>
// CHECK: } {tilewright.unroll}
//
// A step of a product takes two neighbours of the eight.
// CHECK: %[[FIRST:.*]] = arith.muli %{{.*}}, %c2 : index
// CHECK-NEXT: vector.extract %a[%[[FIRST]]] : vector<2xi32> from vector<8x2xi32>
//
// For operand B the lanes from 8 on take the next 8 columns, those from 16 on the next 8 rows; all
// warps read the same.
// CHECK: %[[UPPER:.*]] = arith.divui %lane, %c16_i32 : i32
// CHECK-NEXT: %[[UPPER_ROW:.*]] = arith.muli %[[UPPER]], %c8_i32 : i32
// CHECK-NEXT: %[[IN_MATRIX:.*]] = arith.remui %lane, %c8_i32 : i32
// CHECK-NEXT: arith.addi %[[UPPER_ROW]], %[[IN_MATRIX]] : i32
// CHECK-NEXT: %[[EIGHTH:.*]] = arith.divui %lane, %c8_i32 : i32
// CHECK-NEXT: arith.remui %[[EIGHTH]], %c2_i32 : i32
// CHECK: %b = scf.for {{.*}} -> (vector<8x2xi32>) {
// CHECK: nvvm.ldmatrix %{{.*}} {num = 4 : i32, layout = #nvvm.mma_layout<row>
//
// A transposed operand is read by ldmatrix.trans.
// CHECK: %t = scf.for {{.*}} -> (vector<8x2xi32>) {
// CHECK: nvvm.ldmatrix %{{.*}} {num = 4 : i32, layout = #nvvm.mma_layout<col>
//
// A product is one mma.sync for each 8 columns; f16 operands are pairs.
// CHECK: %d = scf.for {{.*}} -> (vector<8x4xf32>) {
// CHECK: nvvm.mma.sync A[{{.*}}] B[{{.*}}] C[{{.*}}] {shape = #nvvm.shape<m = 16, n = 8, k = 16>
// CHECK-SAME: multiplicandAPtxType = #nvvm.mma_type<f16>
// CHECK-SAME: (vector<2xf16>, vector<2xf16>, f32) -> !llvm.struct<(f32, f32, f32, f32)>
// CHECK: } {tilewright.unroll}
tile.kernel @operands(%x: !llvm.ptr<1>, %n: i32, %f: f32) warps 4 grid [1, 1, 1] {
  %zero = arith.constant 0 : index
  %o = arith.constant 0 : i64
  %s = arith.constant 0 : i32
  %true = arith.constant true
  %i = arith.index_cast %n : i32 to index
  %ring = tile.alloc : !tile.ring<1 x [64, 64], f16, swizzle128>
  %under_way = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  %tile = tile.wait %under_way
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  %a = tile.ldmatrix %tile[%zero, %zero]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[64, 64], f16, mma_a>
  %step = tile.extract %a[%i] : !tile.frag<[64, 64], f16, mma_a> -> !tile.frag<[64, 16], f16, mma_a>
  %b = tile.ldmatrix %tile[%zero, %zero]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[16, 64], f16, mma_b>
  %t = tile.ldmatrix %tile[%zero, %zero] transpose
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[16, 64], f16, mma_b>
  %c = tile.fill %f : f32 -> !tile.frag<[64, 64], f32, mma_c>
  %d = tile.mma %step, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 64], f16, mma_b>,
      !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// nvvm.mma.sync takes pairs of bf16 as i32.
// CHECK: "gpu.module"() <{sym_name = "bf16"}>
// CHECK: nvvm.mma.sync
// CHECK-SAME: multiplicandAPtxType = #nvvm.mma_type<bf16>
// CHECK-SAME: (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
tile.kernel @bf16(%x: !llvm.ptr<1>, %f: f32) warps 1 grid [1, 1, 1] {
  %zero = arith.constant 0 : index
  %o = arith.constant 0 : i64
  %s = arith.constant 0 : i32
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [16, 16], bf16, padded16>
  %under_way = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [16, 16], bf16, padded16>
    -> !tile.inflight<[16, 16], bf16, padded16>
  %tile = tile.wait %under_way
    : !tile.inflight<[16, 16], bf16, padded16> -> !tile.shared<[16, 16], bf16, padded16>
  %a = tile.ldmatrix %tile[%zero, %zero]
    : !tile.shared<[16, 16], bf16, padded16> -> !tile.frag<[16, 16], bf16, mma_a>
  %b = tile.ldmatrix %tile[%zero, %zero]
    : !tile.shared<[16, 16], bf16, padded16> -> !tile.frag<[16, 16], bf16, mma_b>
  %c = tile.fill %f : f32 -> !tile.frag<[16, 16], f32, mma_c>
  %d = tile.mma %a, %b, %c
    : !tile.frag<[16, 16], bf16, mma_a>, !tile.frag<[16, 16], bf16, mma_b>,
      !tile.frag<[16, 16], f32, mma_c> -> !tile.frag<[16, 16], f32, mma_c>
  tile.return
}

// A row is folded over the blocks of 8 columns, then over the two columns of a thread.
// CHECK: "gpu.module"() <{sym_name = "row_reduce"}>
// CHECK: %[[FIRST:.*]] = vector.extract %{{.*}}[0] : vector<4xf32>
// CHECK: %[[FOLDED:.*]] = scf.for {{.*}} iter_args(%[[OLD:.*]] = %[[FIRST]]) -> (vector<4xf32>) {
// CHECK: arith.maxnumf %[[OLD]], %{{.*}} : vector<4xf32>
// CHECK: } {tilewright.unroll}
// CHECK: %[[LEFT:.*]] = vector.shuffle %[[FOLDED]], %[[FOLDED]] [0, 2]
// CHECK: %[[RIGHT:.*]] = vector.shuffle %[[FOLDED]], %[[FOLDED]] [1, 3]
// CHECK: arith.maxnumf %[[LEFT]], %[[RIGHT]] : vector<2xf32>
tile.kernel @row_reduce(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 24], f32, mma_c>
  %r = tile.row_reduce max %c
    : !tile.frag<[16, 24], f32, mma_c> -> !tile.frag<[16], f32, row_partial>
  tile.return
}

// The four lanes of a quad exchange with their neighbour, then with the other pair.
// CHECK: "gpu.module"() <{sym_name = "quad_reduce"}>
// CHECK: %[[ONE:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[X:.*]], %c1_i32, %c31_i32 : f32 -> f32
// CHECK-NEXT: %[[PAIR:.*]] = arith.addf %[[X]], %[[ONE]] : f32
// CHECK-NEXT: %[[TWO:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[PAIR]], %c2_i32, %c31_i32 : f32 -> f32
// CHECK-NEXT: arith.addf %[[PAIR]], %[[TWO]] : f32
tile.kernel @quad_reduce(%f: f32) warps 1 grid [1, 1, 1] {
  %p = tile.fill %f : f32 -> !tile.frag<[16], f32, row_partial>
  %r = tile.quad_reduce sum %p : !tile.frag<[16], f32, row_partial> -> !tile.frag<[16], f32, row>
  tile.return
}

// A map of arithmetic is done on the whole vector; rows are spread over its columns.
// CHECK: "gpu.module"() <{sym_name = "map_of_arithmetic"}>
// CHECK: %[[SPREAD:.*]] = vector.shuffle %r, %r [0, 0, 1, 1]
// CHECK-NEXT: %[[ROWS:.*]] = vector.broadcast %[[SPREAD]] : vector<4xf32> to vector<4x4xf32>
// CHECK-NEXT: arith.mulf %c, %[[ROWS]] : vector<4x4xf32>
// CHECK-NOT: scf.for
// CHECK: sym_name = "map_of_arithmetic"
tile.kernel @map_of_arithmetic(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %r = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  %d = tile.map(%c, %r : !tile.frag<[16, 32], f32, mma_c>, !tile.frag<[16], f32, row>) {
  ^bb0(%x: f32, %y: f32, %row: i32, %column: i32):
    %product = arith.mulf %x, %y : f32
    tile.yield %product : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// A map that chooses is done element by element.
// CHECK: "gpu.module"() <{sym_name = "map_with_a_choice"}>
// CHECK: scf.for
// CHECK: scf.for
// CHECK: %[[X:.*]] = vector.extract %c
// CHECK: %[[C:.*]] = arith.cmpf ogt, %[[X]], %f : f32
// CHECK: %[[Y:.*]] = arith.select %[[C]], %[[X]], %f : f32
// CHECK: vector.insert %[[Y]]
// CHECK: } {tilewright.unroll}
// CHECK: } {tilewright.unroll}
tile.kernel @map_with_a_choice(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %d = tile.map(%c : !tile.frag<[16, 32], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    %greater = arith.cmpf ogt, %x, %f : f32
    %y = arith.select %greater, %x, %f : f32
    tile.yield %y : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// Element e of block n is row g + 8 * (e / 2), column 8 * n + 2 * t + e % 2.
// CHECK: "gpu.module"() <{sym_name = "map_of_coordinates"}>
// CHECK: %column = arith.muli %place, %c2_i32 : i32
// CHECK: %row = arith.addi %warp_row, %group : i32
// CHECK: scf.for %[[N:.*]] = %c0 to
// CHECK: scf.for %[[E:.*]] = %c0 to
// CHECK: %[[HALF:.*]] = arith.divui %[[E]], %c2 : index
// CHECK-NEXT: %[[HALF32:.*]] = arith.index_cast %[[HALF]] : index to i32
// CHECK-NEXT: %[[FURTHER:.*]] = arith.muli %[[HALF32]], %c8_i32 : i32
// CHECK-NEXT: %[[ROW:.*]] = arith.addi %row, %[[FURTHER]] : i32
// CHECK: %[[BLOCK:.*]] = arith.muli %{{.*}}, %c8_i32 : i32
// CHECK-NEXT: %[[PARITY:.*]] = arith.remui %{{.*}}, %c2_i32 : i32
// CHECK-NEXT: %[[IN_BLOCK:.*]] = arith.addi %[[BLOCK]], %[[PARITY]] : i32
// CHECK-NEXT: %[[COLUMN:.*]] = arith.addi %column, %[[IN_BLOCK]] : i32
// CHECK-NEXT: arith.subi %[[ROW]], %[[COLUMN]] : i32
tile.kernel @map_of_coordinates() warps 1 grid [1, 1, 1] {
  %d = tile.map() {
  ^bb0(%r: i32, %c: i32):
    %difference = arith.subi %r, %c : i32
    tile.yield %difference : i32
  } -> !tile.frag<[16, 32], i32, mma_c>
  tile.return
}

// What depends on the row alone is computed once for each of the thread's two rows.
// CHECK: "gpu.module"() <{sym_name = "map_of_weighted_rows"}>
// CHECK: %[[WEIGHTS:.*]] = scf.for %[[HALF:.*]] = %c0 to %c2 step %c1
// CHECK: %[[WEIGHT:.*]] = llvm.load
// CHECK-NEXT: vector.insert %[[WEIGHT]], %{{.*}}[%[[HALF]]] : f32 into vector<2xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1
// CHECK-NEXT: scf.for %[[E:.*]] = %c0 to %c4 step %c1
// CHECK: %[[HALF:.*]] = arith.divui %[[E]], %c2 : index
// CHECK-NEXT: %[[OWN:.*]] = vector.extract %[[WEIGHTS]][%[[HALF]]] : f32 from vector<2xf32>
// CHECK-NEXT: arith.mulf %{{.*}}, %[[OWN]] : f32
tile.kernel @map_of_weighted_rows(%x: !llvm.ptr<1>, %f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %d = tile.map(%c : !tile.frag<[16, 32], f32, mma_c>) {
  ^bb0(%element: f32, %r: i32, %column: i32):
    %weight = tile.load %x[%r] : f32 from !llvm.ptr<1>
    %weighted = arith.mulf %element, %weight : f32
    tile.yield %weighted : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// A map may load, one element at a time.
// CHECK: "gpu.module"() <{sym_name = "map_that_loads"}>
// CHECK: %[[PLACE:.*]] = llvm.getelementptr %x[%i]
// CHECK-NEXT: %[[Y:.*]] = llvm.load %[[PLACE]] : !llvm.ptr<1> -> f32
// CHECK-NEXT: vector.insert %[[Y]]
// CHECK: } {tilewright.unroll}
tile.kernel @map_that_loads(%x: !llvm.ptr<1>, %i: i32) warps 1 grid [1, 1, 1] {
  %d = tile.map() {
  ^bb0(%row: i32, %column: i32):
    %y = tile.load %x[%i] : f32 from !llvm.ptr<1>
    tile.yield %y : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// Two neighbours of a row share a register of operand A.
// CHECK: "gpu.module"() <{sym_name = "convert_layout"}>
// CHECK: %[[ROUNDED:.*]] = arith.truncf %c : vector<4x4xf32> to vector<4x4xbf16>
// CHECK-NEXT: vector.bitcast %[[ROUNDED]] : vector<4x4xbf16> to vector<4x2xi32>
tile.kernel @convert_layout(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %a = tile.convert_layout %c : !tile.frag<[16, 32], f32, mma_c> -> !tile.frag<[16, 32], bf16, mma_a>
  tile.return
}

// Two elements at a time go to shared memory; rows leave it 16 bytes at a time, if they are valid.
// CHECK: "gpu.module"() <{sym_name = "stores"}>
// CHECK: llvm.store %{{.*}} : i32, !llvm.ptr<3>
// CHECK: "gpu.barrier"
// CHECK: scf.if %valid {
// CHECK: %[[CHUNK:.*]] = llvm.load %{{.*}} : !llvm.ptr<3> -> vector<4xi32>
// CHECK: llvm.store %[[CHUNK]], %{{.*}} : vector<4xi32>, !llvm.ptr<1>
//
// One number a row is stored by the first lane of a quad.
// CHECK: %[[FIRST_LANE:.*]] = arith.cmpi eq, %place, %c0_i32 : i32
// CHECK: %[[STORES:.*]] = arith.andi %[[FIRST_LANE]], %valid : i1
// CHECK: scf.if %[[STORES]] {
// CHECK: llvm.store %{{.*}} : f32, !llvm.ptr<1>
tile.kernel @stores(
  %out: !llvm.ptr<1>, %lse: !llvm.ptr<1>, %f: f32, %o: i64, %valid: i1
) warps 2 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[32, 64], f32, mma_c>
  %r = tile.fill %f : f32 -> !tile.frag<[32], f32, row>
  %ring = tile.alloc : !tile.ring<1 x [32, 64], bf16, swizzle128>
  tile.store_fragment %c into %ring
    : !tile.frag<[32, 64], f32, mma_c> into !tile.ring<1 x [32, 64], bf16, swizzle128>
  tile.barrier
  tile.store_rows %ring into %out rows {
  ^bb0(%row: i32):
    tile.yield %o, %valid : i64, i1
  } : !tile.ring<1 x [32, 64], bf16, swizzle128> into !llvm.ptr<1>
  tile.store_rows %r into %lse rows {
  ^bb0(%row: i32):
    tile.yield %o, %valid : i64, i1
  } : !tile.frag<[32], f32, row> into !llvm.ptr<1>
  tile.return
}
