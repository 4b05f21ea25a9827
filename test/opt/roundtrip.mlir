// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// Both forms of an op are parsed again to the same op.
// CHECK-LABEL: func.func @add
func.func @add(%a: i32, %b: i32) -> i32 {
  // CHECK-NEXT: arith.addi %a, %b : i32
  %sum = arith.addi %a, %b : i32
  func.return %sum : i32
}
