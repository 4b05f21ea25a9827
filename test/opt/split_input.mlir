// RUN: tilewright-opt %s --split-input-file | filecheck %s
// RUN: tilewright-opt %s --split-input-file | tilewright-opt --split-input-file | filecheck %s

// CHECK: func.func @twice
func.func @twice() {
  func.return
}

// The parts are modules of their own, and stay apart in the output.
// CHECK: // -----
// -----

// CHECK: func.func @twice
func.func @twice() {
  func.return
}
