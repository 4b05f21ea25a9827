// RUN: VERIFY_DIAGNOSTICS -p convert-nest-to-thread

// expected-error @+1 {{expected loops bound to threads on a GPU, got the parallel loop 'i'}}
nest.func @parallel(out %y: !nest.buffer<[32], f32>) {
  nest.for parallel %i in 32 {
    %one = arith.constant 1.0 : f32
    nest.store %one, %y[%i]
  }
}

// -----

// expected-error @+1 {{expected a constant extent of thread.x, got n}}
nest.func @unknown_threads(out %y: !nest.buffer<[n], f32>) symbols (n in [1, 64]) {
  nest.for thread.x %t in n {
    %one = arith.constant 1.0 : f32
    nest.store %one, %y[%t]
  }
}

// -----

// expected-error @+1 {{expected indices of the local buffer 'h' over unrolled loops, got 'k'; registers have no address, unroll the loop}}
nest.func @addressed(%x: !nest.buffer<[128], f32>, out %y: !nest.buffer<[128], f32>) {
  %h = nest.alloc @h in @t : !nest.buffer<[128], f32, local>
  nest.for thread.x %t in 1, %k in 128 {
    %a = nest.load %x[%k]
    nest.store %a, %h[%k]
    %b = nest.load %h[%k]
    nest.store %b, %y[%k]
  }
}

// -----

// expected-error @+1 {{expected an intrinsic of sm_80, got 'mma.m16n8k32.e4m3.f32.row.col', which needs sm_89}}
nest.func @products_of_8_bits(out %y: !nest.buffer<[1], f32>) {
  %a = nest.alloc @a in @b : !nest.buffer<[16, 32], f8E4M3FN, fragment>
  %f = nest.alloc @f in @b : !nest.buffer<[8, 32], f8E4M3FN, fragment>
  %c = nest.alloc @c in @b : !nest.buffer<[16, 8], f32, fragment>
  nest.for block.x %b in 1 {
    nest.call @mma.fill.f32(write %c[0 extent 16, 0 extent 8])
    nest.call @mma.m16n8k32.e4m3.f32.row.col(update %c[0 extent 16, 0 extent 8], read %a[0 extent 16, 0 extent 32], read %f[0 extent 8, 0 extent 32])
  }
}

// -----

// expected-error @+1 {{expected addresses in 'x' at multiples of 16 bytes, got steps of k*ld elements}}
nest.func @rows_that_are_not_aligned(%x: !nest.buffer<[8, 64], f16, strides [ld, 1]>, out %y: !nest.buffer<[8, 64], f16>) symbols (ld in [64, 4096], ld mod 4 == 0) {
  %s = nest.alloc @s in @b : !nest.buffer<[64], f16, shared>
  nest.for block.x %b in 1, thread.x %t in 1, %k in 8 {
    nest.call @cp.async.16.f16(write %s[0 extent 8], read %x[%k extent 1, 0 extent 8])
  }
}
