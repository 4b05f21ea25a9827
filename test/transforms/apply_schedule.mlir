// RUN: tilewright-opt %s -p 'apply-schedule{file="%S/tiles.schedule"}' | filecheck %s

// CHECK-LABEL: nest.func @scale
nest.func @scale(%x: !nest.buffer<[n, 64], f32>, out %y: !nest.buffer<[n, 64], f32>) symbols (n in [1, ...]) {
  // CHECK-NEXT: nest.for %io in (n + 31) floordiv 32, %ii in 32, %j_0 in 4, %j_1 in 16 {
  nest.for %i in n, %j in 64 {
    // CHECK-NEXT: nest.block @y [%vi = %ii + 32*%io in n, %vj = 16*%j_0 + %j_1 in 64] where (%ii + 32*%io < n)
    nest.block @y [%vi = %i in n, %vj = %j in 64] {
      // CHECK-NEXT: %x_1 = nest.load %x[%vi, %vj]
      %a = nest.load %x[%vi, %vj]
      %b = arith.addf %a, %a : f32
      nest.store %b, %y[%vi, %vj]
    }
  }
}
