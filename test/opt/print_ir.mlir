// RUN: tilewright-opt %s -p canonicalize,cse --print-ir-after-all 2>&1 | filecheck %s --check-prefix=AFTER
// RUN: tilewright-opt %s -p canonicalize,cse --print-ir-before-all 2>&1 | filecheck %s --check-prefix=BEFORE
// RUN: tilewright-opt %s -p canonicalize,cse --print-ir-after-change 2>&1 | filecheck %s --check-prefix=CHANGE
// RUN: tilewright-opt %s -p canonicalize,cse --print-ir-after=cse 2>&1 | filecheck %s --check-prefix=ONLY

// AFTER: // -----// IR Dump After canonicalize //----- //
// AFTER: func.return %a : i32
// AFTER: // -----// IR Dump After cse //----- //

// BEFORE: // -----// IR Dump Before canonicalize //----- //
// BEFORE: arith.muli
// BEFORE: // -----// IR Dump Before cse //----- //

// Nothing is left to do for the second pass.
// CHANGE: // -----// IR Dump After canonicalize //----- //
// CHANGE-NOT: // -----// IR Dump

// ONLY-NOT: canonicalize
// ONLY: // -----// IR Dump After cse //----- //
func.func @times_one(%a: i32) -> i32 {
  %one = arith.constant 1 : i32
  %product = arith.muli %a, %one : i32
  func.return %product : i32
}
