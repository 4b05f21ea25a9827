// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// A matmul reads like pseudo code; loops of which each is all that is in the one before share a line.
// CHECK-LABEL: nest.func @matmul(%A: !nest.buffer<[n, 512], f16>, %B: !nest.buffer<[512, 256], f16>, out %C: !nest.buffer<[n, 256], f32>) symbols (n in [1, 8192]) {
nest.func @matmul(%A: !nest.buffer<[n, 512], f16>, %B: !nest.buffer<[512, 256], f16>,
                  out %C: !nest.buffer<[n, 256], f32>) symbols (n in [1, 8192]) {
  // CHECK-NEXT: nest.for %i in n, %j in 256, %k in 512 {
  nest.for %i in n, %j in 256, %k in 512 {
    // CHECK-NEXT: nest.block @C [%vi = %i in n, %vj = %j in 256, reduce %vk = %k in 512] {
    nest.block @C [%vi = %i in n, %vj = %j in 256, reduce %vk = %k in 512] {
      // CHECK-NEXT: nest.init {
      // CHECK-NEXT: %zero = arith.constant 0.000000e+00 : f32
      // CHECK-NEXT: nest.store %zero, %C[%vi, %vj]
      // CHECK-NEXT: }
      nest.init {
        %zero = arith.constant 0.0 : f32
        nest.store %zero, %C[%vi, %vj]
      }
      // CHECK-NEXT: %a = nest.load %A[%vi, %vk]
      %a = nest.load %A[%vi, %vk]
      %b = nest.load %B[%vk, %vj]
      %c = nest.load %C[%vi, %vj]
      %x = arith.extf %a : f16 to f32
      %y = arith.extf %b : f16 to f32
      %xy = arith.mulf %x, %y : f32
      // CHECK: %sum = arith.addf %c, %xy : f32
      %sum = arith.addf %c, %xy : f32
      // CHECK-NEXT: nest.store %sum, %C[%vi, %vj]
      nest.store %sum, %C[%vi, %vj]
    }
  }
}

// Kinds, annotations, guards, regions of blocks, buffers of the function's own.
// CHECK-LABEL: nest.func @staged
nest.func @staged(%x: !nest.buffer<[n, 64], f32, strides [96, 1]>, out %y: !nest.buffer<[n, 64], f32>)
    symbols (n in [1, ...]) attributes {target = "sm_80"} {
  // CHECK-NEXT: %tile = nest.alloc @tile : !nest.buffer<[n, 64], f32, shared, swizzle 128, padding [0, 32, 4]>
  %tile = nest.alloc @tile : !nest.buffer<[n, 64], f32, shared, swizzle 128, padding [0, 32, 4]>
  // CHECK-NEXT: nest.for block.x %b in (n + 31) floordiv 32 {
  nest.for block.x %b in (n + 31) floordiv 32 {
    // CHECK-NEXT: nest.for thread.x %t in 32, unrolled %u in 64 attributes {stages = 3 : i64, names = ["a", "b"], factors = array<i64: 1, 2>} {
    nest.for thread.x %t in 32, unrolled %u in 64 attributes {stages = 3, names = ["a", "b"], factors = array<i64: 1, 2>} {
      // CHECK-NEXT: nest.block @stage [%si = 32*%b + %t in n, %sj = %u in 64] where (32*%b + %t < n) reads (%x[%si, %sj]) writes (%tile[%si, %sj]) attributes {vector = 4 : i64} {
      nest.block @stage [%si = 32 * %b + %t in n, %sj = %u in 64] where (32 * %b + %t < n)
          reads (%x[%si, %sj]) writes (%tile[%si, %sj]) attributes {vector = 4} {
        %value = nest.load %x[%si, %sj]
        nest.store %value, %tile[%si, %sj]
      }
    }
    nest.for thread.x %s in 32, %v in 64 {
      nest.block @out [%oi = 32 * %b + %s in n, %oj = %v in 64] where (32 * %b + %s < n) {
        %value = nest.load %tile[%oi, %oj]
        nest.store %value, %y[%oi, %oj]
      }
    }
  }
}

// Data-dependent indices, indices as numbers, scalar parameters, conditions, math.
// CHECK-LABEL: nest.func @gather(%rows: !nest.buffer<[m], i32>, %x: !nest.buffer<[n], f32>, %shift: index, %scale: f32, out %y: !nest.buffer<[m], f32>)
nest.func @gather(%rows: !nest.buffer<[m], i32>, %x: !nest.buffer<[n], f32>, %shift: index, %scale: f32,
                  out %y: !nest.buffer<[m], f32>) symbols (n in [1, ...], m in [1, ...]) {
  nest.for parallel %i in m {
    nest.block @y [%v = %i in m] {
      %row = nest.load %rows[%v]
      %at = arith.index_cast %row : i32 to index
      // CHECK: %a = nest.load %x[%at]
      %a = nest.load %x[%at]
      // CHECK-NEXT: %b = nest.load %x[value(%shift)]
      %b = nest.load %x[value(%shift)]
      // CHECK-NEXT: %c = nest.load %x[(n + %v) floordiv 2]
      %c = nest.load %x[(%v + n) floordiv 2]
      // CHECK-NEXT: %place = nest.index m + 2*%v
      %place = nest.index %v * 2 + m
      %more = arith.cmpi slt, %place, %at : index
      // CHECK: scf.if %more {
      scf.if %more {
        %ab = arith.maximumf %a, %b : f32
        %abc = arith.select %more, %ab, %c : f32
        %e = math.exp2 %abc : f32
        %scaled = arith.mulf %e, %scale : f32
        nest.store %scaled, %y[%v]
      }
    }
  }
}

// A call of a tensor intrinsic works on regions; an ordered axis is visited in order.
// CHECK-LABEL: nest.func @intrinsic
nest.func @intrinsic(%A: !nest.buffer<[64, 64], f16>, out %C: !nest.buffer<[64, 64], f32>) {
  nest.for %i in 4, %k in 4 {
    // CHECK: nest.block @mma [%vi = %i in 4, ordered %vk = %k in 4] reads (%A[16*%vi extent 16, 16*%vk extent 16], %C[16*%vi extent 16, 0 extent 8]) writes (%C[16*%vi extent 16, 0 extent 8]) {
    nest.block @mma [%vi = %i in 4, ordered %vk = %k in 4]
        reads (%A[%vi * 16 extent 16, %vk * 16 extent 16], %C[%vi * 16 extent 16, 0 extent 8])
        writes (%C[%vi * 16 extent 16, 0 extent 8]) {
      // CHECK-NEXT: nest.call @square(update %C[16*%vi extent 16, 0 extent 8], read %A[16*%vi extent 16, 16*%vk extent 16])
      nest.call @square(update %C[%vi * 16 extent 16, 0 extent 8],
                        read %A[%vi * 16 extent 16, %vk * 16 extent 16])
    }
  }
}

// A block inside a block names the axes of the one around.
// CHECK-LABEL: nest.func @blocks
nest.func @blocks(%x: !nest.buffer<[64], i8>, out %y: !nest.buffer<[64], i8>) {
  nest.for %i in 4 {
    nest.block @outer [%vo = %i in 4] {
      nest.for vectorized %j in 16 {
        // CHECK: nest.block @inner [%vi = %j in 16] {
        nest.block @inner [%vi = %j in 16] {
          // CHECK-NEXT: %a = nest.load %x[%vi + 16*%vo]
          %a = nest.load %x[%vo * 16 + %vi]
          nest.store %a, %y[%vo * 16 + %vi]
        }
      }
    }
  }
}

// Loops, axes, buffers and values may have like names; loops and axes keep theirs.
// CHECK-LABEL: nest.func @names(%i_1 @i: !nest.buffer<[8], f32>, out %j_1 @j: !nest.buffer<[8], f32>)
nest.func @names(%first @i: !nest.buffer<[8], f32>, out %second @j: !nest.buffer<[8], f32>) {
  // CHECK-NEXT: nest.for %i in 2, %j in 4 {
  nest.for %i in 2, %j in 4 {
    // CHECK-NEXT: nest.block @b [%v = 4*%i + %j in 8] {
    nest.block @b [%v = %i * 4 + %j in 8] {
      // CHECK-NEXT: %v_1 = nest.load %i_1[%v]
      %v_1 = nest.load %first[%v]
      // CHECK-NEXT: nest.store %v_1, %j_1[%v]
      nest.store %v_1, %second[%v]
    }
  }
}

// Lowered: no blocks, and a buffer that a loop allocates.
// CHECK-LABEL: nest.func @lowered
nest.func @lowered(%x: !nest.buffer<[8], f32>) {
  // CHECK-NEXT: %t = nest.alloc @t in @i : !nest.buffer<[1], f32, local>
  %t = nest.alloc @t in @i : !nest.buffer<[1], f32, local>
  nest.for %i in 8 {
    %a = nest.load %x[%i]
    nest.store %a, %t[0]
    %b = nest.load %t[0]
    nest.store %b, %x[%i]
  }
}
