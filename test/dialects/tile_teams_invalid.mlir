// RUN: VERIFY_DIAGNOSTICS

tile.kernel @team_of_half_a_warp() warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.team_index' op expects a positive multiple of 16 rows, got 8}}
  %team = tile.team_index rows 8
  tile.return
}

// -----

func.func @view_beyond_the_ring(%ring: !tile.ring<1 x [64, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.view' op expects a ring within the bytes of !tile.ring<1 x [64, 64], bf16, swizzle128>, got !tile.ring<5 x [16, 64], bf16, swizzle128>}}
  %view = tile.view %ring
    : !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.ring<5 x [16, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @view_of_other_rows(%ring: !tile.ring<1 x [64, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.view' op expects a ring within the bytes of}}
  %view = tile.view %ring
    : !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.ring<1 x [16, 128], bf16, swizzle128>
  func.return
}

// -----

func.func @slice_of_other_columns(%stage: !tile.shared<[64, 64], bf16, swizzle128>, %row: i32) {
  // expected-error @+1 {{'tile.slice' op expects some of the rows of !tile.shared<[64, 64], bf16, swizzle128>, got !tile.shared<[16, 128], bf16, swizzle128>}}
  %part = tile.slice %stage[%row]
    : !tile.shared<[64, 64], bf16, swizzle128> -> !tile.shared<[16, 128], bf16, swizzle128>
  func.return
}

// -----

func.func @slice_of_more_rows(%stage: !tile.shared<[64, 64], bf16, swizzle128>, %row: i32) {
  // expected-error @+1 {{'tile.slice' op expects some of the rows of}}
  %part = tile.slice %stage[%row]
    : !tile.shared<[64, 64], bf16, swizzle128> -> !tile.shared<[72, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @reduction_of_operands(
  %a: !tile.frag<[16, 64], f32, mma_a>, %ring: !tile.ring<1 x [64, 64], bf16, swizzle128>
) {
  // expected-error @+1 {{'tile.team_reduce' op expects layout mma_c or row, got mma_a}}
  %sum = tile.team_reduce sum %a through %ring
    : !tile.frag<[16, 64], f32, mma_a>, !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.frag<[16, 64], f32, mma_a>
  func.return
}

// -----

func.func @reduction_of_integers(
  %a: !tile.frag<[16], i32, row>, %ring: !tile.ring<1 x [64, 64], bf16, swizzle128>
) {
  // expected-error @+1 {{'tile.team_reduce' op expects elements of f32, got i32}}
  %sum = tile.team_reduce sum %a through %ring
    : !tile.frag<[16], i32, row>, !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.frag<[16], i32, row>
  func.return
}

// -----

func.func @reduction_to_another_type(
  %a: !tile.frag<[16], f32, row>, %ring: !tile.ring<1 x [64, 64], bf16, swizzle128>
) {
  // expected-error @+1 {{'tile.team_reduce' op expects result type !tile.frag<[16], f32, row>, got !tile.frag<[32], f32, row>}}
  %sum = tile.team_reduce sum %a through %ring
    : !tile.frag<[16], f32, row>, !tile.ring<1 x [64, 64], bf16, swizzle128>
    -> !tile.frag<[32], f32, row>
  func.return
}

// -----

func.func @load_of_an_accumulator(%x: !llvm.ptr<1>, %o: i64, %true: i1) {
  // expected-error @+1 {{'tile.load_rows' op expects layout row, got mma_c}}
  %rows = tile.load_rows %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> -> !tile.frag<[64, 64], f32, mma_c>
  func.return
}

// -----

func.func @load_without_validity(%x: !llvm.ptr<1>, %o: i64) {
  // expected-error @+1 {{'tile.load_rows' op expects its rows region to yield the offset}}
  %rows = tile.load_rows %x rows {
  ^bb0(%row: i32):
    tile.yield %o : i64
  } : !llvm.ptr<1> -> !tile.frag<[64], f32, row>
  func.return
}

// -----

func.func @accumulation_of_16_bits(
  %c: !tile.frag<[64, 64], f16, mma_c>, %w: !tile.frag<[64], f32, row>, %x: !llvm.ptr<1>, %o: i64,
  %true: i1
) {
  // expected-error @+1 {{'tile.accumulate_rows' op expects elements of f32, got f16}}
  %sum = tile.accumulate_rows %c, %w times %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !tile.frag<[64, 64], f16, mma_c>, !tile.frag<[64], f32, row>, !llvm.ptr<1>
    -> !tile.frag<[64, 64], f16, mma_c>
  func.return
}

// -----

func.func @factors_of_other_rows(
  %c: !tile.frag<[64, 64], f32, mma_c>, %w: !tile.frag<[16], f32, row>, %x: !llvm.ptr<1>, %o: i64,
  %true: i1
) {
  // expected-error @+1 {{'tile.accumulate_rows' op expects a factor for each of 64 rows, got 16}}
  %sum = tile.accumulate_rows %c, %w times %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !tile.frag<[64, 64], f32, mma_c>, !tile.frag<[16], f32, row>, !llvm.ptr<1>
    -> !tile.frag<[64, 64], f32, mma_c>
  func.return
}

// -----

func.func @sum_of_another_type(
  %c: !tile.frag<[64, 64], f32, mma_c>, %w: !tile.frag<[64], f32, row>, %x: !llvm.ptr<1>, %o: i64,
  %true: i1
) {
  // expected-error @+1 {{'tile.accumulate_rows' op expects result type !tile.frag<[64, 64], f32, mma_c>, got !tile.frag<[64, 32], f32, mma_c>}}
  %sum = tile.accumulate_rows %c, %w times %x rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !tile.frag<[64, 64], f32, mma_c>, !tile.frag<[64], f32, row>, !llvm.ptr<1>
    -> !tile.frag<[64, 32], f32, mma_c>
  func.return
}

// -----

func.func @stage_of_other_columns(%ring: !tile.ring<1 x [64, 64], bf16, swizzle128>) {
  // expected-error @+1 {{'tile.stage' op expects result type !tile.shared<[64, 64], bf16, swizzle128>, got !tile.shared<[64, 128], bf16, swizzle128>}}
  %stage = tile.stage %ring
    : !tile.ring<1 x [64, 64], bf16, swizzle128> -> !tile.shared<[64, 128], bf16, swizzle128>
  func.return
}

// -----

func.func @columns_of_other_rows(
  %c: !tile.frag<[32, 32], f32, mma_c>, %ring: !tile.ring<1 x [64, 64], bf16, swizzle128>, %n: i32
) {
  // expected-error @+1 {{'tile.store_fragment' op expects a fragment of the ring's shape [64, 64], got [32, 32]}}
  tile.store_fragment %c into %ring[%n]
    : !tile.frag<[32, 32], f32, mma_c> into !tile.ring<1 x [64, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @more_columns_than_the_ring(
  %c: !tile.frag<[64, 128], f32, mma_c>, %ring: !tile.ring<1 x [64, 64], bf16, swizzle128>, %n: i32
) {
  // expected-error @+1 {{'tile.store_fragment' op expects a fragment of at most the ring's 64 columns, got 128}}
  tile.store_fragment %c into %ring[%n]
    : !tile.frag<[64, 128], f32, mma_c> into !tile.ring<1 x [64, 64], bf16, swizzle128>
  func.return
}

// -----

func.func @rows_of_each_team(%rows: !tile.frag<[64], f32, row>, %out: !llvm.ptr<1>, %o: i64, %v: i1) {
  // expected-error @+1 {{'tile.store_rows' op expects an accumulator of each team, got !tile.frag<[64], f32, row>}}
  tile.store_rows each_team %rows into %out rows {
  ^bb0(%row: i32):
    tile.yield %o, %v : i64, i1
  } : !tile.frag<[64], f32, row> into !llvm.ptr<1>
  func.return
}

// -----

func.func @wait_without_a_result(%a: !tile.inflight<[64, 64], f16, swizzle128>) {
  // expected-error @+1 {{'tile.wait' op expects a result for each stage in flight, got 1 stages and 0 results}}
  "tile.wait"(%a) : (!tile.inflight<[64, 64], f16, swizzle128>) -> ()
  func.return
}
