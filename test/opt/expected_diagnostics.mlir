// RUN: VERIFY_DIAGNOSTICS

// The verifier's error stands at the name of the op.
func.func @wrong_result_type(%a: i32) -> i64 {
  // expected-error @+1 {{'arith.addi' op result 'result'}}
  %sum = "arith.addi"(%a, %a) : (i32, i32) -> i64
  func.return %sum : i64
}

// -----

// A comment can stand on the line itself.
func.func @undefined_value(%a: i32) -> i32 {
  %sum = arith.addi %a, %b : i32 // expected-error {{%b is used but not defined}}
  func.return %sum : i32
}

// -----

// Notes are expected as errors are, at places of their own.
func.func @use_before_definition(%a: i32) -> i32 {
  // expected-error @below {{expects operand #0 (%late) to be defined before its use}}
  %sum = arith.addi %late, %a : i32
  %late = arith.addi %a, %a : i32
  // expected-note @above {{operand defined here}}
  func.return %sum : i32
}

// -----

// Parts of a message can be regular expressions.
func.func @unknown_op(%a: i32) {
  // expected-error-re @+1 {{'arith.addy' is no op of dialect {{'a.*h'}}; did you mean 'arith.addi'?}}
  %sum = arith.addy %a, %a : i32
  func.return
}

// -----

// A part without an error needs no comment.
func.func @fine() {
  func.return
}
