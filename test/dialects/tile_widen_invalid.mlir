// RUN: VERIFY_DIAGNOSTICS

func.func @wide_source(%x: !tile.inflight<[16, 64], bf16, swizzle128>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.widen' op expects a stage of at most 8 bits an element, got !tile.inflight<[16, 64], bf16, swizzle128>}}
  %y = tile.widen %x into %ring : !tile.inflight<[16, 64], bf16, swizzle128> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @narrow_ring(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], i8, padded16>) {
  // expected-error @+1 {{'tile.widen' op expects a ring of f16 or bf16, got !tile.ring<1 x [16, 64], i8, padded16>}}
  %y = tile.widen %x into %ring : !tile.inflight<[16, 64], f8E4M3FN, padded16> into !tile.ring<1 x [16, 64], i8, padded16> -> !tile.shared<[16, 64], i8, padded16>
  func.return
}

// -----

func.func @other_shape(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [32, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.widen' op expects a ring of one stage of the shape of !tile.inflight<[16, 64], f8E4M3FN, padded16>, got !tile.ring<1 x [32, 64], bf16, swizzle128>}}
  %y = tile.widen %x into %ring : !tile.inflight<[16, 64], f8E4M3FN, padded16> into !tile.ring<1 x [32, 64], bf16, swizzle128> -> !tile.shared<[32, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @other_result(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.widen' op expects result type !tile.shared<[16, 64], bf16, swizzle128>, got !tile.shared<[16, 64], f16, swizzle128>}}
  %y = tile.widen %x into %ring : !tile.inflight<[16, 64], f8E4M3FN, padded16> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], f16, swizzle128>
  func.return
}

// -----

func.func @integer_scale(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>, %scale: i32) {
  // expected-error @+1 {{'tile.widen' op expects a block, a scale type and rows where its scales are an array alone, and else scales of f32, got i32}}
  %y = tile.widen %x into %ring scales %scale : !tile.inflight<[16, 64], f8E4M3FN, padded16>, i32 into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @block_of_one_scale(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>, %scale: f32) {
  // expected-error @+1 {{'tile.widen' op expects a block, a scale type and rows where its scales are an array alone, and else scales of f32, got f32}}
  %y = tile.widen %x into %ring scales %scale {block = 16 : i64} : !tile.inflight<[16, 64], f8E4M3FN, padded16>, f32 into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @array_without_rows(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>, %scale: !llvm.ptr<1>) {
  // expected-error @+1 {{'tile.widen' op expects a block and rows for its array of scales}}
  %y = tile.widen %x into %ring scales %scale {block = 16 : i64, scale_type = f16} : !tile.inflight<[16, 64], f8E4M3FN, padded16>, !llvm.ptr<1> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @scale_type(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>, %scale: !llvm.ptr<1>, %o: i64, %v: i1) {
  // expected-error @+1 {{'tile.widen' op expects scales of f16 or f32, got bf16}}
  %y = tile.widen %x into %ring scales %scale rows {
  ^bb0(%row: i32):
    tile.yield %o, %v : i64, i1
  } {block = 16 : i64, scale_type = bf16} : !tile.inflight<[16, 64], f8E4M3FN, padded16>, !llvm.ptr<1> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @small_block(%x: !tile.inflight<[16, 64], f8E4M3FN, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>, %scale: !llvm.ptr<1>, %o: i64, %v: i1) {
  // expected-error @+1 {{'tile.widen' op expects a block of a multiple of 16 that divides the 64 columns, or all of them, got 8}}
  %y = tile.widen %x into %ring scales %scale rows {
  ^bb0(%row: i32):
    tile.yield %o, %v : i64, i1
  } {block = 8 : i64, scale_type = f16} : !tile.inflight<[16, 64], f8E4M3FN, padded16>, !llvm.ptr<1> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @convert_integers(%x: !tile.inflight<[16, 64], i8, padded16>, %ring: !tile.ring<1 x [16, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.widen' op expects elements of f8E4M3FN to convert, got !tile.inflight<[16, 64], i8, padded16>}}
  %y = tile.widen %x into %ring {convert} : !tile.inflight<[16, 64], i8, padded16> into !tile.ring<1 x [16, 64], bf16, swizzle128> -> !tile.shared<[16, 64], bf16, swizzle128>
  func.return
}
