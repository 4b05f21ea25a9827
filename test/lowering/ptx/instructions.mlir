// RUN: tilewright-opt %s -t 'ptx{lines=false}' | filecheck %s

// Each kernel shows the instruction of one op, and that names and constants cost nothing.

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    // CHECK: .extern .shared .align 128 .b8 tile[];
    "llvm.mlir.global"() <{addr_space = 3 : i32, alignment = 128 : i64, global_type = !llvm.array<0 x i8>, linkage = #llvm.linkage<external>, sym_name = "tile", visibility_ = 0 : i64}> ({}) : () -> ()

    // CHECK-LABEL: .visible .entry mad(
    // CHECK-NEXT:    .param .u64 .ptr .global .align 1 mad_param_0,
    // CHECK-NEXT:    .param .b32 mad_param_1,
    // CHECK-NEXT:    .param .b32 mad_param_2
    // CHECK-NEXT:  )
    // CHECK-NEXT:  .reqntid 64, 1, 1
    // CHECK:       mad.lo.s32 [[R:%r\d+]], %r0, %r1, %r1;
    // CHECK-NEXT:  st.global.b32 [%rd0], [[R]];
    // CHECK-NEXT:  ret;
    "gpu.func"() <{function_type = (!llvm.ptr<1>, i32, i32) -> (), kernel}> ({
    ^bb0(%p: !llvm.ptr<1>, %a: i32, %b: i32):
      %product = arith.muli %a, %b : i32
      %sum = arith.addi %product, %b : i32
      "llvm.store"(%sum, %p) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
      "gpu.return"() : () -> ()
    }) {sym_name = "mad", known_block_size = array<i32: 64, 1, 1>} : () -> ()

    // The index is at most 63, so it is divided as an unsigned number.
    // CHECK-LABEL: .visible .entry divide_index(
    // CHECK:       mov.u32 %r0, %tid.x;
    // CHECK-NEXT:  shr.u32 [[Q:%r\d+]], %r0, 3;
    // CHECK-NEXT:  and.b32 [[M:%r\d+]], %r0, 7;
    // CHECK-NEXT:  st.global.v2.b32 [%rd0], {[[Q]], [[M]]};
    "gpu.func"() <{function_type = (!llvm.ptr<1>) -> (), kernel}> ({
    ^bb0(%p: !llvm.ptr<1>):
      %t = "gpu.thread_id"() <{dimension = #gpu<dim x>}> : () -> index
      %eight = arith.constant 8 : index
      %q = arith.divsi %t, %eight : index
      %m = arith.remsi %t, %eight : index
      %zero = arith.constant dense<0> : vector<2xi32>
      %q32 = arith.index_cast %q : index to i32
      %m32 = arith.index_cast %m : index to i32
      %x = vector.insert %q32, %zero[0] : i32 into vector<2xi32>
      %y = vector.insert %m32, %x[1] : i32 into vector<2xi32>
      "llvm.store"(%y, %p) <{ordering = 0 : i64}> : (vector<2xi32>, !llvm.ptr<1>) -> ()
      "gpu.return"() : () -> ()
    }) {sym_name = "divide_index", known_block_size = array<i32: 64, 1, 1>} : () -> ()

    // Constants become offsets; two addresses share one register.
    // CHECK-LABEL: .visible .entry offsets(
    // CHECK:       mov.u32 [[TILE:%r\d+]], tile;
    // CHECK:       add.s32 [[BASE:%r\d+]], [[TILE]], %r0;
    // CHECK-NEXT:  ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{.*}}, {{\[}}[[BASE]]+32];
    // CHECK-NEXT:  ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {{.*}}, {{\[}}[[BASE]]+1056];
    "gpu.func"() <{function_type = (i32) -> (), kernel}> ({
    ^bb0(%a: i32):
      %tile = "llvm.mlir.addressof"() <{global_name = @tile}> : () -> !llvm.ptr<3>
      %k = arith.constant 32 : i32
      %i = arith.addi %a, %k : i32
      %at = "llvm.getelementptr"(%tile, %i) <{elem_type = i8, noWrapFlags = 0 : i32, rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
      %far = "llvm.getelementptr"(%at) <{elem_type = i8, noWrapFlags = 0 : i32, rawConstantIndices = array<i32: 1024>}> : (!llvm.ptr<3>) -> !llvm.ptr<3>
      %two = nvvm.ldmatrix %at {num = 2 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32)>
      %one = nvvm.ldmatrix %far {num = 1 : i32, layout = #nvvm.mma_layout<col>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> i32
      "gpu.return"() : () -> ()
    }) {sym_name = "offsets"} : () -> ()

    // A loop prints its body once and moves nothing at its end.
    // CHECK-LABEL: .visible .entry sum(
    // CHECK:       mov.b32 [[SUM:%f\d+]], 0f00000000;
    // CHECK-NEXT:  mov.b32 [[I:%r\d+]], 0;
    // CHECK:       $L1:
    // CHECK-NEXT:  cvt.rn.f32.s32 [[X:%f\d+]], [[I]];
    // CHECK-NEXT:  add.rn.f32 [[SUM]], [[SUM]], [[X]];
    // CHECK-NEXT:  add.s32 [[I]], [[I]], 1;
    // CHECK-NEXT:  setp.lt.s32 [[AGAIN:%p\d+]], [[I]], %r0;
    // CHECK-NEXT:  @[[AGAIN]] bra $L1;
    // CHECK:       st.global.b32 [%rd0], [[SUM]];
    "gpu.func"() <{function_type = (!llvm.ptr<1>, i32) -> (), kernel}> ({
    ^bb0(%p: !llvm.ptr<1>, %n: i32):
      %zero = arith.constant 0 : i32
      %one = arith.constant 1 : i32
      %start = arith.constant 0.0 : f32
      %sum = scf.for %i = %zero to %n step %one iter_args(%s = %start) -> (f32) : i32 {
        %x = arith.sitofp %i : i32 to f32
        %next = arith.addf %s, %x : f32
        scf.yield %next : f32
      }
      "llvm.store"(%sum, %p) <{ordering = 0 : i64}> : (f32, !llvm.ptr<1>) -> ()
      "gpu.return"() : () -> ()
    }) {sym_name = "sum"} : () -> ()

    // Neighbouring elements are narrowed in pairs, the first one in the lower half.
    // CHECK-LABEL: .visible .entry narrow(
    // CHECK:       ld.global.v4.b32 {[[A:%f\d+]], [[B:%f\d+]], [[C:%f\d+]], [[D:%f\d+]]}, [%rd0];
    // CHECK-NEXT:  cvt.rn.bf16x2.f32 [[X:%r\d+]], [[B]], [[A]];
    // CHECK-NEXT:  cvt.rn.bf16x2.f32 [[Y:%r\d+]], [[D]], [[C]];
    // CHECK-NEXT:  st.global.v2.b32 [%rd0], {[[X]], [[Y]]};
    "gpu.func"() <{function_type = (!llvm.ptr<1>) -> (), kernel}> ({
    ^bb0(%p: !llvm.ptr<1>):
      %v = "llvm.load"(%p) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> vector<4xf32>
      %h = arith.truncf %v : vector<4xf32> to vector<4xbf16>
      "llvm.store"(%h, %p) <{ordering = 0 : i64}> : (vector<4xbf16>, !llvm.ptr<1>) -> ()
      "gpu.return"() : () -> ()
    }) {sym_name = "narrow"} : () -> ()
  }) : () -> ()
}
