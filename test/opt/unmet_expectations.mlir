// RUN: not tilewright-opt %s --split-input-file --verify-diagnostics 2>&1 | filecheck %s

// An error that does not come is an error.
// CHECK: unmet_expectations.mlir:6:1: error: expected error "nothing of the kind" on line 6 did not come
func.func @fine() {
  func.return // expected-error {{nothing of the kind}}
}

// -----

// An error that nobody expects is an error.
// CHECK: unmet_expectations.mlir:14:23: error: unexpected error: %b is used but not defined
func.func @broken(%a: i32) {
  %c = arith.addi %a, %b : i32
  func.return
}

// -----

// A comment that is not understood is an error, not a comment.
// CHECK: unmet_expectations.mlir:23:18: error: expected a comment of the form
func.func @misspelt() {
  func.return // expected-error @+1 nothing
}
