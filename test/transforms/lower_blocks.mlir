// RUN: tilewright-opt %s -p lower-blocks | filecheck %s

// Axes become what they are bound to. A predicate guards; what it says of outer loops alone guards
// outside of inner ones. The initialisation runs before the loop over the terms.
// CHECK-LABEL: nest.func @rows
nest.func @rows(%x: !nest.buffer<[n, 64], f32>, out %y: !nest.buffer<[n], f32>) symbols (n in [1, 4096]) {
  // CHECK-NEXT: nest.for block.x %b in (n + 31) floordiv 32, thread.x %t in 32 {
  // CHECK-NEXT:   %[[ROW:.*]] = nest.index 32*%b + %t
  // CHECK-NEXT:   %[[ROWS:.*]] = nest.index n
  // CHECK-NEXT:   %[[INSIDE:.*]] = arith.cmpi slt, %[[ROW]], %[[ROWS]] : index
  // CHECK-NEXT:   scf.if %[[INSIDE]] {
  // CHECK-NEXT:     %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
  // CHECK-NEXT:     nest.store %[[ZERO]], %y[32*%b + %t]
  // CHECK-NEXT:     nest.for %k in 64 {
  // CHECK-NEXT:       nest.load %y[32*%b + %t]
  // CHECK-NEXT:       nest.load %x[32*%b + %t, %k]
  // CHECK-NEXT:       arith.addf
  // CHECK-NEXT:       nest.store %{{.*}}, %y[32*%b + %t]
  // CHECK-NEXT:     }
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  nest.for block.x %b in (n + 31) floordiv 32, thread.x %t in 32, %k in 64 {
    nest.block @y [%i = 32 * %b + %t in n, reduce %r = %k in 64] where (32 * %b + %t < n) {
      nest.init {
        %zero = arith.constant 0.0 : f32
        nest.store %zero, %y[%i]
      }
      %s = nest.load %y[%i]
      %a = nest.load %x[%i, %r]
      %sum = arith.addf %s, %a : f32
      nest.store %sum, %y[%i]
    }
  }
}

// Where the loop over the terms is around that over the sums, all sums begin before it.
// CHECK-LABEL: nest.func @spread
nest.func @spread(%x: !nest.buffer<[64], i32>, out %y: !nest.buffer<[4], i32>) {
  // CHECK-NEXT: nest.for %[[I:.*]] in 4 {
  // CHECK-NEXT:   %[[ZERO:.*]] = arith.constant 0 : i32
  // CHECK-NEXT:   nest.store %[[ZERO]], %y[%[[I]]]
  // CHECK-NEXT: }
  // CHECK-NEXT: nest.for %k in 16, %i in 4 {
  // CHECK-NEXT:   nest.load %y[%i]
  nest.for %k in 16, %i in 4 {
    nest.block @y [%v = %i in 4, reduce %r = %k in 16] {
      nest.init {
        %zero = arith.constant 0 : i32
        nest.store %zero, %y[%v]
      }
      %s = nest.load %y[%v]
      %a = nest.load %x[16 * %v + %r]
      %sum = arith.addi %s, %a : i32
      nest.store %sum, %y[%v]
    }
  }
}

// What is inside of a block stays: inner blocks, loops, and what they name.
// CHECK-LABEL: nest.func @nested
nest.func @nested(%x: !nest.buffer<[32, 8], f32>, out %y: !nest.buffer<[32, 8], f32>) {
  // CHECK-NEXT: nest.for %i in 4, %u in 8, %j in 8 {
  // CHECK-NEXT:   nest.load %x[8*%i + %u, 7 - %j]
  // CHECK-NEXT:   nest.store %{{.*}}, %y[8*%i + %u, %j]
  nest.for %i in 4 {
    nest.block @tile [%vi = %i in 4] {
      nest.for %u in 8, %j in 8 {
        nest.block @y [%vu = %u in 8, %vj = %j in 8] {
          %a = nest.load %x[8 * %vi + %vu, 7 - %vj]
          nest.store %a, %y[8 * %vi + %vu, %vj]
        }
      }
    }
  }
}
