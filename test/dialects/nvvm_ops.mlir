// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// Loads of matrices give one i32 for each matrix.
// CHECK-LABEL: @ldmatrix
func.func @ldmatrix(%address: !llvm.ptr<3>) {
  // CHECK: nvvm.ldmatrix %address {num = 4 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
  %four = nvvm.ldmatrix %address {num = 4 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
  // CHECK: nvvm.ldmatrix {{.*}}#nvvm.mma_layout<col>{{.*}} -> i32
  %one = nvvm.ldmatrix %address {num = 1 : i32, layout = #nvvm.mma_layout<col>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> i32
  func.return
}

// CHECK-LABEL: @stmatrix
func.func @stmatrix(%address: !llvm.ptr<3>, %a: i32) {
  // CHECK: nvvm.stmatrix %address, %a, %a {{{.*}}} : !llvm.ptr<3>, i32, i32
  nvvm.stmatrix %address, %a, %a {layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : !llvm.ptr<3>, i32, i32
  func.return
}

// The multiplicands of bf16 are packed in i32.
// CHECK-LABEL: @mma_bf16
func.func @mma_bf16(%a: i32, %c: f32) {
  // CHECK: nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {{{.*}}shape = #nvvm.shape<m = 16, n = 8, k = 16>{{.*}}} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  func.return
}

// f16 follows from the operands' type where the text leaves it out; it may also accumulate.
// CHECK-LABEL: @mma_f16
func.func @mma_f16(%a: vector<2xf16>) {
  // CHECK: nvvm.mma.sync {{.*}}multiplicandAPtxType = #nvvm.mma_type<f16>{{.*}} : (vector<2xf16>, vector<2xf16>, vector<2xf16>) -> !llvm.struct<(vector<2xf16>, vector<2xf16>)>
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%a, %a] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (vector<2xf16>, vector<2xf16>, vector<2xf16>) -> !llvm.struct<(vector<2xf16>, vector<2xf16>)>
  func.return
}

// CHECK-LABEL: @mma_s8
func.func @mma_s8(%a: i32) {
  // CHECK: nvvm.mma.sync {{.*}}intOverflowBehavior = #nvvm.mma_int_overflow<satfinite>
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%a, %a, %a, %a] {intOverflowBehavior = #nvvm.mma_int_overflow<satfinite>, layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<s8>, multiplicandBPtxType = #nvvm.mma_type<s8>, shape = #nvvm.shape<m = 16, n = 8, k = 32>} : (i32, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
  func.return
}

// CHECK-LABEL: @cp_async
func.func @cp_async(%to: !llvm.ptr<3>, %from: !llvm.ptr<1>, %bytes: i32) {
  // CHECK: nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
  nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
  // CHECK: nvvm.cp.async.shared.global %to, %from, 8, cache = ca, %bytes : !llvm.ptr<3>, !llvm.ptr<1>, i32
  nvvm.cp.async.shared.global %to, %from, 8, cache = ca, %bytes : !llvm.ptr<3>, !llvm.ptr<1>, i32
  // CHECK: nvvm.cp.async.commit.group
  nvvm.cp.async.commit.group
  // CHECK: nvvm.cp.async.wait.group 2
  nvvm.cp.async.wait.group 2
  func.return
}

// CHECK-LABEL: @warp
func.func @warp(%mask: i32, %value: f32, %flag: i1) {
  // CHECK: nvvm.shfl.sync bfly %mask, %value, %mask, %mask : f32 -> f32
  %0 = nvvm.shfl.sync bfly %mask, %value, %mask, %mask : f32 -> f32
  // CHECK: nvvm.shfl.sync up %mask, %mask, %mask, %mask {return_value_and_is_valid} : i32 -> !llvm.struct<(i32, i1)>
  %1 = nvvm.shfl.sync up %mask, %mask, %mask, %mask {return_value_and_is_valid} : i32 -> !llvm.struct<(i32, i1)>
  // CHECK: nvvm.vote.sync ballot %mask, %flag -> i32
  %2 = nvvm.vote.sync ballot %mask, %flag -> i32
  // CHECK: nvvm.vote.sync any %mask, %flag -> i1
  %3 = nvvm.vote.sync any %mask, %flag -> i1
  // CHECK: nvvm.redux.sync umax %mask, %mask : i32 -> i32
  %4 = nvvm.redux.sync umax %mask, %mask : i32 -> i32
  // CHECK: nvvm.bar.warp.sync %mask : i32
  nvvm.bar.warp.sync %mask : i32
  func.return
}

// CHECK-LABEL: @barriers
func.func @barriers(%id: i32, %threads: i32) {
  // CHECK: nvvm.barrier
  nvvm.barrier
  // CHECK: nvvm.barrier id = %id number_of_threads = %threads
  nvvm.barrier id = %id number_of_threads = %threads
  // CHECK: nvvm.barrier number_of_threads = %threads
  nvvm.barrier number_of_threads = %threads
  // CHECK: nvvm.barrier id = %id {aligned = false}
  nvvm.barrier id = %id {aligned = false}
  // CHECK: nvvm.barrier.arrive id = %id number_of_threads = %threads
  nvvm.barrier.arrive id = %id number_of_threads = %threads
  // CHECK: nvvm.memory.barrier #nvvm.mem_scope<gpu>
  nvvm.memory.barrier #nvvm.mem_scope<gpu>
  func.return
}

// CHECK-LABEL: @scalars
func.func @scalars(%x: f32, %address: !llvm.ptr<1>) {
  // CHECK: nvvm.rcp.approx.ftz.f %x : f32
  %0 = nvvm.rcp.approx.ftz.f %x : f32
  // CHECK: nvvm.ex2 %x {ftz = true} : f32
  %1 = nvvm.ex2 %x {ftz = true} : f32
  // CHECK: nvvm.read.ptx.sreg.tid.x : i32
  %2 = nvvm.read.ptx.sreg.tid.x : i32
  // CHECK: nvvm.read.ptx.sreg.clock64 : i64
  %3 = nvvm.read.ptx.sreg.clock64 : i64
  // CHECK: nvvm.griddepcontrol wait
  nvvm.griddepcontrol wait
  // CHECK: nvvm.griddepcontrol launch_dependents
  nvvm.griddepcontrol launch_dependents
  // CHECK: nvvm.prefetch level = L2, %address : !llvm.ptr<1>
  nvvm.prefetch level = L2, %address : !llvm.ptr<1>
  func.return
}

// CHECK-LABEL: @conversions
func.func @conversions(%a: f32, %b: f32, %pair: vector<2xi8>) {
  // CHECK: nvvm.convert.f32x2.to.f8x2 %a, %b {rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>, relu = false} : vector<2xi8>(f8E4M3FN)
  %0 = nvvm.convert.f32x2.to.f8x2 %a, %b {rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>, relu = false} : vector<2xi8> (f8E4M3FN)
  // CHECK: nvvm.convert.f8x2.to.f16x2 %pair {relu = false} : vector<2xi8>(f8E5M2) -> vector<2xf16>
  %1 = nvvm.convert.f8x2.to.f16x2 %pair {relu = false} : vector<2xi8> (f8E5M2) -> vector<2xf16>
  func.return
}
