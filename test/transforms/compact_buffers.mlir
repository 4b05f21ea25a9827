// RUN: tilewright-opt %s -p compact-buffers | filecheck %s

// A shared buffer holds what its CTA needs in one iteration, a local one what a thread needs. Padding
// becomes strides: 36 is 4 modulo 32. Indices count from the first element that is kept.
// CHECK-LABEL: nest.func @staged
nest.func @staged(%x: !nest.buffer<[n, 64], f32>, out %y: !nest.buffer<[n, 64], f32>) symbols (n in [1, 4096]) {
  // CHECK-NEXT: %s = nest.alloc @s in @k : !nest.buffer<[1, 16], f32, shared, strides [36, 1]>
  // CHECK-NEXT: %h = nest.alloc @h in @u : !nest.buffer<[1, 1], f32, local>
  %s = nest.alloc @s : !nest.buffer<[n, 64], f32, shared, padding [0, 32, 4]>
  %h = nest.alloc @h : !nest.buffer<[n, 64], f32, local>
  nest.for block.x %b in n, %k in 4 {
    nest.for thread.x %t in 16 {
      %a = nest.load %x[%b, 16 * %k + %t]
      // CHECK: nest.store %{{.*}}, %s[0, %t]
      nest.store %a, %s[%b, 16 * %k + %t]
    }
    nest.for thread.x %u in 16 {
      // CHECK: nest.load %s[0, 15 - %u]
      // CHECK-NEXT: nest.store %{{.*}}, %h[0, 0]
      %c = nest.load %s[%b, 16 * %k + 15 - %u]
      nest.store %c, %h[%b, 16 * %k + %u]
      // CHECK-NEXT: nest.load %h[0, 0]
      %d = nest.load %h[%b, 16 * %k + %u]
      // CHECK-NEXT: nest.store %{{.*}}, %y[%b, 16*%k + %u]
      nest.store %d, %y[%b, 16 * %k + %u]
    }
  }
}

// A sum that iterations hand on lives outside of their loop; a buffer in global memory stays.
// CHECK-LABEL: nest.func @kept
nest.func @kept(%x: !nest.buffer<[64, 32], f32>, out %y: !nest.buffer<[32], f32>) {
  // CHECK-NEXT: %s = nest.alloc @s in @t : !nest.buffer<[1], f32, local>
  // CHECK-NEXT: %g = nest.alloc @g : !nest.buffer<[32], f32>
  %s = nest.alloc @s : !nest.buffer<[32], f32, local>
  %g = nest.alloc @g : !nest.buffer<[32], f32>
  nest.for block.x %b in 1, thread.x %t in 32 {
    %zero = arith.constant 0.0 : f32
    // CHECK: nest.store %{{.*}}, %s[0]
    nest.store %zero, %s[%t]
    nest.for %k in 64 {
      %a = nest.load %x[%k, %t]
      %b0 = nest.load %s[%t]
      %c = arith.addf %b0, %a : f32
      nest.store %c, %s[%t]
    }
    %d = nest.load %s[%t]
    // CHECK: nest.store %{{.*}}, %g[%t]
    nest.store %d, %g[%t]
    %e = nest.load %g[%t]
    nest.store %e, %y[%t]
  }
}
