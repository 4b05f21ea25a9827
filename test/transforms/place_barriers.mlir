// RUN: tilewright-opt %s -p place-barriers | filecheck %s

// One before the others read what a thread has written, one before it is overwritten.
// CHECK-LABEL: nest.func @exchanged
nest.func @exchanged(%x: !nest.buffer<[4, 32], f32>, out %y: !nest.buffer<[4, 32], f32>) {
  %s = nest.alloc @s : !nest.buffer<[32], f32, shared>
  // CHECK: nest.for %k in 4 {
  // CHECK-NEXT: nest.call @cta.barrier()
  // CHECK-NEXT: nest.for thread.x %t in 32 {
  // CHECK: nest.store %{{.*}}, %s[%t]
  // CHECK-NEXT: }
  // CHECK-NEXT: nest.call @cta.barrier()
  // CHECK-NEXT: nest.for thread.x %u in 32 {
  nest.for %k in 4 {
    nest.for thread.x %t in 32 {
      %a = nest.load %x[%k, %t]
      nest.store %a, %s[%t]
    }
    nest.for thread.x %u in 32 {
      %b = nest.load %s[31 - %u]
      nest.store %b, %y[%k, %u]
    }
  }
}

// None where each thread reads what it has written itself.
// CHECK-LABEL: nest.func @alone
// CHECK-NOT: cta.barrier
nest.func @alone(%x: !nest.buffer<[4, 32], f32>, out %y: !nest.buffer<[4, 32], f32>) {
  %s = nest.alloc @s : !nest.buffer<[32], f32, shared>
  nest.for %k in 4 {
    nest.for thread.x %t in 32 {
      %a = nest.load %x[%k, %t]
      nest.store %a, %s[%t]
    }
    nest.for thread.x %u in 32 {
      %b = nest.load %s[%u]
      nest.store %b, %y[%k, %u]
    }
  }
}

// With two versions of the buffer that take turns one for each iteration does.
// CHECK-LABEL: nest.func @taking_turns
nest.func @taking_turns(%x: !nest.buffer<[4, 32], f32>, out %y: !nest.buffer<[4, 32], f32>) {
  %s = nest.alloc @s : !nest.buffer<[2, 32], f32, shared>
  // CHECK: nest.for %k in 4 {
  // CHECK-NEXT: nest.for thread.x %t in 32 {
  // CHECK: nest.call @cta.barrier()
  // CHECK-NEXT: nest.for thread.x %u in 32 {
  // CHECK-NOT: cta.barrier
  nest.for %k in 4 {
    nest.for thread.x %t in 32 {
      %a = nest.load %x[%k, %t]
      nest.store %a, %s[%k mod 2, %t]
    }
    nest.for thread.x %u in 32 {
      %b = nest.load %s[%k mod 2, 31 - %u]
      nest.store %b, %y[%k, %u]
    }
  }
}
