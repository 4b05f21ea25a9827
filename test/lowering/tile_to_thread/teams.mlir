// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// What the CTA wrote is released by one thread, behind a barrier; the answer comes back behind another.
// CHECK: "gpu.module"() <{sym_name = "arrive"}>
// CHECK: %[[COUNTER:.*]] = llvm.getelementptr %counters
// CHECK: %[[BEFORE_LAST:.*]] = arith.subi %n, %c1_i32 : i32
// CHECK: "gpu.barrier"
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %thread, %c0_i32 : i32
// CHECK-NEXT: scf.if %[[FIRST]] {
// CHECK-NEXT: %[[OLD:.*]] = llvm.inline_asm has_side_effects "atom.acq_rel.gpu.global.inc.u32 $0, [$1], $2;"
// CHECK-SAME: %[[COUNTER]], %[[BEFORE_LAST]]
// CHECK-NEXT: llvm.store %[[OLD]], %ring
// CHECK: "gpu.barrier"
// CHECK-NEXT: %[[TOLD:.*]] = llvm.load %ring
// CHECK-NEXT: %last = arith.cmpi eq, %[[TOLD]], %[[BEFORE_LAST]] : i32
tile.kernel @arrive(%counters: !llvm.ptr<1>, %i: i32, %n: i32) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
  %last = tile.arrive %counters[%i] of %n through %ring
    : !llvm.ptr<1>, !tile.ring<1 x [64, 64], bf16, swizzle128>
  tile.return
}

// Two teams of 2 warps, whose threads are 64 places apart. The ring has room for one block of columns:
// the two blocks take turns.
// CHECK: "gpu.module"() <{sym_name = "reduce"}>
// CHECK: arith.remui %warp, %c2_i32 : i32
// CHECK: %team = arith.divui %warp, %c2_i32 : i32
// CHECK: arith.muli %thread, %c16_i32 : i32
// CHECK: %[[IN_TEAM:.*]] = arith.remui %thread, %c64_i32 : i32
// CHECK-NEXT: %[[PLACE:.*]] = arith.muli %[[IN_TEAM]], %c16_i32 : i32
// CHECK: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c0 to %c1 step %c1 {
// CHECK: llvm.store
// CHECK: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c0 to %c1 step %c1
// CHECK: %[[MINE:.*]] = llvm.load
// CHECK: %[[OTHER:.*]] = llvm.getelementptr %{{.*}}[1024]
// CHECK: %[[THEIRS:.*]] = llvm.load %[[OTHER]]
// CHECK: arith.addf %[[MINE]], %[[THEIRS]] : vector<4xf32>
// CHECK: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c1 to %c2 step %c1 {
// CHECK: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c1 to %c2 step %c1
tile.kernel @reduce(%f: f32) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<1 x [16, 64], bf16, swizzle128>
  %c = tile.fill %f : f32 -> !tile.frag<[32, 16], f32, mma_c>
  %sum = tile.team_reduce sum %c through %ring
    : !tile.frag<[32, 16], f32, mma_c>, !tile.ring<1 x [16, 64], bf16, swizzle128>
    -> !tile.frag<[32, 16], f32, mma_c>
  tile.return
}

// Teams take turns at the blocks of columns that all of them hold.
// CHECK: "gpu.module"() <{sym_name = "store"}>
// CHECK: scf.for %[[N:.*]] = %c0 to %c4
// CHECK-NEXT: %[[TURN:.*]] = arith.remui %[[N]], %c4 : index
// CHECK-NEXT: %[[TURN32:.*]] = arith.index_cast %[[TURN]] : index to i32
// CHECK-NEXT: %[[MINE:.*]] = arith.cmpi eq, %[[TURN32]], %warp : i32
// CHECK-NEXT: scf.if %[[MINE]] {
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xf32>, !llvm.ptr<1>
tile.kernel @store(%f: f32, %x: !llvm.ptr<1>, %o: i64, %valid: i1) warps 4 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  tile.store_rows %c into %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %valid : i64, i1
  } : !tile.frag<[16, 32], f32, mma_c> into !llvm.ptr<1>
  tile.return
}

// What is loaded is added at once.
// CHECK: "gpu.module"() <{sym_name = "accumulate"}>
// CHECK: scf.if %valid -> (vector<4x4xf32>) {
// CHECK: %[[PAIR:.*]] = llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> vector<2xf32>
// CHECK: vector.extract %[[PAIR]][0]
// CHECK: math.fma
// CHECK: } else {
tile.kernel @accumulate(%f: f32, %x: !llvm.ptr<1>, %o: i64, %valid: i1) warps 4 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %w = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  %sum = tile.accumulate_rows %c, %w times %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %valid : i64, i1
  } : !tile.frag<[16, 32], f32, mma_c>, !tile.frag<[16], f32, row>, !llvm.ptr<1>
    -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// Each team stores all blocks of its own columns; an idle ring needs one barrier, not two.
// CHECK: "gpu.module"() <{sym_name = "columns"}>
// CHECK: arith.truncf
// CHECK: scf.for %[[N:.*]] = %c0 to %c4
// CHECK-NOT: scf.if
// CHECK: %[[OWN:.*]] = arith.muli %column, %c2_i32 : i32
// CHECK: arith.addi %{{.*}}, %[[OWN]] : i32
// CHECK: llvm.store
// CHECK: scf.if %valid {
// CHECK-NEXT: scf.for
// CHECK-NOT: scf.if
// CHECK: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xf32>, !llvm.ptr<1>
// CHECK-NOT: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c0 to %c1 step %c1
// CHECK: llvm.store
// CHECK: "gpu.barrier"
// CHECK-NOT: "gpu.barrier"
// CHECK: gpu.return
tile.kernel @columns(%f: f32, %x: !llvm.ptr<1>, %o: i64, %valid: i1, %column: i32) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<1 x [16, 64], bf16, swizzle128>
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  tile.store_fragment %c into %ring[%column]
    : !tile.frag<[16, 32], f32, mma_c> into !tile.ring<1 x [16, 64], bf16, swizzle128>
  tile.store_rows each_team %c into %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %valid : i64, i1
  } : !tile.frag<[16, 32], f32, mma_c> into !llvm.ptr<1>
  %rows = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  %max = tile.team_reduce max %rows through idle %ring
    : !tile.frag<[16], f32, row>, !tile.ring<1 x [16, 64], bf16, swizzle128>
    -> !tile.frag<[16], f32, row>
  tile.return
}

// One wait and one barrier for two stages; the third copy stays under way. Columns that are whole periods
// of the swizzle are added to the address.
// CHECK: "gpu.module"() <{sym_name = "wait"}>
// CHECK: nvvm.cp.async.wait.group 1
// CHECK-NEXT: "gpu.barrier"
// CHECK-NOT: "gpu.barrier"
// CHECK: %[[BYTES:.*]] = arith.muli %{{.*}}, %c2_i32 : i32
// CHECK-NEXT: llvm.getelementptr %{{.*}}[%[[BYTES]]]
// CHECK: arith.andi %{{.*}}, %c127_i32 : i32
// CHECK: nvvm.ldmatrix
tile.kernel @wait(%x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1) warps 4 grid [1, 1, 1] {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %wide = tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
  %narrow = tile.alloc : !tile.ring<1 x [64, 64], bf16, swizzle128>
  %a = tile.copy_async %x into %wide[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 128], bf16, swizzle128>
    -> !tile.inflight<[64, 128], bf16, swizzle128>
  %b = tile.copy_async %x into %narrow[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.inflight<[64, 64], bf16, swizzle128>
  %c = tile.copy_async %x into %wide[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 128], bf16, swizzle128>
    -> !tile.inflight<[64, 128], bf16, swizzle128>
  %p, %q = tile.wait %b, %a
    : !tile.inflight<[64, 64], bf16, swizzle128>, !tile.inflight<[64, 128], bf16, swizzle128>
    -> !tile.shared<[64, 64], bf16, swizzle128>, !tile.shared<[64, 128], bf16, swizzle128>
  %index = tile.team_index rows 16
  %team = arith.index_cast %index : i32 to index
  %column = arith.muli %team, %c64 : index
  %v = tile.ldmatrix %q[%c0, %column] transpose
    : !tile.shared<[64, 128], bf16, swizzle128> -> !tile.frag<[16, 64], bf16, mma_b>
  tile.drain %c : !tile.inflight<[64, 128], bf16, swizzle128>
  tile.return
}
