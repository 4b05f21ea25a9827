// RUN: VERIFY_DIAGNOSTICS

func.func @ldmatrix_of_global_memory(%address: !llvm.ptr<1>) {
  // expected-error @+1 {{expects a pointer into memory space 3, got !llvm.ptr<1>}}
  %0 = nvvm.ldmatrix %address {num = 1 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<1>) -> i32
  func.return
}

// -----

func.func @three_matrices(%address: !llvm.ptr<3>) {
  // expected-error @+1 {{expects 1, 2 or 4 matrices, got 3}}
  %0 = nvvm.ldmatrix %address {num = 3 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> i32
  func.return
}

// -----

func.func @ldmatrix_of_bytes(%address: !llvm.ptr<3>) {
  // expected-error @+1 {{expects matrices of 8x8 b16, got 8x8 b8}}
  %0 = nvvm.ldmatrix %address {num = 1 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b8>} : (!llvm.ptr<3>) -> i32
  func.return
}

// -----

func.func @two_matrices_in_one_register(%address: !llvm.ptr<3>) {
  // expected-error @+1 {{expects a result of type !llvm.struct<(i32, i32)>, got i32}}
  %0 = nvvm.ldmatrix %address {num = 2 : i32, layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> i32
  func.return
}

// -----

func.func @unknown_layout(%address: !llvm.ptr<3>) {
  // expected-error @+1 {{expected one of row, col}}
  %0 = nvvm.ldmatrix %address {num = 1 : i32, layout = #nvvm.mma_layout<diagonal>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> i32
  func.return
}

// -----

func.func @mma_without_type(%a: i32, %c: f32) {
  // expected-error @+1 {{expected multiplicandAPtxType, since i32 may hold several types}}
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  func.return
}

// -----

func.func @mma_of_unknown_shape(%a: i32, %c: f32) {
  // expected-error @+1 {{expects a shape that bf16 has (m16n8k8, m16n8k16), got m16n16k16}}
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 16, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  func.return
}

// -----

func.func @mma_with_too_few_registers(%a: i32, %c: f32) {
  // expected-error @+1 {{expects 4 i32 for A, got i32, i32}}
  %d = nvvm.mma.sync A[%a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  func.return
}

// -----

func.func @mma_of_columns(%a: i32, %c: f32) {
  // expected-error @+1 {{expects layouts row and col, got col and col}}
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<col>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  func.return
}

// -----

func.func @bf16_accumulators(%a: i32) {
  // expected-error @+1 {{expects 4 f32 for C, got i32, i32, i32, i32}}
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%a, %a, %a, %a] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
  func.return
}

// -----

func.func @copy_of_two_bytes(%to: !llvm.ptr<3>, %from: !llvm.ptr<1>) {
  // expected-error @+1 {{expects a size of 4, 8 or 16 bytes, got 2}}
  nvvm.cp.async.shared.global %to, %from, 2, cache = ca : !llvm.ptr<3>, !llvm.ptr<1>
  func.return
}

// -----

func.func @small_copy_past_l1(%to: !llvm.ptr<3>, %from: !llvm.ptr<1>) {
  // expected-error @+1 {{expects 16 bytes with cache modifier cg, got 8}}
  nvvm.cp.async.shared.global %to, %from, 8, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
  func.return
}

// -----

func.func @copy_the_other_way(%to: !llvm.ptr<1>, %from: !llvm.ptr<3>) {
  // expected-error @+1 {{expects dst in memory space 3, got !llvm.ptr<1>}}
  nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<1>, !llvm.ptr<3>
  func.return
}

// -----

func.func @shuffle_of_f64(%mask: i32, %value: f64) {
  // expected-error @+1 {{expects a value of type i32 or f32, got f64}}
  %0 = nvvm.shfl.sync bfly %mask, %value, %mask, %mask : f64 -> f64
  func.return
}

// -----

func.func @ballot_of_one_bit(%mask: i32, %flag: i1) {
  // expected-error @+1 {{of kind ballot expects a result of type i32, got i1}}
  %0 = nvvm.vote.sync ballot %mask, %flag -> i1
  func.return
}

// -----

func.func @sum_of_floats_over_a_warp(%mask: i32, %value: f32) {
  // expected-error @+1 {{of kind add expects i32, got f32 and result f32}}
  %0 = nvvm.redux.sync add %value, %mask : f32 -> f32
  func.return
}

// -----

func.func @conversion_to_16_bits(%a: f32) {
  // expected-error @+1 {{expects f8E4M3FN or f8E5M2, got f16}}
  %0 = nvvm.convert.f32x2.to.f8x2 %a, %a {rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>, relu = false} : vector<2xi8> (f16)
  func.return
}

// -----

func.func @conversion_that_truncates(%a: f32) {
  // expected-error @+1 {{expects rnd rn and sat satfinite, got rz and none}}
  %0 = nvvm.convert.f32x2.to.f8x2 %a, %a {rnd = #nvvm.fp_rnd_mode<rz>, sat = #nvvm.sat_mode<none>, relu = false} : vector<2xi8> (f8E5M2)
  func.return
}
