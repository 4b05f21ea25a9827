// RUN: VERIFY_DIAGNOSTICS

// Types of shared memory.

// expected-error @+1 {{expected a shape of 2 extents, got 3}}
func.func @stage_of_three_axes(%x: !tile.shared<[2, 64, 128], bf16, padded16>) {
  func.return
}

// -----

// ldmatrix reads 8 rows at a time.
// expected-error @+1 {{expected a positive multiple of 8 rows, got 12}}
func.func @stage_of_12_rows(%x: !tile.shared<[12, 64], bf16, padded16>) {
  func.return
}

// -----

// A copy moves 16 bytes.
// expected-error @+1 {{expected rows of a multiple of 16 bytes, got 24}}
func.func @rows_of_24_bytes(%x: !tile.inflight<[16, 12], bf16, padded16>) {
  func.return
}

// -----

// expected-error @+1 {{swizzle128 expects rows of 128 bytes, got 96}}
func.func @swizzled_rows_of_96_bytes(%x: !tile.ring<2 x [16, 48], bf16, swizzle128>) {
  func.return
}

// -----

// expected-error @+1 {{expected element type f16, bf16, f8E4M3FN, f8E5M2, i8 or i4, got f32}}
func.func @stage_of_f32(%x: !tile.shared<[16, 64], f32, padded16>) {
  func.return
}

// -----

// expected-error @+1 {{expected at least 1 stage, got 0}}
func.func @ring_of_no_stage(%x: !tile.ring<0 x [16, 64], bf16, padded16>) {
  func.return
}

// -----

// expected-error @+1 {{expected `swizzle128`, or `padded16`}}
func.func @stage_of_unknown_layout(%x: !tile.shared<[16, 64], bf16, swizzle64>) {
  func.return
}

// -----

// Types of fragments.

// expected-error @+1 {{layout row expects 1 extents, got 2}}
func.func @row_of_two_axes(%x: !tile.frag<[64, 64], f32, row>) {
  func.return
}

// -----

// expected-error @+1 {{layout mma_c expects axis 1 to be a multiple of 8, got 12}}
func.func @accumulator_of_12_columns(%x: !tile.frag<[64, 12], f32, mma_c>) {
  func.return
}

// -----

// expected-error @+1 {{layout mma_a expects axis 1 to be a multiple of 16, got 8}}
func.func @operand_of_8_columns(%x: !tile.frag<[64, 8], bf16, mma_a>) {
  func.return
}

// -----

// expected-error @+1 {{layout row_partial expects axis 0 to be a multiple of 16, got 0}}
func.func @rows_of_no_row(%x: !tile.frag<[0], f32, row_partial>) {
  func.return
}

// -----

// Kernels.

// expected-error @+1 {{'tile.kernel' op expects 1 to 32 warps, got 33}}
tile.kernel @of_33_warps() warps 33 grid [1, 1, 1] {
  tile.return
}

// -----

// expected-error @+1 {{'tile.kernel' op expects 3 grid extents, got 2}}
tile.kernel @grid_of_two_axes() warps 4 grid [tiles, 8] {
  tile.return
}

// -----

// expected-error @+1 {{'tile.kernel' op expects to end in tile.return}}
tile.kernel @without_a_return() warps 4 grid [1, 1, 1] {
  tile.yield
}

// -----

// expected-error @+1 {{'tile.kernel' op expects the types of its parameters to be those of its body}}
"tile.kernel"() <{
  function_type = (i32) -> (), param_names = ["n"], warps = 4 : i32,
  grid = [#sym.expr<1>, #sym.expr<1>, #sym.expr<1>]
}> ({
^bb0(%n: f32):
  "tile.return"() : () -> ()
}) {sym_name = "other_types"} : () -> ()

// -----

// expected-error @+1 {{'tile.kernel' op expects a name for each of its parameters}}
"tile.kernel"() <{
  function_type = (i32) -> (), param_names = [], warps = 4 : i32,
  grid = [#sym.expr<1>, #sym.expr<1>, #sym.expr<1>]
}> ({
^bb0(%n: i32):
  "tile.return"() : () -> ()
}) {sym_name = "nameless"} : () -> ()

// -----

// The rows of a fragment belong to the warps, 16 each.
// expected-error @+1 {{'tile.kernel' op of 4 warps expects fragments of 64 rows, or a part that divides them, got !tile.frag<[48, 64], f32, mma_c>}}
tile.kernel @rows_of_three_warps(%f: f32) warps 4 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[48, 64], f32, mma_c>
  tile.return
}

// -----

tile.kernel @fourth_axis() warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.block_index' op expects axis 0, 1 or 2, got 3}}
  %index = tile.block_index 3
  tile.return
}

// -----

func.func @block_index_outside_a_kernel() {
  // expected-error @+1 {{'tile.block_index' op 'tile.block_index' expects parent op 'tile.kernel'}}
  %index = tile.block_index 0
  func.return
}

// -----

tile.kernel @load_of_f16(%x: !llvm.ptr<1>, %i: i32) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.load' op expects a value of f32 or i32, got f16}}
  %value = tile.load %x[%i] : f16 from !llvm.ptr<1>
  tile.return
}

// -----

tile.kernel @load_at_an_index(%x: !llvm.ptr<1>, %i: index) warps 4 grid [1, 1, 1] {
  // expected-error-re @+1 {{{{.*}}i32{{.*}}index}}
  %value = tile.load %x[%i] : i32 from !llvm.ptr<1>
  tile.return
}

// -----

// Copies.

tile.kernel @two_sources_one_ring(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects a ring for each source, got 2 sources and 1 rings}}
  %a = tile.copy_async %x, %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @copy_of_another_shape(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects a stage in flight of each ring as its results}}
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[32, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[32, 64], f16, swizzle128>
  tile.return
}

// -----

// The sources share the offsets of their rows, so the rings have one shape.
tile.kernel @rings_of_two_shapes(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %long = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %short = tile.alloc : !tile.ring<2 x [32, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects rings of one shape, element type and layout, got !tile.inflight<[64, 64], f16, swizzle128> and !tile.inflight<[32, 64], f16, swizzle128>}}
  %a, %b = tile.copy_async %x, %x into %long, %short[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [32, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[32, 64], f16, swizzle128>
  tile.drain %a, %b : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[32, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @rings_of_two_layouts(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %swizzled = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %padded = tile.alloc : !tile.ring<2 x [64, 64], f16, padded16>
  // expected-error @+1 {{'tile.copy_async' op expects rings of one shape, element type and layout, got !tile.inflight<[64, 64], f16, swizzle128> and !tile.inflight<[64, 64], f16, padded16>}}
  %a, %b = tile.copy_async %x, %x into %swizzled, %padded[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, padded16>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, padded16>
  tile.drain %a, %b : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, padded16>
  tile.return
}

// -----

tile.kernel @rows_by_row_and_column(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects a rows region with one argument, the row of the tile: i32}}
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32, %column: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @rows_without_validity(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects its rows region to yield the offset of the row in elements and whether the row is valid: i64, i1}}
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o : i64
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

// ldmatrix.

tile.kernel @ldmatrix_of_another_element(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects element type f16, got bf16}}
  %a = tile.ldmatrix %x[%i, %i]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[64, 64], bf16, mma_a>
  tile.return
}

// -----

tile.kernel @ldmatrix_of_an_accumulator(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects a fragment of layout mma_a or mma_b, got mma_c}}
  %a = tile.ldmatrix %x[%i, %i]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[64, 64], f16, mma_c>
  tile.return
}

// -----

// An instruction reads 16 columns.
tile.kernel @ldmatrix_of_8_columns(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects a multiple of 16 columns, got 8}}
  %b = tile.ldmatrix %x[%i, %i]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[16, 8], f16, mma_b>
  tile.return
}

// -----

tile.kernel @ldmatrix_of_a_transposed_a(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects no transposition for a fragment of layout mma_a}}
  %a = tile.ldmatrix %x[%i, %i] transpose
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[64, 64], f16, mma_a>
  tile.return
}

// -----

// A fragment [K, N] is read from N rows of K columns.
tile.kernel @ldmatrix_beyond_the_stage(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects a fragment within the stage [64, 64], got 80 rows and 16 columns}}
  %b = tile.ldmatrix %x[%i, %i]
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[16, 80], f16, mma_b>
  tile.return
}

// -----

// With a transposition it is read from K rows of N columns.
tile.kernel @transposed_ldmatrix_beyond_the_stage(
  %x: !tile.shared<[64, 64], f16, swizzle128>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.ldmatrix' op expects a fragment within the stage [64, 64], got 16 rows and 80 columns}}
  %b = tile.ldmatrix %x[%i, %i] transpose
    : !tile.shared<[64, 64], f16, swizzle128> -> !tile.frag<[16, 80], f16, mma_b>
  tile.return
}

// -----

// Stores.

tile.kernel @store_of_an_operand(
  %a: !tile.frag<[64, 64], f16, mma_a>, %ring: !tile.ring<1 x [64, 64], f16, swizzle128>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.store_fragment' op expects layout mma_c, got mma_a}}
  tile.store_fragment %a into %ring
    : !tile.frag<[64, 64], f16, mma_a> into !tile.ring<1 x [64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @store_of_integers(
  %c: !tile.frag<[64, 64], i32, mma_c>, %ring: !tile.ring<1 x [64, 64], f16, swizzle128>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.store_fragment' op expects elements of f32, got i32}}
  tile.store_fragment %c into %ring
    : !tile.frag<[64, 64], i32, mma_c> into !tile.ring<1 x [64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @store_of_another_shape(
  %c: !tile.frag<[64, 64], f32, mma_c>, %ring: !tile.ring<1 x [64, 128], f16, swizzle128>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.store_fragment' op expects a fragment of the ring's shape [64, 128], got [64, 64]}}
  tile.store_fragment %c into %ring
    : !tile.frag<[64, 64], f32, mma_c> into !tile.ring<1 x [64, 128], f16, swizzle128>
  tile.return
}

// -----

// The lanes of a quad hold different parts of a partial row.
tile.kernel @store_of_partial_rows(
  %rows: !tile.frag<[64], f32, row_partial>, %out: !llvm.ptr<1>, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.store_rows' op expects a fragment of layout row or mma_c, got row_partial}}
  tile.store_rows %rows into %out rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !tile.frag<[64], f32, row_partial> into !llvm.ptr<1>
  tile.return
}

// -----

tile.kernel @store_of_rows_of_16_bits(
  %rows: !tile.frag<[64], f16, row>, %out: !llvm.ptr<1>, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.store_rows' op expects a fragment of f32 or i32, got f16}}
  tile.store_rows %rows into %out rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !tile.frag<[64], f16, row> into !llvm.ptr<1>
  tile.return
}

// -----

// expected-error @+1 {{expected elements that are numbers, got index}}
func.func @fragment_of_index(%x: !tile.frag<[64], index, row>) {
  func.return
}
