// RUN: not tilewright-opt %s -p 'apply-schedule{file="%S/unknown_loop.schedule"}' 2>&1 | filecheck %s
// RUN: not tilewright-opt %s -p 'apply-schedule{file="%S/none.schedule"}' 2>&1 | filecheck %s --check-prefix NONE
// RUN: tilewright-opt %s -p 'apply-schedule{file="%S/unknown_loop.schedule" function="other"}' | filecheck %s --check-prefix OTHER

// CHECK: unknown_loop.schedule:2:1: error: 'split': expected a loop among i_0, i_1, got 'k' [exists]
// CHECK-NEXT: split("k", [none, 2])
// NONE: error: cannot read the schedule '{{.*}}none.schedule': No such file or directory
// OTHER: nest.for %i in 4 {
nest.func @fill(%y: !nest.buffer<[4], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for %i in 4 {
    nest.block @y [%v = %i in 4] {
      nest.store %zero, %y[%v]
    }
  }
}
