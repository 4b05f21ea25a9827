// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// A thread waits for what it copied itself, loads 16 codes at a time and stores them as two chunks
// of 8 numbers; only then do all threads meet.
// CHECK: nvvm.cp.async.wait.group 0
// CHECK-NOT: gpu.barrier
// CHECK: %[[CODES:.*]] = llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xi32>
// CHECK: arith.xori %{{.*}} : vector<2xi32>
// CHECK: arith.subf %{{.*}} : vector<8xf16>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
// CHECK: "gpu.barrier"
tile.kernel @widened(%x: !llvm.ptr<1>, %offset: i64) warps 2 grid [1, 1, 1] {
  %codes = tile.alloc : !tile.ring<2 x [16, 64], i8, padded16>
  %wide = tile.alloc : !tile.ring<1 x [16, 64], f16, swizzle128>
  %stage = arith.constant 0 : i32
  %always = arith.constant true
  %flying = tile.copy_async %x into %codes[%stage] if %always rows {
  ^bb0(%row: i32):
    tile.yield %offset, %always : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [16, 64], i8, padded16>
    -> !tile.inflight<[16, 64], i8, padded16>
  %landed = tile.widen %flying into %wide : !tile.inflight<[16, 64], i8, padded16>
    into !tile.ring<1 x [16, 64], f16, swizzle128> -> !tile.shared<[16, 64], f16, swizzle128>
  tile.return
}
