// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// A kernel has named parameters, warps, and a grid over the symbols of the launch.
// CHECK-LABEL: tile.kernel @grid(%x: !llvm.ptr<1>, %scale: f32) warps 4 grid [tiles, 8, (n + 63) floordiv 64] {
tile.kernel @grid(%x: !llvm.ptr<1>, %scale: f32) warps 4 grid [tiles, 8, (n + 63) floordiv 64] {
  // CHECK-NEXT: tile.return
  tile.return
}

// CHECK-LABEL: tile.kernel @no_parameters() warps 1 grid [1, 1, 1]
tile.kernel @no_parameters() warps 1 grid [1, 1, 1] {
  // CHECK-NEXT: tile.barrier
  tile.barrier
  tile.return
}

// CHECK-LABEL: tile.kernel @scalars
tile.kernel @scalars(%lengths: !llvm.ptr<1>) warps 1 grid [n, 2, 1] {
  // CHECK: %[[REQUEST:.*]] = tile.block_index 0
  // CHECK: tile.block_index 2
  // CHECK: tile.load %lengths[%[[REQUEST]]] : i32 from !llvm.ptr<1>
  %request = tile.block_index 0
  %split = tile.block_index 2
  %length = tile.load %lengths[%request] : i32 from !llvm.ptr<1>
  tile.return
}

// Two sources share the offsets of their rows; a wait turns a stage in flight into one to read.
// CHECK-LABEL: tile.kernel @copy
tile.kernel @copy(%k: !llvm.ptr<1>, %v: !llvm.ptr<1>) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 1 : i32
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  // CHECK: %[[KEYS:.*]] = tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
  // CHECK: %[[VALUES:.*]] = tile.alloc : !tile.ring<3 x [64, 128], bf16, swizzle128>
  %keys = tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
  %values = tile.alloc : !tile.ring<3 x [64, 128], bf16, swizzle128>
  // CHECK: %[[K:.*]], %[[V:.*]] = tile.copy_async %k, %v into %[[KEYS]], %[[VALUES]][%{{.*}}] if %{{.*}} rows {
  // CHECK-NEXT: ^{{.*}}(%{{.*}}: i32):
  // CHECK-NEXT: tile.yield %{{.*}}, %{{.*}} : i64, i1
  // CHECK-NEXT: } : !llvm.ptr<1>, !llvm.ptr<1> into !tile.ring<2 x [64, 128], bf16, swizzle128>, !tile.ring<3 x [64, 128], bf16, swizzle128> -> !tile.inflight<[64, 128], bf16, swizzle128>, !tile.inflight<[64, 128], bf16, swizzle128>
  %k_in_flight, %v_in_flight = tile.copy_async %k, %v into %keys, %values[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 128], bf16, swizzle128>, !tile.ring<3 x [64, 128], bf16, swizzle128>
    -> !tile.inflight<[64, 128], bf16, swizzle128>, !tile.inflight<[64, 128], bf16, swizzle128>
  // CHECK-NEXT: tile.wait %[[K]] : !tile.inflight<[64, 128], bf16, swizzle128> -> !tile.shared<[64, 128], bf16, swizzle128>
  %landed = tile.wait %k_in_flight
    : !tile.inflight<[64, 128], bf16, swizzle128> -> !tile.shared<[64, 128], bf16, swizzle128>
  // CHECK-NEXT: tile.drain %[[V]] : !tile.inflight<[64, 128], bf16, swizzle128>
  tile.drain %v_in_flight : !tile.inflight<[64, 128], bf16, swizzle128>
  tile.return
}

// CHECK-LABEL: tile.kernel @operands
tile.kernel @operands(%x: !llvm.ptr<1>) warps 4 grid [1, 1, 1] {
  %zero = arith.constant 0 : index
  %stage = arith.constant 0 : i32
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [64, 128], f16, swizzle128>
  %in_flight = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 128], f16, swizzle128>
    -> !tile.inflight<[64, 128], f16, swizzle128>
  // CHECK: %[[X:.*]] = tile.wait
  %x_tile = tile.wait %in_flight
    : !tile.inflight<[64, 128], f16, swizzle128> -> !tile.shared<[64, 128], f16, swizzle128>
  // CHECK-NEXT: %[[A:.*]] = tile.ldmatrix %[[X]][%{{.*}}, %{{.*}}] : !tile.shared<[64, 128], f16, swizzle128> -> !tile.frag<[64, 128], f16, mma_a>
  %a = tile.ldmatrix %x_tile[%zero, %zero]
    : !tile.shared<[64, 128], f16, swizzle128> -> !tile.frag<[64, 128], f16, mma_a>
  // CHECK-NEXT: tile.ldmatrix %[[X]][%{{.*}}, %{{.*}}] transpose : !tile.shared<[64, 128], f16, swizzle128> -> !tile.frag<[16, 128], f16, mma_b>
  %bt = tile.ldmatrix %x_tile[%zero, %zero] transpose
    : !tile.shared<[64, 128], f16, swizzle128> -> !tile.frag<[16, 128], f16, mma_b>
  // CHECK-NEXT: %[[B:.*]] = tile.ldmatrix
  %b = tile.ldmatrix %x_tile[%zero, %zero]
    : !tile.shared<[64, 128], f16, swizzle128> -> !tile.frag<[16, 64], f16, mma_b>
  // CHECK-NEXT: %[[STEP:.*]] = tile.extract %[[A]][%{{.*}}] : !tile.frag<[64, 128], f16, mma_a> -> !tile.frag<[64, 16], f16, mma_a>
  %step = tile.extract %a[%zero]
    : !tile.frag<[64, 128], f16, mma_a> -> !tile.frag<[64, 16], f16, mma_a>
  %f = arith.constant 0.0 : f32
  // CHECK: %[[C:.*]] = tile.fill %{{.*}} : f32 -> !tile.frag<[64, 64], f32, mma_c>
  %c = tile.fill %f : f32 -> !tile.frag<[64, 64], f32, mma_c>
  // CHECK-NEXT: tile.mma %[[STEP]], %[[B]], %[[C]] : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 64], f16, mma_b>, !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_c>
  %d = tile.mma %step, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 64], f16, mma_b>,
      !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_c>
  // CHECK-NEXT: %[[PART:.*]] = tile.columns %[[C]][%{{.*}}] : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 32], f32, mma_c>
  %part = tile.columns %c[%zero]
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 32], f32, mma_c>
  // CHECK-NEXT: tile.insert_columns %[[PART]] into %[[C]][%{{.*}}] : !tile.frag<[64, 32], f32, mma_c> into !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_c>
  %after = tile.insert_columns %part into %c[%zero]
    : !tile.frag<[64, 32], f32, mma_c> into !tile.frag<[64, 64], f32, mma_c>
    -> !tile.frag<[64, 64], f32, mma_c>
  // CHECK-NEXT: %{{.*}}, %{{.*}} = tile.confine %[[STEP]], %[[B]], %[[C]] : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 64], f16, mma_b>, !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[16, 64], f16, mma_b>, !tile.frag<[64, 64], f32, mma_c>
  %finite, %reached = tile.confine %step, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 64], f16, mma_b>,
      !tile.frag<[64, 64], f32, mma_c>
    -> !tile.frag<[16, 64], f16, mma_b>, !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// CHECK-LABEL: tile.kernel @rows
tile.kernel @rows(%scores: !llvm.ptr<1>, %f: f32) warps 1 grid [1, 1, 1] {
  // CHECK: %[[C:.*]] = tile.fill
  %c = tile.fill %f : f32 -> !tile.frag<[16, 24], f32, mma_c>
  // CHECK-NEXT: %[[PARTIAL:.*]] = tile.row_reduce max %[[C]] : !tile.frag<[16, 24], f32, mma_c> -> !tile.frag<[16], f32, row_partial>
  %partial = tile.row_reduce max %c
    : !tile.frag<[16, 24], f32, mma_c> -> !tile.frag<[16], f32, row_partial>
  // CHECK-NEXT: tile.quad_reduce sum %[[PARTIAL]] : !tile.frag<[16], f32, row_partial> -> !tile.frag<[16], f32, row>
  %row = tile.quad_reduce sum %partial
    : !tile.frag<[16], f32, row_partial> -> !tile.frag<[16], f32, row>
  tile.return
}

// The region of a map takes one scalar an operand, then the row and the column.
// CHECK-LABEL: tile.kernel @maps
tile.kernel @maps(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  // CHECK: %{{.*}}, %[[ROWS:.*]] = tile.map() {
  // CHECK-NEXT: ^{{.*}}(%[[ROW:.*]]: i32):
  // CHECK-NEXT: tile.yield %[[ROW]], %f : i32, f32
  // CHECK-NEXT: } -> !tile.frag<[16], i32, row>, !tile.frag<[16], f32, row>
  %numbers, %rows = tile.map() {
  ^bb0(%row: i32):
    tile.yield %row, %f : i32, f32
  } -> !tile.frag<[16], i32, row>, !tile.frag<[16], f32, row>
  // CHECK: %[[SCALED:.*]] = tile.map(%{{.*}}, %[[ROWS]] : !tile.frag<[16, 32], f32, mma_c>, !tile.frag<[16], f32, row>) {
  // CHECK-NEXT: ^{{.*}}(%{{.*}}: f32, %{{.*}}: f32, %{{.*}}: i32, %{{.*}}: i32):
  // CHECK: } -> !tile.frag<[16, 32], f32, mma_c>
  %scaled = tile.map(%c, %rows : !tile.frag<[16, 32], f32, mma_c>, !tile.frag<[16], f32, row>) {
  ^bb0(%score: f32, %by: f32, %row: i32, %column: i32):
    %product = arith.mulf %score, %by : f32
    tile.yield %product : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  // CHECK: tile.convert_layout %[[SCALED]] : !tile.frag<[16, 32], f32, mma_c> -> !tile.frag<[16, 32], bf16, mma_a>
  %a = tile.convert_layout %scaled
    : !tile.frag<[16, 32], f32, mma_c> -> !tile.frag<[16, 32], bf16, mma_a>
  tile.return
}

// Whole tiles are stored through shared memory, one number a row from registers.
// CHECK-LABEL: tile.kernel @stores
tile.kernel @stores(%out: !llvm.ptr<1>, %lse: !llvm.ptr<1>, %f: f32) warps 1 grid [1, 1, 1] {
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  %c = tile.fill %f : f32 -> !tile.frag<[16, 64], f32, mma_c>
  %rows = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  // CHECK: %[[RING:.*]] = tile.alloc
  %ring = tile.alloc : !tile.ring<1 x [16, 64], bf16, swizzle128>
  // CHECK-NEXT: tile.store_fragment %{{.*}} into %[[RING]] : !tile.frag<[16, 64], f32, mma_c> into !tile.ring<1 x [16, 64], bf16, swizzle128>
  tile.store_fragment %c into %ring
    : !tile.frag<[16, 64], f32, mma_c> into !tile.ring<1 x [16, 64], bf16, swizzle128>
  tile.barrier
  // CHECK: tile.store_rows %[[RING]] into %out rows {
  // CHECK: } : !tile.ring<1 x [16, 64], bf16, swizzle128> into !llvm.ptr<1>
  tile.store_rows %ring into %out rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !tile.ring<1 x [16, 64], bf16, swizzle128> into !llvm.ptr<1>
  // CHECK: tile.store_rows %{{.*}} into %lse rows {
  // CHECK: } : !tile.frag<[16], f32, row> into !llvm.ptr<1>
  tile.store_rows %rows into %lse rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !tile.frag<[16], f32, row> into !llvm.ptr<1>
  tile.return
}

// A loop may carry a stage in flight: the wait inside is for the copy of the trip before.
// CHECK-LABEL: tile.kernel @pipeline
tile.kernel @pipeline(%x: !llvm.ptr<1>, %trips: i32) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %first = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // CHECK: %[[LAST:.*]] = scf.for
  // CHECK-SAME: -> (!tile.inflight<[64, 64], f16, swizzle128>)
  %last = scf.for %trip = %stage to %trips step %one iter_args(%under_way = %first)
    -> (!tile.inflight<[64, 64], f16, swizzle128>) : i32 {
    %now = tile.wait %under_way
      : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
    %next = tile.copy_async %x into %ring[%one] if %true rows {
    ^bb0(%row: i32):
      tile.yield %offset, %true : i64, i1
    } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
      -> !tile.inflight<[64, 64], f16, swizzle128>
    scf.yield %next : !tile.inflight<[64, 64], f16, swizzle128>
  }
  // CHECK: tile.drain %[[LAST]]
  tile.drain %last : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// Layouts and kinds can stand alone.
// CHECK-LABEL: func.func @attributes
// CHECK-SAME: kind = #tile<reduce_kind sum>
// CHECK-SAME: fragment = #tile<fragment_layout mma_c>
// CHECK-SAME: shared = #tile<shared_layout padded16>
func.func @attributes() attributes {
  kind = #tile<reduce_kind sum>, fragment = #tile<fragment_layout mma_c>,
  shared = #tile<shared_layout padded16>
} {
  func.return
}
