// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// Each warp takes two of its rows at a time. All lanes read before any of them writes.
// CHECK: "gpu.func"
// CHECK: "gpu.barrier"
// CHECK: scf.for %{{.*}} = %c0_i32 to %c4_i32 step %c1_i32 : i32 {
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 iter_args
// CHECK: %[[PAIR:.*]] = llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<3> -> vector<2xf16>
// CHECK: %[[WIDE:.*]] = arith.extf %[[PAIR]] : vector<2xf16> to vector<2xf32>
// CHECK-NEXT: vector.insert %[[WIDE]]
// Its elements are computed in a loop over the lane's pairs of columns, one here, and both of a pair.
// CHECK: scf.for %[[NUMBER:.*]] = %c0 to %c1 step %c1 iter_args
// CHECK-NEXT: scf.for %[[HALF:.*]] = %c0 to %c2 step %c1 iter_args
// CHECK: %[[OLD:.*]] = vector.extract %{{.*}}[%[[NUMBER]], %[[HALF]]] : f32
// CHECK: arith.addf %[[OLD]], %[[OLD]] : f32
// CHECK: arith.truncf %{{.*}} : vector<1x2xf32> to vector<1x2xf16>
// CHECK-NOT: llvm.store
// CHECK: nvvm.bar.warp.sync %cm1_i32
// CHECK: llvm.store %{{.*}}, %{{.*}} {alignment = 4 : i64} : vector<2xf16>, !llvm.ptr<3>
tile.kernel @doubled(%x: !llvm.ptr<1>, %offset: i64) warps 2 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<1 x [16, 64], f16, swizzle128>
  %stage = arith.constant 0 : i32
  %always = arith.constant true
  %flying = tile.copy_async %x into %ring[%stage] if %always rows {
  ^bb0(%row: i32):
    tile.yield %offset, %always : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [16, 64], f16, swizzle128>
    -> !tile.inflight<[16, 64], f16, swizzle128>
  %landed = tile.wait %flying : !tile.inflight<[16, 64], f16, swizzle128>
    -> !tile.shared<[16, 64], f16, swizzle128>
  tile.rewrite_rows %landed {
  ^bb1(%row: i32, %column: i32):
    %old = tile.row_element %column : f32
    %new = arith.addf %old, %old : f32
    tile.yield %new, %always : f32, i1
  } : !tile.shared<[16, 64], f16, swizzle128>
  tile.return
}
