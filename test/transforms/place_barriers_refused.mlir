// RUN: not tilewright-opt %s -p place-barriers 2>&1 | filecheck %s

// Two of the warps alone come by where all of them would have to wait.
// CHECK: error: expected all threads of the CTA to come by where a barrier is needed for the buffer 's'
// CHECK-SAME: got a place below a condition or loop that differs between threads
nest.func @half(%x: !nest.buffer<[4, 64], f32>, out %y: !nest.buffer<[4, 64], f32>) {
  %s = nest.alloc @s : !nest.buffer<[4, 64], f32, shared>
  nest.for thread.y %w in 4 {
    %warp = nest.index %w
    %half = nest.index 2
    %is_lower = arith.cmpi slt, %warp, %half : index
    scf.if %is_lower {
      nest.for thread.x %t in 64 {
        %a = nest.load %x[%w, %t]
        nest.store %a, %s[%w, %t]
      }
      nest.for thread.x %u in 64 {
        %b = nest.load %s[%w, 63 - %u]
        nest.store %b, %y[%w, %u]
      }
    }
  }
}
