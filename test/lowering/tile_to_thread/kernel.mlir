// RUN: tilewright-opt %s -p convert-tile-to-thread | filecheck %s

// A module with a kernel is a container of GPU modules.
// CHECK: builtin.module attributes {gpu.container_module}

// A kernel becomes a GPU module with a function of the same name, whose contract is on it:
// threads, bytes of shared memory, grid, and the names of its parameters.
// CHECK: "gpu.module"() <{sym_name = "contract"}>
// CHECK: llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
// CHECK: "gpu.func"() <{function_type = (!llvm.ptr<1>, i32) -> (), kernel}>
// CHECK: }) {sym_name = "contract", gpu.known_block_size = array<i32: 96, 1, 1>
// CHECK-SAME: tilewright.shared_bytes = 0 : i64
// CHECK-SAME: tilewright.grid = ["n", "8", "(m + 63) floordiv 64"]
// CHECK-SAME: tilewright.param_names = ["x", "length"]
tile.kernel @contract(%x: !llvm.ptr<1>, %length: i32) warps 3 grid [n, 8, (m + 63) floordiv 64] {
  tile.return
}

// Rings begin at multiples of 1024 bytes: the first has 2 * 16 * 96 bytes, padded 2 * 16 * 112.
// CHECK: "gpu.module"() <{sym_name = "rings"}>
// CHECK: %[[SHARED:.*]] = llvm.mlir.addressof @smem : !llvm.ptr<3>
// CHECK: %padded = llvm.getelementptr %[[SHARED]][0]
// CHECK: %swizzled = llvm.getelementptr %[[SHARED]][4096]
// CHECK: tilewright.shared_bytes = 8192 : i64
tile.kernel @rings() warps 1 grid [1, 1, 1] {
  %padded = tile.alloc : !tile.ring<2 x [16, 48], f16, padded16>
  %swizzled = tile.alloc : !tile.ring<2 x [16, 64], f16, swizzle128>
  tile.return
}

// What a CTA does with scalars, each of its threads does.
// CHECK: "gpu.module"() <{sym_name = "scalars"}>
// CHECK: %[[INDEX:.*]] = "gpu.block_id"() <{dimension = #gpu<dim y>}>
// CHECK: %[[HEAD:.*]] = arith.index_cast %[[INDEX]] : index to i32
// CHECK: %[[PLACE:.*]] = llvm.getelementptr %x[%[[HEAD]]] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
// CHECK: %[[VALUE:.*]] = llvm.load %[[PLACE]] : !llvm.ptr<1> -> f32
// CHECK: math.exp2 %[[VALUE]] : f32
tile.kernel @scalars(%x: !llvm.ptr<1>) warps 1 grid [1, 1, 1] {
  %head = tile.block_index 1
  %value = tile.load %x[%head] : f32 from !llvm.ptr<1>
  %power = math.exp2 %value : f32
  tile.return
}

// A loop carries vectors for fragments; a branch stays a branch.
// CHECK: "gpu.module"() <{sym_name = "control"}>
// CHECK: scf.for %{{.*}} = %{{.*}} to %n step %{{.*}} iter_args(%[[OLD:.*]] = %{{.*}}) -> (vector<2xf32>) : i32 {
// CHECK-NEXT: %[[NEW:.*]] = arith.addf %[[OLD]], %[[OLD]] : vector<2xf32>
// CHECK-NEXT: scf.yield %[[NEW]] : vector<2xf32>
// CHECK: scf.if %[[CONDITION:.*]] {
// CHECK-NEXT: "gpu.barrier"
tile.kernel @control(%n: i32, %f: f32, %condition: i1) warps 1 grid [1, 1, 1] {
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %rows = tile.fill %f : f32 -> !tile.frag<[16], f32, row>
  %sums = scf.for %trip = %zero to %n step %one iter_args(%old = %rows)
    -> (!tile.frag<[16], f32, row>) : i32 {
    %new = tile.map(%old : !tile.frag<[16], f32, row>) {
    ^bb0(%x: f32, %row: i32):
      %twice = arith.addf %x, %x : f32
      tile.yield %twice : f32
    } -> !tile.frag<[16], f32, row>
    scf.yield %new : !tile.frag<[16], f32, row>
  }
  scf.if %condition {
    tile.barrier
    scf.yield
  }
  tile.return
}

// A kernel in an inner module makes that one a container.
// CHECK: builtin.module @inner attributes {gpu.container_module} {
// CHECK-NEXT: "gpu.module"() <{sym_name = "nested"}>
builtin.module @inner {
  tile.kernel @nested() warps 1 grid [1, 1, 1] {
    tile.return
  }
}

// A loop that asks at its head whether it goes on does so for each thread.
// CHECK: "gpu.module"() <{sym_name = "loop"}>
// CHECK: scf.while (%[[BEFORE:.*]] = %{{.*}}) : (i32) -> i32 {
// CHECK: %[[END:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// CHECK-NEXT: %[[GOES_ON:.*]] = arith.cmpi slt, %[[BEFORE]], %[[END]] : i32
// CHECK-NEXT: scf.condition(%[[GOES_ON]]) %[[BEFORE]] : i32
// CHECK: ^bb0(%[[ITEM:.*]]: i32):
// CHECK-NEXT: %[[NEXT:.*]] = arith.addi %[[ITEM]], %{{.*}} : i32
// CHECK-NEXT: scf.yield %[[NEXT]] : i32
tile.kernel @loop(%x: !llvm.ptr<1>, %first: i32) warps 1 grid [1, 1, 1] {
  %zero = arith.constant 0 : i32
  %one = arith.constant 1 : i32
  %last = scf.while (%item = %first) : (i32) -> i32 {
    %end = tile.load %x[%zero] : i32 from !llvm.ptr<1>
    %goes_on = arith.cmpi slt, %item, %end : i32
    scf.condition(%goes_on) %item : i32
  } do {
  ^bb0(%item: i32):
    %next = arith.addi %item, %one : i32
    scf.yield %next : i32
  }
  tile.return
}
