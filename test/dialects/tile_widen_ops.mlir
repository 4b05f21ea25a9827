// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// CHECK-LABEL: tile.kernel @widened
tile.kernel @widened(%x: !llvm.ptr<1>, %scales: !llvm.ptr<1>, %scale: f32, %offset: i64)
    warps 2 grid [1, 1, 1] {
  %bytes = tile.alloc : !tile.ring<2 x [16, 64], f8E4M3FN, padded16>
  %codes = tile.alloc : !tile.ring<2 x [16, 64], i4, padded16>
  %wide = tile.alloc : !tile.ring<1 x [16, 64], bf16, swizzle128>
  %stage = arith.constant 0 : i32
  %always = arith.constant true
  %first = tile.copy_async %x into %bytes[%stage] if %always rows {
  ^bb0(%row: i32):
    tile.yield %offset, %always : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [16, 64], f8E4M3FN, padded16>
    -> !tile.inflight<[16, 64], f8E4M3FN, padded16>
  // CHECK: tile.widen %first into %wide : !tile.inflight<[16, 64], f8E4M3FN, padded16>
  // CHECK-SAME: into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  %plain = tile.widen %first into %wide : !tile.inflight<[16, 64], f8E4M3FN, padded16>
    into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  %second = tile.copy_async %x into %bytes[%stage] if %always rows {
  ^bb1(%row: i32):
    tile.yield %offset, %always : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [16, 64], f8E4M3FN, padded16>
    -> !tile.inflight<[16, 64], f8E4M3FN, padded16>
  // CHECK: tile.widen %second into %wide scales %scale {convert} : !tile.inflight<[16, 64], f8E4M3FN, padded16>, f32
  %scaled = tile.widen %second into %wide scales %scale {convert}
    : !tile.inflight<[16, 64], f8E4M3FN, padded16>, f32
    into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  %third = tile.copy_async %x into %codes[%stage] if %always rows {
  ^bb2(%row: i32):
    tile.yield %offset, %always : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [16, 64], i4, padded16>
    -> !tile.inflight<[16, 64], i4, padded16>
  // CHECK: tile.widen %third into %wide scales %scales rows {
  // CHECK-NEXT: ^{{.*}}(%{{.*}}: i32):
  // CHECK: } {block = 32 : i64, scale_type = f16} : !tile.inflight<[16, 64], i4, padded16>, !llvm.ptr<1>
  %blocks = tile.widen %third into %wide scales %scales rows {
  ^bb3(%row: i32):
    tile.yield %offset, %always : i64, i1
  } {block = 32 : i64, scale_type = f16} : !tile.inflight<[16, 64], i4, padded16>, !llvm.ptr<1>
    into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  tile.return
}
