// RUN: tilewright-opt %s -p expand-pipelines | filecheck %s

// Two iterations ahead: a prologue of two copies, three versions of the buffer, and an epilogue. A
// stage of plain copies needs no group; who reads waits for all threads.
// CHECK-LABEL: nest.func @copied
nest.func @copied(%x: !nest.buffer<[8, 32], f32>, out %y: !nest.buffer<[8, 32], f32>) {
  // CHECK-NEXT: %s = nest.alloc @s in @b : !nest.buffer<[3, 32], f32, shared>
  %s = nest.alloc @s in @k : !nest.buffer<[32], f32, shared>
  nest.for block.x %b in 1 {
    // CHECK: nest.load %x[0, %{{.*}}]
    // CHECK-NEXT: nest.store %{{.*}}, %s[0, %{{.*}}]
    // CHECK: nest.load %x[1, %{{.*}}]
    // CHECK-NEXT: nest.store %{{.*}}, %s[1, %{{.*}}]
    // CHECK: nest.for %k in 6 {
    // CHECK: nest.load %x[%k + 2, %t]
    // CHECK-NEXT: nest.store %{{.*}}, %s[(%k + 2) mod 3, %t]
    // CHECK: nest.load %s[%k mod 3, 31 - %u]
    // CHECK-NEXT: nest.store %{{.*}}, %y[%k, %u]
    // CHECK: nest.load %s[0, 31 - %{{.*}}]
    // CHECK-NEXT: nest.store %{{.*}}, %y[6, %{{.*}}]
    // CHECK: nest.load %s[1, 31 - %{{.*}}]
    // CHECK-NEXT: nest.store %{{.*}}, %y[7, %{{.*}}]
    nest.for %k in 8 attributes {software_pipeline_stage = array<i64: 0, 2>, software_pipeline_order = array<i64: 0, 1>} {
      nest.for thread.x %t in 32 {
        %a = nest.load %x[%k, %t]
        nest.store %a, %s[%t]
      }
      nest.for thread.x %u in 32 {
        %c = nest.load %s[31 - %u]
        nest.store %c, %y[%k, %u]
      }
    }
  }
}

// Copies in the background: a group for each iteration, a wait and a barrier before its use.
// CHECK-LABEL: nest.func @asynchronous
nest.func @asynchronous(%x: !nest.buffer<[n, 128], f32>, out %y: !nest.buffer<[n, 128], f32>) symbols (n in [1, 4096]) {
  %s = nest.alloc @s in @k : !nest.buffer<[128], f32, shared>
  nest.for block.x %b in 1 {
    // CHECK: nest.call @cp.async.16.f32(write %s[0, {{.*}} extent 4], read %x[0, {{.*}} extent 4])
    // CHECK-NEXT: }
    // CHECK-NEXT: nest.call @cp.async.commit()
    // CHECK-NEXT: nest.for %k in n - 1 {
    // CHECK-NEXT: nest.call @cp.async.wait.0()
    // CHECK-NEXT: nest.call @cta.barrier()
    // CHECK: nest.call @cp.async.16.f32(write %s[(%k + 1) mod 2, 4*%t extent 4], read %x[%k + 1, 4*%t extent 4])
    // CHECK: nest.load %s[%k mod 2, 31 - %u]
    // CHECK: nest.call @cp.async.commit()
    // CHECK-NEXT: }
    // CHECK-NEXT: nest.call @cp.async.wait.0()
    // CHECK-NEXT: nest.call @cta.barrier()
    // CHECK: nest.load %s[(n + 1) mod 2, 31 - %{{.*}}]
    // CHECK-NEXT: nest.store %{{.*}}, %y[n - 1, %{{.*}}]
    nest.for %k in n attributes {software_pipeline_stage = array<i64: 0, 1>, software_pipeline_order = array<i64: 0, 1>, software_pipeline_async = array<i64: 0>} {
      nest.for thread.x %t in 32 {
        nest.call @cp.async.16.f32(write %s[4 * %t extent 4], read %x[%k extent 1, 4 * %t extent 4])
      }
      nest.for thread.x %u in 32 {
        %c = nest.load %s[31 - %u]
        nest.store %c, %y[%k, %u]
      }
    }
  }
}
