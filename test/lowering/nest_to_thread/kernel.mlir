// RUN: tilewright-opt %s -p convert-nest-to-thread | filecheck %s

// A module with a kernel is a container of GPU modules.
// CHECK: builtin.module attributes {gpu.container_module}

// Buffers, numbers and symbols are parameters; loops bound to the grid and to threads are the index of
// a CTA and that of a thread. Four neighbours are one access where that is proved to be aligned.
// CHECK: "gpu.module"() <{sym_name = "scale"}>
// CHECK: "gpu.func"() <{function_type = (!llvm.ptr<1>, !llvm.ptr<1>, f32, i32) -> (), kernel}>
// CHECK: %[[BLOCK:.*]] = "gpu.block_id"() <{dimension = #gpu<dim x>}>
// CHECK: %b = arith.index_cast %[[BLOCK]] : index to i32
// CHECK: %[[THREAD:.*]] = "gpu.thread_id"() <{dimension = #gpu<dim x>}>
// CHECK: %[[T:.*]] = arith.index_cast %[[THREAD]] : index to i32
// CHECK: %[[INSIDE:.*]] = arith.cmpi slt, %{{.*}}, %n : i32
// CHECK: %[[X:.*]] = llvm.getelementptr %x[%[[AT:.*]]] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
// CHECK: %[[Y:.*]] = llvm.getelementptr %y[%[[AT]]] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
// CHECK: scf.if %[[INSIDE]] {
// CHECK: llvm.load %[[X]] {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK: arith.mulf %{{.*}}, %by fastmath<contract> : f32
// CHECK: llvm.store %{{.*}}, %[[Y]] {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>
// CHECK: }) {sym_name = "scale", gpu.known_block_size = array<i32: 32, 1, 1>
// CHECK-SAME: tilewright.shared_bytes = 0 : i64
// CHECK-SAME: tilewright.grid = ["(n + 127) floordiv 128", "1", "1"]
// CHECK-SAME: tilewright.param_names = ["x", "y", "by", "n"]
nest.func @scale(%x: !nest.buffer<[n], f32>, %by: f32, out %y: !nest.buffer<[n], f32>) symbols (n in [4, 4096], n mod 4 == 0) {
  nest.for block.x %b in (n + 127) floordiv 128, thread.x %t in 32 {
    %at = nest.index 128 * %b + 4 * %t
    %end = nest.index n
    %inside = arith.cmpi slt, %at, %end : index
    scf.if %inside {
      nest.for vectorized %v in 4 {
        %a = nest.load %x[128 * %b + 4 * %t + %v]
        %c = arith.mulf %a, %by : f32
        nest.store %c, %y[128 * %b + 4 * %t + %v]
      }
    }
  }
}

// A local buffer is a vector that loops hand on, as they do a pointer that a stride moves.
// CHECK: "gpu.module"() <{sym_name = "sum"}>
// CHECK: %[[START:.*]] = vector.insert %{{.*}}, %{{.*}} [0] : f32 into vector<1xf32>
// CHECK: %[[FIRST:.*]] = llvm.getelementptr %x[
// CHECK: %[[SUM:.*]], %{{.*}} = scf.for %k = {{.*}} iter_args(%[[S:.*]] = %[[START]], %[[PLACE:.*]] = %[[FIRST]])
// CHECK: %[[BEFORE:.*]] = vector.extract %[[S]][0]
// CHECK: %[[TERM:.*]] = llvm.load %[[PLACE]] : !llvm.ptr<1> -> f32
// CHECK: %[[AFTER:.*]] = arith.addf %[[BEFORE]], %[[TERM]] fastmath<contract> : f32
// CHECK: %[[HELD:.*]] = vector.insert %[[AFTER]], %[[S]] [0]
// CHECK: %[[NEXT:.*]] = llvm.getelementptr %[[PLACE]][%ld] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
// CHECK: scf.yield %[[HELD]], %[[NEXT]]
// CHECK: vector.extract %[[SUM]][0]
nest.func @sum(%x: !nest.buffer<[64, 32], f32, strides [ld, 1]>, out %y: !nest.buffer<[32], f32>) symbols (ld in [32, 4096]) {
  %s = nest.alloc @s in @t : !nest.buffer<[1], f32, local>
  nest.for block.x %b in 1, thread.x %t in 32 {
    %zero = arith.constant 0.0 : f32
    nest.store %zero, %s[0]
    nest.for %k in 64 {
      %a = nest.load %x[%k, %t]
      %c = nest.load %s[0]
      %d = arith.addf %c, %a : f32
      nest.store %d, %s[0]
    }
    %e = nest.load %s[0]
    nest.store %e, %y[%t]
  }
}

// Shared buffers are places in one allocation, 16 bytes aligned; calls are instructions.
// CHECK: "gpu.module"() <{sym_name = "shared"}>
// CHECK: llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
// CHECK: %[[ALL:.*]] = llvm.mlir.addressof @smem : !llvm.ptr<3>
// CHECK: %r = llvm.getelementptr %[[ALL]][0]
// CHECK: %s = llvm.getelementptr %[[ALL]][16]
// CHECK: %[[TO:.*]] = llvm.getelementptr %s[%[[AT:.*]]] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, f16
// CHECK: %[[FROM:.*]] = llvm.getelementptr %x[%[[AT]]] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f16
// CHECK: nvvm.cp.async.shared.global %[[TO]], %[[FROM]], 16, cache = cg
// CHECK: nvvm.cp.async.commit.group
// CHECK: nvvm.cp.async.wait.group 0
// CHECK: "gpu.barrier"() : () -> ()
// CHECK: llvm.load %{{.*}} : !llvm.ptr<3> -> f16
// CHECK: tilewright.shared_bytes = 144 : i64
nest.func @shared(%x: !nest.buffer<[64], f16>, out %y: !nest.buffer<[64], f16>) {
  %r = nest.alloc @r in @b : !nest.buffer<[3], f16, shared>
  %s = nest.alloc @s in @b : !nest.buffer<[64], f16, shared>
  nest.for block.x %b in 1 {
    nest.for thread.x %t in 8 {
      nest.call @cp.async.16.f16(write %s[8 * %t extent 8], read %x[8 * %t extent 8])
      %one = arith.constant 1.0 : f16
      nest.store %one, %r[0]
    }
    nest.call @cp.async.commit()
    nest.call @cp.async.wait.0()
    nest.call @cta.barrier()
    nest.for thread.x %u in 8 {
      %a = nest.load %s[63 - 8 * %u]
      nest.store %a, %y[8 * %u]
    }
  }
}

// 8-bit floats are their bits, which arithmetic on sm_80 converts.
// CHECK: "gpu.module"() <{sym_name = "narrow"}>
// CHECK: %[[CODE:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i8
// CHECK: arith.extui %[[CODE]] : i8 to i32
// CHECK: arith.mulf %{{.*}} : f32
// CHECK: arith.trunci %{{.*}} : i32 to i8
// CHECK: llvm.store %{{.*}}, %{{.*}} : i8, !llvm.ptr<1>
nest.func @narrow(%x: !nest.buffer<[32], f8E4M3FN>, out %y: !nest.buffer<[32], f8E4M3FN>) {
  nest.for block.x %b in 1, thread.x %t in 32 {
    %a = nest.load %x[%t]
    %c = arith.mulf %a, %a : f8E4M3FN
    nest.store %c, %y[%t]
  }
}
