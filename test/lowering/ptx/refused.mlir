// RUN: VERIFY_DIAGNOSTICS -t ptx

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    "gpu.func"() <{function_type = (f32) -> (), kernel}> ({
    ^bb0(%x: f32):
      // expected-error @+1 {{'math.exp' op on f32 has no PTX instruction without fastmath<afn>; expand-math gives it more}}
      %e = math.exp %x : f32
      "gpu.return"() : () -> ()
    }) {sym_name = "k"} : () -> ()
  }) : () -> ()
}

// -----

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    // expected-error @+1 {{'gpu.func' op expects the attribute kernel: functions are inlined before PTX}}
    "gpu.func"() <{function_type = () -> ()}> ({
    ^bb0:
      "gpu.return"() : () -> ()
    }) {sym_name = "k"} : () -> ()
  }) : () -> ()
}

// -----

// expected-error @+1 {{'func.func' op expects only gpu.module around kernels}}
func.func @host() {
  func.return
}

// -----

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    // expected-error @+1 {{'llvm.mlir.global' op expects shared memory (space 3), got 1}}
    "llvm.mlir.global"() <{addr_space = 1 : i32, global_type = !llvm.array<4 x i8>, linkage = #llvm.linkage<external>, sym_name = "table", visibility_ = 0 : i64}> ({}) : () -> ()
  }) : () -> ()
}

// -----

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    // expected-error @+1 {{'gpu.func' op expects three positive block extents, got (0, 1, 1)}}
    "gpu.func"() <{function_type = () -> (), kernel}> ({
    ^bb0:
      "gpu.return"() : () -> ()
    }) {sym_name = "k", known_block_size = array<i32: 0, 1, 1>} : () -> ()
  }) : () -> ()
}

// -----

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    // expected-error @+1 {{'gpu.func' op expects scalar parameters of 8 bits or more, got vector<2xf32>}}
    "gpu.func"() <{function_type = (vector<2xf32>) -> (), kernel}> ({
    ^bb0(%x: vector<2xf32>):
      "gpu.return"() : () -> ()
    }) {sym_name = "k"} : () -> ()
  }) : () -> ()
}

// -----

builtin.module attributes {gpu.container_module} {
  "gpu.module"() <{sym_name = "kernels"}> ({
    "gpu.func"() <{function_type = (f32, !llvm.ptr<1>) -> (), kernel}> ({
    ^bb0(%x: f32, %p: !llvm.ptr<1>):
      // expected-error @+1 {{'nvvm.convert.f32x2.to.f8x2' op needs sm_89, got sm_80}}
      %pair = nvvm.convert.f32x2.to.f8x2 %x, %x {rnd = #nvvm.fp_rnd_mode<rn>, sat = #nvvm.sat_mode<satfinite>, relu = false} : vector<2xi8> (f8E4M3FN)
      "gpu.return"() : () -> ()
    }) {sym_name = "k"} : () -> ()
  }) : () -> ()
}
