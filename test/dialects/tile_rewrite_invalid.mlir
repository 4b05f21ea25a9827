// RUN: VERIFY_DIAGNOSTICS

func.func @one_coordinate(%stage: !tile.shared<[16, 64], f16, swizzle128>, %x: f32, %valid: i1) {
  // expected-error @+1 {{'tile.rewrite_rows' op expects its region to have two arguments, row and column: i32}}
  tile.rewrite_rows %stage {
  ^bb0(%row: i32):
    tile.yield %x, %valid : f32, i1
  } : !tile.shared<[16, 64], f16, swizzle128>
  func.return
}

// -----

func.func @no_condition(%stage: !tile.shared<[16, 64], f16, swizzle128>, %x: f32) {
  // expected-error @+1 {{'tile.rewrite_rows' op expects its region to yield a value and a condition: f32, i1}}
  tile.rewrite_rows %stage {
  ^bb0(%row: i32, %column: i32):
    tile.yield %x : f32
  } : !tile.shared<[16, 64], f16, swizzle128>
  func.return
}

// -----

func.func @sum_of_places(%stage: !tile.shared<[16, 64], f16, swizzle128>, %valid: i1) {
  tile.rewrite_rows %stage {
  ^bb0(%row: i32, %column: i32):
    // expected-error @+1 {{'tile.row_sum' op expects its region to have one argument, the column: i32}}
    %sum = tile.row_sum {
    ^bb1(%r: i32, %c: i32):
      %x = tile.row_element %c : f32
      tile.yield %x : f32
    } : f32
    tile.yield %sum, %valid : f32, i1
  } : !tile.shared<[16, 64], f16, swizzle128>
  func.return
}

// -----

func.func @sum_of_halves(%stage: !tile.shared<[16, 64], f16, swizzle128>, %valid: i1) {
  tile.rewrite_rows %stage {
  ^bb0(%row: i32, %column: i32):
    %sum = tile.row_sum {
    ^bb1(%c: i32):
      %x = tile.row_element %c : f32
      tile.yield %x : f32
    // expected-error @+1 {{expected a sum of type f32, got f16}}
    } : f16
    tile.yield %sum, %valid : f32, i1
  } : !tile.shared<[16, 64], f16, swizzle128>
  func.return
}
