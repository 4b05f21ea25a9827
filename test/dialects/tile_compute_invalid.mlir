// RUN: VERIFY_DIAGNOSTICS

tile.kernel @fill_of_another_type(%f: f16) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.fill' op expects a scalar of type f32, got f16}}
  %c = tile.fill %f : f16 -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

// The elements of operands lie in pairs of 16 bits.
tile.kernel @fill_of_a_wide_operand(%f: f32) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.fill' op expects elements of f16 or bf16 in an operand, got f32}}
  %a = tile.fill %f : f32 -> !tile.frag<[64, 16], f32, mma_a>
  tile.return
}

// -----

tile.kernel @extract_of_an_accumulator(
  %c: !tile.frag<[64, 64], f32, mma_c>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.extract' op expects layout mma_a, got mma_c}}
  %a = tile.extract %c[%i] : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 16], f32, mma_c>
  tile.return
}

// -----

tile.kernel @extract_of_two_steps(
  %a: !tile.frag<[64, 64], f16, mma_a>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.extract' op expects result type !tile.frag<[64, 16], f16, mma_a>, got !tile.frag<[64, 32], f16, mma_a>}}
  %b = tile.extract %a[%i] : !tile.frag<[64, 64], f16, mma_a> -> !tile.frag<[64, 32], f16, mma_a>
  tile.return
}

// -----

// Products.

tile.kernel @mma_of_a_and_a(
  %a: !tile.frag<[64, 16], f16, mma_a>, %c: !tile.frag<[64, 16], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects layouts mma_a, mma_b and mma_c, got mma_a, mma_a, mma_c}}
  %d = tile.mma %a, %a, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[64, 16], f16, mma_a>,
      !tile.frag<[64, 16], f32, mma_c> -> !tile.frag<[64, 16], f32, mma_c>
  tile.return
}

// -----

// Columns of an accumulator.

tile.kernel @columns_of_an_operand(
  %a: !tile.frag<[64, 64], f16, mma_a>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.columns' op expects layout mma_c, got mma_a}}
  %part = tile.columns %a[%i]
    : !tile.frag<[64, 64], f16, mma_a> -> !tile.frag<[64, 32], f16, mma_a>
  tile.return
}

// -----

tile.kernel @columns_that_do_not_divide(
  %c: !tile.frag<[64, 64], f32, mma_c>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.columns' op expects columns of !tile.frag<[64, 64], f32, mma_c>, whose number divides 64, got !tile.frag<[64, 24], f32, mma_c>}}
  %part = tile.columns %c[%i]
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 24], f32, mma_c>
  tile.return
}

// -----

tile.kernel @columns_of_other_rows(
  %c: !tile.frag<[64, 64], f32, mma_c>, %part: !tile.frag<[32, 32], f32, mma_c>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.insert_columns' op expects columns of !tile.frag<[64, 64], f32, mma_c>, whose number divides 64, got !tile.frag<[32, 32], f32, mma_c>}}
  %after = tile.insert_columns %part into %c[%i]
    : !tile.frag<[32, 32], f32, mma_c> into !tile.frag<[64, 64], f32, mma_c>
    -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

tile.kernel @insertion_with_another_result(
  %c: !tile.frag<[64, 64], f32, mma_c>, %part: !tile.frag<[64, 32], f32, mma_c>, %i: index
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.insert_columns' op expects result type !tile.frag<[64, 64], f32, mma_c>, got !tile.frag<[64, 32], f32, mma_c>}}
  %after = tile.insert_columns %part into %c[%i]
    : !tile.frag<[64, 32], f32, mma_c> into !tile.frag<[64, 64], f32, mma_c>
    -> !tile.frag<[64, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @confine_of_a_and_a(
  %a: !tile.frag<[64, 16], f16, mma_a>, %c: !tile.frag<[64, 16], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.confine' op expects layouts mma_a, mma_b and mma_c, got mma_a, mma_a, mma_c}}
  %finite, %reached = tile.confine %a, %a, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[64, 16], f16, mma_a>,
      !tile.frag<[64, 16], f32, mma_c>
    -> !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[64, 16], f32, mma_c>
  tile.return
}

// -----

tile.kernel @confine_to_other_results(
  %a: !tile.frag<[64, 16], f16, mma_a>, %b: !tile.frag<[16, 32], f16, mma_b>,
  %c: !tile.frag<[64, 32], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.confine' op expects results of types !tile.frag<[16, 32], f16, mma_b> and !tile.frag<[64, 32], f32, mma_c>, got !tile.frag<[16, 32], f16, mma_b> and !tile.frag<[16, 32], f16, mma_b>}}
  %finite, %reached = tile.confine %a, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 32], f16, mma_b>,
      !tile.frag<[64, 32], f32, mma_c>
    -> !tile.frag<[16, 32], f16, mma_b>, !tile.frag<[16, 32], f16, mma_b>
  tile.return
}

// -----

tile.kernel @mma_of_another_result(
  %a: !tile.frag<[64, 16], f16, mma_a>, %b: !tile.frag<[16, 32], f16, mma_b>,
  %c: !tile.frag<[64, 32], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects result type !tile.frag<[64, 32], f32, mma_c>, got !tile.frag<[64, 64], f32, mma_c>}}
  %d = tile.mma %a, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 32], f16, mma_b>,
      !tile.frag<[64, 32], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

tile.kernel @mma_of_f16_and_bf16(
  %a: !tile.frag<[64, 16], f16, mma_a>, %b: !tile.frag<[16, 32], bf16, mma_b>,
  %c: !tile.frag<[64, 32], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects operands both of element type f16 or bf16, got f16 and bf16}}
  %d = tile.mma %a, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 32], bf16, mma_b>,
      !tile.frag<[64, 32], f32, mma_c> -> !tile.frag<[64, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @mma_into_f16(
  %a: !tile.frag<[64, 16], f16, mma_a>, %b: !tile.frag<[16, 32], f16, mma_b>,
  %c: !tile.frag<[64, 32], f16, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects an accumulator of f32, got f16}}
  %d = tile.mma %a, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 32], f16, mma_b>,
      !tile.frag<[64, 32], f16, mma_c> -> !tile.frag<[64, 32], f16, mma_c>
  tile.return
}

// -----

tile.kernel @mma_of_two_steps(
  %a: !tile.frag<[64, 32], f16, mma_a>, %b: !tile.frag<[32, 32], f16, mma_b>,
  %c: !tile.frag<[64, 32], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects a step of 16, got 32 columns and 32 rows}}
  %d = tile.mma %a, %b, %c
    : !tile.frag<[64, 32], f16, mma_a>, !tile.frag<[32, 32], f16, mma_b>,
      !tile.frag<[64, 32], f32, mma_c> -> !tile.frag<[64, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @mma_of_another_shape(
  %a: !tile.frag<[64, 16], f16, mma_a>, %b: !tile.frag<[16, 32], f16, mma_b>,
  %c: !tile.frag<[64, 48], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.mma' op expects an accumulator of shape [64, 32], got [64, 48]}}
  %d = tile.mma %a, %b, %c
    : !tile.frag<[64, 16], f16, mma_a>, !tile.frag<[16, 32], f16, mma_b>,
      !tile.frag<[64, 48], f32, mma_c> -> !tile.frag<[64, 48], f32, mma_c>
  tile.return
}

// -----

// Maps.

tile.kernel @map_to_two_shapes(%f: f32) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects results of one shape and layout}}
  %c, %d = tile.map() {
  ^bb0(%row: i32, %column: i32):
    tile.yield %f, %f : f32, f32
  } -> !tile.frag<[64, 64], f32, mma_c>, !tile.frag<[64, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @map_of_another_shape(%c: !tile.frag<[64, 32], f32, mma_c>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects operands of [64, 64], or of its rows, got !tile.frag<[64, 32], f32, mma_c>}}
  %d = tile.map(%c : !tile.frag<[64, 32], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    tile.yield %x : f32
  } -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

// Two elements of an operand share a register, so they are no elements to a map.
tile.kernel @map_of_an_operand(%a: !tile.frag<[64, 64], f16, mma_a>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects fragments of layout mma_c, row or row_partial, got !tile.frag<[64, 64], f16, mma_a>}}
  %c = tile.map(%a : !tile.frag<[64, 64], f16, mma_a>) {
  ^bb0(%x: f16, %row: i32, %column: i32):
    tile.yield %x : f16
  } -> !tile.frag<[64, 64], f16, mma_c>
  tile.return
}

// -----

tile.kernel @map_without_a_column(%c: !tile.frag<[64, 64], f32, mma_c>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects the region's arguments to be one scalar an operand and 2 coordinates of type i32}}
  %d = tile.map(%c : !tile.frag<[64, 64], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32):
    tile.yield %x : f32
  } -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

tile.kernel @map_of_rows_with_a_column(%r: !tile.frag<[64], f32, row>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects the region's arguments to be one scalar an operand and 1 coordinates of type i32}}
  %s = tile.map(%r : !tile.frag<[64], f32, row>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    tile.yield %x : f32
  } -> !tile.frag<[64], f32, row>
  tile.return
}

// -----

tile.kernel @map_that_yields_another_type(
  %c: !tile.frag<[64, 64], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.map' op expects its region to yield one scalar a result}}
  %d = tile.map(%c : !tile.frag<[64, 64], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    tile.yield %row : i32
  } -> !tile.frag<[64, 64], f32, mma_c>
  tile.return
}

// -----

// Reductions.

tile.kernel @row_reduce_of_an_operand(%a: !tile.frag<[64, 64], f16, mma_a>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.row_reduce' op expects layout mma_c, got mma_a}}
  %r = tile.row_reduce max %a
    : !tile.frag<[64, 64], f16, mma_a> -> !tile.frag<[64], f16, row_partial>
  tile.return
}

// -----

// A thread has only the part of its columns: a row is whole after the quad reduces it.
tile.kernel @row_reduce_to_whole_rows(
  %c: !tile.frag<[64, 64], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.row_reduce' op expects result type !tile.frag<[64], f32, row_partial>, got !tile.frag<[64], f32, row>}}
  %r = tile.row_reduce max %c : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64], f32, row>
  tile.return
}

// -----

tile.kernel @row_reduce_of_integers(%c: !tile.frag<[64, 64], i32, mma_c>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.row_reduce' op expects elements of f32, got i32}}
  %r = tile.row_reduce max %c
    : !tile.frag<[64, 64], i32, mma_c> -> !tile.frag<[64], i32, row_partial>
  tile.return
}

// -----

tile.kernel @row_reduce_of_unknown_kind(
  %c: !tile.frag<[64, 64], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{expected `max`, or `sum`}}
  %r = tile.row_reduce min %c
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64], f32, row_partial>
  tile.return
}

// -----

tile.kernel @quad_reduce_of_whole_rows(%r: !tile.frag<[64], f32, row>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.quad_reduce' op expects layout row_partial, got row}}
  %s = tile.quad_reduce sum %r : !tile.frag<[64], f32, row> -> !tile.frag<[64], f32, row>
  tile.return
}

// -----

tile.kernel @quad_reduce_to_other_rows(
  %r: !tile.frag<[64], f32, row_partial>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.quad_reduce' op expects result type !tile.frag<[64], f32, row>, got !tile.frag<[32], f32, row>}}
  %s = tile.quad_reduce sum %r : !tile.frag<[64], f32, row_partial> -> !tile.frag<[32], f32, row>
  tile.return
}

// -----

tile.kernel @quad_reduce_of_integers(
  %r: !tile.frag<[64], i32, row_partial>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.quad_reduce' op expects elements of f32, got i32}}
  %s = tile.quad_reduce sum %r : !tile.frag<[64], i32, row_partial> -> !tile.frag<[64], i32, row>
  tile.return
}

// -----

// Layout conversions.

tile.kernel @conversion_that_exchanges_data(
  %a: !tile.frag<[64, 64], f16, mma_a>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.convert_layout' op expects a conversion from mma_c to mma_a (others exchange data through shared memory), got mma_a to mma_c}}
  %c = tile.convert_layout %a
    : !tile.frag<[64, 64], f16, mma_a> -> !tile.frag<[64, 64], f16, mma_c>
  tile.return
}

// -----

tile.kernel @conversion_to_another_shape(
  %c: !tile.frag<[64, 64], f32, mma_c>
) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.convert_layout' op expects a result of shape [64, 64], got [64, 32]}}
  %a = tile.convert_layout %c
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 32], f16, mma_a>
  tile.return
}

// -----

tile.kernel @conversion_to_f32(%c: !tile.frag<[64, 64], f32, mma_c>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.convert_layout' op expects a result of f16 or bf16, got f32}}
  %a = tile.convert_layout %c
    : !tile.frag<[64, 64], f32, mma_c> -> !tile.frag<[64, 64], f32, mma_a>
  tile.return
}

// -----

tile.kernel @conversion_of_integers(%c: !tile.frag<[64, 64], i32, mma_c>) warps 4 grid [1, 1, 1] {
  // expected-error @+1 {{'tile.convert_layout' op expects elements of f32, got i32}}
  %a = tile.convert_layout %c
    : !tile.frag<[64, 64], i32, mma_c> -> !tile.frag<[64, 64], f16, mma_a>
  tile.return
}
