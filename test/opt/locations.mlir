// RUN: tilewright-opt %s --print-debuginfo | filecheck %s
// RUN: tilewright-opt %s --print-op-generic | tilewright-opt --print-debuginfo | filecheck %s --check-prefix=GENERIC

// An op stands where its name stands; a location that is spelt out is kept.
// CHECK: func.func @places
// GENERIC: func.func @places
func.func @places(%a: i32) -> i32 {
  // CHECK: arith.addi {{.*}} loc("{{.*}}locations.mlir":10:10)
  // GENERIC: arith.addi {{.*}} loc("<stdin>":{{[0-9]+}}:{{[0-9]+}})
  %sum = arith.addi %a, %a : i32
  // CHECK: arith.muli {{.*}} loc("model.py":7:3)
  %product = arith.muli %sum, %a : i32 loc("model.py":7:3)
  func.return %product : i32
}
