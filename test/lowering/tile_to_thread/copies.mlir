// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// Each source is a group of its own: the wait for the first of two leaves one under way.
// CHECK: "gpu.module"() <{sym_name = "groups"}>
// CHECK: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
// CHECK: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
// CHECK-NEXT: nvvm.cp.async.wait.group 1
// CHECK-NEXT: "gpu.barrier"
// CHECK-NEXT: nvvm.cp.async.wait.group 0
// CHECK-NEXT: "gpu.barrier"
tile.kernel @groups(%k: !llvm.ptr<1>, %v: !llvm.ptr<1>, %o: i64) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %true = arith.constant true
  %keys = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %values = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a, %b = tile.copy_async %k, %v into %keys, %values[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  %c = tile.wait %a
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  %d = tile.wait %b
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  tile.return
}

// In a loop the copies of the next trip stay under way: of three younger groups two are
// begun in the trip itself.
// CHECK: "gpu.module"() <{sym_name = "pipeline"}>
// CHECK: scf.for {{.*}} : i32 {
// CHECK: nvvm.cp.async.wait.group 1
// CHECK: nvvm.cp.async.commit.group
// CHECK: nvvm.cp.async.wait.group 2
// CHECK: scf.yield
// CHECK: nvvm.cp.async.wait.group 0
tile.kernel @pipeline(%k: !llvm.ptr<1>, %v: !llvm.ptr<1>, %o: i64, %n: i32) warps 4 grid [1, 1, 1] {
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %true = arith.constant true
  %keys = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %values = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a, %b = tile.copy_async %k, %v into %keys, %values[%zero] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  %e, %f = scf.for %trip = %zero to %n step %one iter_args(%c = %a, %d = %b)
    -> (!tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>) : i32 {
    %now = tile.wait %c
      : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
    %g, %h = tile.copy_async %k, %v into %keys, %values[%one] if %true rows {
    ^bb0(%row: i32):
      tile.yield %o, %true : i64, i1
    } : !llvm.ptr<1>, !llvm.ptr<1>
      into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, swizzle128>
      -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
    %too = tile.wait %d
      : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
    scf.yield %g, %h
      : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  }
  tile.drain %e, %f
    : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// Where the predicate is false nothing is copied, and the group is committed all the same: the
// counts of the waits hold.
// CHECK: "gpu.module"() <{sym_name = "predicate"}>
// CHECK: scf.if %more {
// CHECK: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
// CHECK: } else {
// CHECK-NEXT: nvvm.cp.async.commit.group
// CHECK-NEXT: }
tile.kernel @predicate(%x: !llvm.ptr<1>, %o: i64, %more: i1) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%stage] if %more rows {
  ^bb0(%row: i32):
    tile.yield %o, %more : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// Of an invalid row 0 of 16 bytes are read; the others are zeros.
// CHECK: "gpu.module"() <{sym_name = "invalid_rows"}>
// CHECK: %[[VALID:.*]] = arith.cmpi slt, %{{.*}}, %rows : i32
// CHECK: %[[SIZE:.*]] = arith.select %[[VALID]], %c16_i32, %c0_i32 : i32
// CHECK: %[[SIZES:.*]] = vector.insert %[[SIZE]]
// CHECK: %[[READ:.*]] = vector.extract %{{.*}} : i32 from vector
// CHECK: nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 16, cache = cg, %[[READ]]
tile.kernel @invalid_rows(%x: !llvm.ptr<1>, %o: i64, %rows: i32) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    %valid = arith.cmpi slt, %row, %rows : i32
    tile.yield %o, %valid : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// A swizzled chunk lies at chunk ^ (row % 8), of rows of 128 bytes.
// CHECK: "gpu.module"() <{sym_name = "swizzled"}>
// CHECK: %[[ROW:.*]] = arith.divui %thread, %c8_i32 : i32
// CHECK: %[[CHUNK:.*]] = arith.remui %thread, %c8_i32 : i32
// CHECK: %[[TURN:.*]] = arith.remui %[[ROW]], %c8_i32 : i32
// CHECK-NEXT: %[[PLACE:.*]] = arith.xori %[[CHUNK]], %[[TURN]] : i32
// CHECK-NEXT: %[[START:.*]] = arith.muli %[[ROW]], %c128_i32 : i32
// CHECK-NEXT: %[[IN_ROW:.*]] = arith.muli %[[PLACE]], %c16_i32 : i32
// CHECK-NEXT: arith.addi %[[START]], %[[IN_ROW]] : i32
tile.kernel @swizzled(%x: !llvm.ptr<1>, %o: i64) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// Of a padded tile of 64 bytes a row takes 80.
// CHECK: "gpu.module"() <{sym_name = "padded"}>
// CHECK-NOT: arith.xori
// CHECK: arith.muli %{{.*}}, %c80_i32 : i32
// CHECK-NOT: arith.xori
// CHECK: sym_name = "padded"
tile.kernel @padded(%x: !llvm.ptr<1>, %o: i64) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [64, 32], f16, padded16>
  %a = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [64, 32], f16, padded16>
    -> !tile.inflight<[64, 32], f16, padded16>
  tile.drain %a : !tile.inflight<[64, 32], f16, padded16>
  tile.return
}

// 128 threads copy 64 rows of one pass a time; of a tile of 24 rows only 24 * 4 threads have one.
// CHECK: "gpu.module"() <{sym_name = "partial"}>
// CHECK: %[[WITHIN:.*]] = arith.cmpi slt, %{{.*}}, %c24_i32 : i32
// CHECK-NEXT: scf.if %[[WITHIN]] {
// CHECK: nvvm.cp.async.shared.global
tile.kernel @partial(%x: !llvm.ptr<1>, %o: i64) warps 4 grid [1, 1, 1] {
  %stage = arith.constant 0 : i32
  %true = arith.constant true
  %ring = tile.alloc : !tile.ring<1 x [24, 32], f16, padded16>
  %a = tile.copy_async %x into %ring[%stage] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [24, 32], f16, padded16>
    -> !tile.inflight<[24, 32], f16, padded16>
  tile.drain %a : !tile.inflight<[24, 32], f16, padded16>
  tile.return
}
