// RUN: not tilewright-opt %s -p compact-buffers 2>&1 | filecheck %s

// What one thread writes in its registers another cannot read.
// CHECK: error: expected each thread to use elements of its own of the local buffer 'h'
// CHECK-SAME: make it a shared buffer
nest.func @passed(%x: !nest.buffer<[32], f32>, out %y: !nest.buffer<[32], f32>) {
  %h = nest.alloc @h : !nest.buffer<[32], f32, local>
  nest.for block.x %b in 1 {
    nest.for thread.x %t in 32 {
      %a = nest.load %x[%t]
      nest.store %a, %h[%t]
    }
    nest.for thread.x %u in 32 {
      %c = nest.load %h[31 - %u]
      nest.store %c, %y[%u]
    }
  }
}
