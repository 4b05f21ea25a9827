// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// Each of 4 warps is a team that holds fragments of 16 rows.
// CHECK-LABEL: tile.kernel @teams
tile.kernel @teams(%x: !llvm.ptr<1>, %c: f32) warps 4 grid [1, 1, 1] {
  %zero = arith.constant 0 : i32
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  // CHECK: %[[TEAM:.*]] = tile.team_index rows 16
  %team = tile.team_index rows 16
  %ring = tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
  // CHECK: tile.view %{{.*}} : !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.ring<4 x [16, 64], bf16, swizzle128>
  %small = tile.view %ring
    : !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.ring<4 x [16, 64], bf16, swizzle128>
  %copy = tile.copy_async %x into %ring[%zero] if %true rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.inflight<[64, 64], bf16, swizzle128>
  %stage = tile.wait %copy
    : !tile.inflight<[64, 64], bf16, swizzle128> -> !tile.shared<[64, 64], bf16, swizzle128>
  // CHECK: tile.slice %{{.*}}[%{{.*}}] : !tile.shared<[64, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  %part = tile.slice %stage[%zero]
    : !tile.shared<[64, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  %f = tile.fill %c : f32 -> !tile.frag<[16, 64], f32, mma_c>
  // CHECK: tile.team_reduce sum %{{.*}} through %{{.*}} : !tile.frag<[16, 64], f32, mma_c>, !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.frag<[16, 64], f32, mma_c>
  %sum = tile.team_reduce sum %f through %ring
    : !tile.frag<[16, 64], f32, mma_c>, !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.frag<[16, 64], f32, mma_c>
  tile.return
}

// CHECK-LABEL: tile.kernel @partial_results
tile.kernel @partial_results(%x: !llvm.ptr<1>, %counters: !llvm.ptr<1>, %c: f32, %n: i32)
  warps 4 grid [1, 1, 1] {
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
  %f = tile.fill %c : f32 -> !tile.frag<[64, 64], f32, mma_c>
  // CHECK: tile.store_rows %{{.*}} into %x rows {
  // CHECK: } : !tile.frag<[64, 64], f32, mma_c> into !llvm.ptr<1>
  tile.store_rows %f into %x rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !tile.frag<[64, 64], f32, mma_c> into !llvm.ptr<1>
  // CHECK: tile.arrive %counters[%n] of %n through %{{.*}} : !llvm.ptr<1>, !tile.ring<1 x [64, 64], bf16, swizzle128>
  %last = tile.arrive %counters[%n] of %n through %ring
    : !llvm.ptr<1>, !tile.ring<1 x [64, 64], bf16, swizzle128>
  // CHECK: tile.load_rows %x rows {
  // CHECK: } : !llvm.ptr<1> -> !tile.frag<[64], f32, row>
  %weights = tile.load_rows %x rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !llvm.ptr<1> -> !tile.frag<[64], f32, row>
  // CHECK: tile.accumulate_rows %{{.*}}, %{{.*}} times %x rows {
  // CHECK: } : !tile.frag<[64, 64], f32, mma_c>, !tile.frag<[64], f32, row>, !llvm.ptr<1> -> !tile.frag<[64, 64], f32, mma_c>
  %sum = tile.accumulate_rows %f, %weights times %x rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !tile.frag<[64, 64], f32, mma_c>, !tile.frag<[64], f32, row>, !llvm.ptr<1>
    -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// What teams hold of their own: columns of a tile in shared memory, and of rows in global memory.
// CHECK-LABEL: tile.kernel @columns_of_teams
tile.kernel @columns_of_teams(%x: !llvm.ptr<1>, %c: f32, %column: i32) warps 4 grid [1, 1, 1] {
  %offset = arith.constant 0 : i64
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [32, 64], bf16, swizzle128>
  %f = tile.fill %c : f32 -> !tile.frag<[32, 32], f32, mma_c>
  // CHECK: tile.store_fragment %{{.*}} into %{{.*}}[%column] : !tile.frag<[32, 32], f32, mma_c> into !tile.ring<1 x [32, 64], bf16, swizzle128>
  tile.store_fragment %f into %ring[%column]
    : !tile.frag<[32, 32], f32, mma_c> into !tile.ring<1 x [32, 64], bf16, swizzle128>
  // CHECK: tile.stage %{{.*}} : !tile.ring<1 x [32, 64], bf16, swizzle128> -> !tile.shared<[32, 64], bf16, swizzle128>
  %stage = tile.stage %ring
    : !tile.ring<1 x [32, 64], bf16, swizzle128> -> !tile.shared<[32, 64], bf16, swizzle128>
  // CHECK: tile.store_rows each_team %{{.*}} into %x rows {
  tile.store_rows each_team %f into %x rows {
  ^bb0(%row: i32):
    tile.yield %offset, %true : i64, i1
  } : !tile.frag<[32, 32], f32, mma_c> into !llvm.ptr<1>
  %rows = tile.fill %c : f32 -> !tile.frag<[32], f32, row>
  // CHECK: tile.team_reduce max %{{.*}} through idle %{{.*}} : !tile.frag<[32], f32, row>, !tile.ring<1 x [32, 64], bf16, swizzle128>
  %max = tile.team_reduce max %rows through idle %ring
    : !tile.frag<[32], f32, row>, !tile.ring<1 x [32, 64], bf16, swizzle128>
    -> !tile.frag<[32], f32, row>
  tile.return
}

// CHECK-LABEL: tile.kernel @wait_for_two
tile.kernel @wait_for_two(%x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1) warps 4 grid [1, 1, 1] {
  %wide = tile.alloc : !tile.ring<1 x [64, 128], bf16, swizzle128>
  %narrow = tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
  %a = tile.copy_async %x into %wide[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 128], bf16, swizzle128>
    -> !tile.inflight<[64, 128], bf16, swizzle128>
  %b = tile.copy_async %x into %narrow[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.inflight<[64, 64], bf16, swizzle128>
  // CHECK: %{{.*}}, %{{.*}} = tile.wait %{{.*}}, %{{.*}} : !tile.inflight<[64, 128], bf16, swizzle128>, !tile.inflight<[64, 64], bf16, swizzle128> -> !tile.shared<[64, 128], bf16, swizzle128>, !tile.shared<[64, 64], bf16, swizzle128>
  %p, %q = tile.wait %a, %b
    : !tile.inflight<[64, 128], bf16, swizzle128>, !tile.inflight<[64, 64], bf16, swizzle128>
    -> !tile.shared<[64, 128], bf16, swizzle128>, !tile.shared<[64, 64], bf16, swizzle128>
  tile.return
}
