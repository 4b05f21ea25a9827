// RUN: VERIFY_DIAGNOSTICS -p place-barriers

// All threads of a CTA reduce together, so all of them have to come by.
// expected-error @+1 {{expected all threads of the CTA to come by 'cta.reduce.sum.f32.64', got it below a loop over threads, or a condition or loop that differs between them}}
nest.func @by_a_thread(out %y: !nest.buffer<[64], f32>) {
  %p = nest.alloc @p : !nest.buffer<[64], f32, local>
  %s = nest.alloc @s : !nest.buffer<[1], f32, local>
  nest.for thread.x %t in 64 {
    nest.call @cta.reduce.sum.f32.64(update %s[0 extent 1], read %p[0 extent 64])
    %a = nest.load %s[0]
    nest.store %a, %y[%t]
  }
}

// -----

// expected-error @+1 {{expected all threads of the CTA to come by 'cta.reduce.sum.f32.64'}}
nest.func @where_data_says_so(%x: !nest.buffer<[1], f32>, out %y: !nest.buffer<[64], f32>) {
  %p = nest.alloc @p : !nest.buffer<[64], f32, local>
  %s = nest.alloc @s : !nest.buffer<[1], f32, local>
  nest.for block.x %b in 1 {
    %zero = arith.constant 0.0 : f32
    %a = nest.load %x[0]
    %is_more = arith.cmpf ogt, %a, %zero : f32
    scf.if %is_more {
      nest.call @cta.reduce.sum.f32.64(update %s[0 extent 1], read %p[0 extent 64])
    }
    nest.for thread.x %t in 64 {
      %c = nest.load %s[0]
      nest.store %c, %y[%t]
    }
  }
}
