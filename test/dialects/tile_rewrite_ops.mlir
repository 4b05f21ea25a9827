// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// CHECK-LABEL: tile.kernel @normed
tile.kernel @normed(%x: !llvm.ptr<1>, %offset: i64) warps 1 grid [1, 1, 1] {
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
  // CHECK: tile.rewrite_rows %landed {
  // CHECK-NEXT: ^{{.*}}(%{{.*}}: i32, %{{.*}}: i32):
  // CHECK: tile.row_sum {
  // CHECK-NEXT: ^{{.*}}(%{{.*}}: i32):
  // CHECK-NEXT: tile.row_element %{{.*}} : f32
  // CHECK: } : f32
  // CHECK: tile.yield %{{.*}}, %{{.*}} : f32, i1
  // CHECK-NEXT: } : !tile.shared<[16, 64], f16, swizzle128>
  tile.rewrite_rows %landed {
  ^bb1(%row: i32, %column: i32):
    %sum = tile.row_sum {
    ^bb2(%at: i32):
      %element = tile.row_element %at : f32
      tile.yield %element : f32
    } : f32
    %old = tile.row_element %column : f32
    %new = arith.divf %old, %sum : f32
    tile.yield %new, %always : f32, i1
  } : !tile.shared<[16, 64], f16, swizzle128>
  tile.return
}
