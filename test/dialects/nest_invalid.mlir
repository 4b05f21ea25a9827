// RUN: VERIFY_DIAGNOSTICS

// Types of buffers.

// expected-error @+1 {{expected an element type among i1, i8, i16, i32, i64, index, f8E4M3FN, f8E5M2, f16, bf16, f32, f64, got i7}}
nest.func @element(%x: !nest.buffer<[4], i7>) {
}

// -----

// expected-error @+1 {{expected a scope among global, shared, fragment, local, got texture}}
nest.func @scope(%x: !nest.buffer<[4], f32, texture>) {
}

// -----

// expected-error @+1 {{expected 2 strides, got 1}}
nest.func @strides(%x: !nest.buffer<[4, 4], f32, strides [1]>) {
}

// -----

// expected-error @+1 {{expected a swizzle of 32, 64 or 128, got 48}}
nest.func @swizzle(%x: !nest.buffer<[4], f32, shared, swizzle 48>) {
}

// -----

// expected-error @+1 {{expected a padding [axis below 1, factor above 0, offset], got [1, 8, 4]}}
nest.func @padding(%x: !nest.buffer<[4], f32, shared, padding [1, 8, 4]>) {
}

// -----

// Functions.

// expected-error @+1 {{'nest.func' op expects buffers and numbers as parameters, got tensor<4xf32>}}
nest.func @parameter(%x: tensor<4xf32>) {
}

// -----

// expected-error @+1 {{'nest.func' op expects the shape of 'x' to name nothing, got 'n'}}
nest.func @unknown_symbol(%x: !nest.buffer<[n], f32>) {
}

// -----

// expected-error @+1 {{'nest.func' op expects one buffer or number 'x', got two}}
nest.func @two_parameters(%x: !nest.buffer<[4], f32>, %y @x: !nest.buffer<[4], f32>) {
}

// -----

// Index expressions.

nest.func @scalar_in_expression(%x: !nest.buffer<[4], f32>, %n: index) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-error @+1 {{'nest.load' op expects indices over loops, axes and symbols (%v), got 'n'}}
      %a = nest.load %x[%v + %n]
    }
  }
}

// -----

nest.func @loop_in_block(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-error @+1 {{'nest.load' op expects indices over axes of the block, loops inside it and symbols (%v), got %i, which is around the block}}
      %a = nest.load %x[%i]
    }
  }
}

// -----

nest.func @value_in_expression(%x: !nest.buffer<[4], i32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      %a = nest.load %x[%v]
      // expected-error @+1 {{expected a loop or an axis in an index expression, got %a of type i32; compute with ops of arith instead}}
      %b = nest.load %x[1 + %a]
    }
  }
}

// -----

nest.func @rank(%x: !nest.buffer<[4, 4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-error @+1 {{'nest.load' op expects 2 indices of !nest.buffer<[4, 4], f32>, got 1}}
      %a = nest.load %x[%v]
    }
  }
}

// -----

nest.func @index_operands(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-error @+1 {{'nest.load' op expects the indices that its expressions name as operands, [%v]}}
      %a = "nest.load"(%x) <{indices = [#sym.expr<v>], operandSegmentSizes = array<i32: 1, 0, 0>}> : (!nest.buffer<[4], f32>) -> f32
    }
  }
}

// -----

nest.func @element_type(%x: !nest.buffer<[4], f32>, %y: !nest.buffer<[4], f16>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      %a = nest.load %y[%v]
      // expected-error @+1 {{'nest.store' op expects a value of type f32, got f16}}
      nest.store %a, %x[%v]
    }
  }
}

// -----

// What a program cannot say.

nest.func @stale(%x: !nest.buffer<[4], f32>, %y: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-note @+1 {{it is computed here}}
      %a = nest.load %x[%v]
      nest.store %a, %x[%v]
      // expected-error @+1 {{'nest.store' op uses a value that was loaded from %x before %x is written; load it again behind the store}}
      nest.store %a, %y[%v]
    }
  }
}

// -----

nest.func @stale_in_next_iteration(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      // expected-note @+1 {{it is computed here}}
      %a = nest.load %x[%v]
      nest.for %j in 4 {
        // expected-error @+1 {{'nest.store' op uses a value that was loaded from %x before %x is written}}
        nest.store %a, %x[%j]
      }
    }
  }
}

// -----

nest.func @computed_outside(%x: !nest.buffer<[4], f32>, %y: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    // expected-note @+1 {{it is computed here}}
    %a = nest.load %x[%i]
    nest.block @b [%v = %i in 4] {
      // expected-error @+1 {{'nest.store' op uses a value that names %i, which is outside of the block; give the block an axis for it}}
      nest.store %a, %y[%v]
    }
  }
}

// -----

nest.func @fast(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      %a = nest.load %x[%v]
      // expected-error @+1 {{'arith.addf' op of a nest expects no attribute 'fastmath', got #arith.fastmath<fast>}}
      %b = arith.addf %a, %a fastmath<fast> : f32
    }
  }
}

// -----

nest.func @foreign(%x: !nest.buffer<[4], f32>) {
  // expected-error @+1 {{'memref.alloc' op is no op of a nest: expected ops of nest, arith, math, or scf.if}}
  %m = memref.alloc() : memref<4xf32>
}

// -----

nest.func @otherwise(%x: !nest.buffer<[4], f32>, %c: i1) {
  // expected-error @+1 {{'scf.if' op of a nest expects no results and no else; use arith.select}}
  scf.if %c {
  } else {
  }
}

// -----

nest.func @allocated_in_loop(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.alloc' op expects to stand in the function itself, not in a loop}}
    %t = nest.alloc @t : !nest.buffer<[4], f32>
  }
}

// -----

// Loops and blocks.

nest.func @kind(%x: !nest.buffer<[4], f32>) {
  // expected-error @+1 {{'nest.for' op expects a kind among serial, parallel, vectorized, unrolled, block.x, block.y, block.z, thread.x, thread.y, thread.z, got warp}}
  "nest.for"() <{loop_name = "i", kind = "warp", extent = #sym.expr<4>}> ({
  ^bb0(%i: index):
  }) : () -> ()
}

// -----

nest.func @annotation(%x: !nest.buffer<[4], f32>) {
  // expected-error @+1 {{'nest.for' op expects the annotation 'f' to be an integer, a string, or an array of either, got 1.000000e+00 : f64}}
  nest.for %i in 4 attributes {f = 1.0} {
  }
}

// -----

nest.func @init(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    nest.block @b [%v = %i in 4] {
      %zero = arith.constant 0.0 : f32
      // expected-error @+1 {{'nest.init' op expects to be the first op of a nest.block}}
      nest.init {
        nest.store %zero, %x[%v]
      }
    }
  }
}

// -----

nest.func @numbered() {
  // expected-error @+1 {{expected an identifier as the name of a symbol, got '0'}}
  nest.for %0 in 4 {
  }
}

// -----

nest.func @own_axis(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    // expected-error @+1 {{%v is used but not defined}}
    nest.block @b [%v = %i in 4, %w = %v in 4] {
    }
  }
}

// -----

nest.func @one_name(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
  }
  // expected-error @+1 {{'nest.for' op expects a name of its own, got 'i' for two loops, blocks or symbols}}
  nest.for %i in 4 {
  }
}

// -----

nest.func @axis_and_symbol(%x: !nest.buffer<[n], f32>) symbols (n in [1, ...]) {
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.block' op expects axes with names of their own, got 'n'}}
    nest.block @b [%n = %i in 4] {
    }
  }
}

// -----

nest.func @store_in_no_block(%x: !nest.buffer<[4], f32>) {
  %zero = arith.constant 0.0 : f32
  // expected-error @+1 {{'nest.for' op expects a store to 'x' to stand in a block}}
  nest.for %i in 4 {
    nest.store %zero, %x[%i]
    nest.block @b [] {
    }
  }
}

// -----

// Bindings.

nest.func @dependent(%x: !nest.buffer<[4, 4], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.block' op expects bindings that are independent and cover the domain: axis 'w': i is bound to 'v' too}}
    nest.block @b [%v = %i in 4, %w = %i in 4] {
      nest.store %zero, %x[%v, %w]
    }
  }
}

// -----

nest.func @not_covered(%x: !nest.buffer<[8], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for %i in 4 {
    // expected-error @+1 {{axis 'v': its values 0 to 3 are not all of 0 to 7}}
    nest.block @b [%v = %i in 8] {
      nest.store %zero, %x[%v]
    }
  }
}

// -----

nest.func @no_guard(%x: !nest.buffer<[n], f32>) symbols (n in [1, ...]) {
  %zero = arith.constant 0.0 : f32
  nest.for %i in n ceildiv 32, %j in 32 {
    // expected-error @+1 {{axis 'v': its values 0 to 32*((n + 31) floordiv 32) - 1 leave 0 to n - 1, and no bound guards them}}
    nest.block @b [%v = %i * 32 + %j in n] {
      nest.store %zero, %x[%v]
    }
  }
}

// -----

nest.func @twice(%x: !nest.buffer<[4], f32>) {
  nest.for %i in 4, %r in 2 {
    // expected-error @+1 {{'nest.block' op expects each point once, since the block reads 'x', which it writes; points are visited again by 'r'}}
    nest.block @b [%v = %i in 4] {
      %a = nest.load %x[%v]
      %b = arith.addf %a, %a : f32
      nest.store %b, %x[%v]
    }
  }
}

// -----

// Regions.

nest.func @reads(%x: !nest.buffer<[8], f32>, %y: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.block' op expects what it reads to cover x[v + 1], got x[v]}}
    nest.block @b [%v = %i in 4] reads (%x[%v]) {
      %a = nest.load %x[%v + 1]
      nest.store %a, %y[%v]
    }
  }
}

// -----

nest.func @writes(%x: !nest.buffer<[8], f32>, %y: !nest.buffer<[4], f32>) {
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.block' op expects what it writes to cover y[v], got nothing}}
    nest.block @b [%v = %i in 4] writes () {
      %a = nest.load %x[%v]
      nest.store %a, %y[%v]
    }
  }
}

// -----

// Producers and consumers.

nest.func @not_written(%y: !nest.buffer<[4], f32>) {
  %t = nest.alloc @t : !nest.buffer<[4], f32>
  nest.for %i in 4 {
    // expected-error @+1 {{'nest.block' op expects what it reads, t[v], to be written before; no block before it writes 't'}}
    nest.block @b [%v = %i in 4] {
      %a = nest.load %t[%v]
      nest.store %a, %y[%v]
    }
  }
}

// -----

nest.func @halo_missing(%x: !nest.buffer<[64], f32>, %y: !nest.buffer<[62], f32>) {
  %t = nest.alloc @t : !nest.buffer<[64], f32>
  nest.for %i in 62 {
    nest.for %k in 2 {
      nest.block @p [%u = %i + %k in 64] {
        %a = nest.load %x[%u]
        nest.store %a, %t[%u]
      }
    }
    // expected-error @+1 {{'nest.block' op expects what it reads, t[v extent 3], to be written before; 'p' before it does not provably write all of it}}
    nest.block @c [%v = %i in 62] {
      %a = nest.load %t[%v]
      %b = nest.load %t[%v + 2]
      %c = arith.addf %a, %b : f32
      nest.store %c, %y[%v]
    }
  }
}

// -----

// Threads.

nest.func @two_extents(%x: !nest.buffer<[64], f32>, %y: !nest.buffer<[32], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for block.x %b in 1 {
    nest.for thread.x %s in 64 {
      nest.block @p [%v = %s in 64] {
        nest.store %zero, %x[%v]
      }
    }
    // expected-error @+1 {{'nest.for' op bound to thread.x expects the extent 64 of 's', which is bound to the same axis of the kernel, got 32}}
    nest.for thread.x %t in 32 {
      nest.block @q [%w = %t in 32] {
        nest.store %zero, %y[%w]
      }
    }
  }
}

// -----

nest.func @too_many_threads(%x: !nest.buffer<[64, 32], f32>) {
  %zero = arith.constant 0.0 : f32
  // expected-error @+1 {{'nest.for' op expects a kernel of at most 1024 threads, got 2048}}
  nest.for thread.x %i in 64, thread.y %j in 32 {
    nest.block @b [%v = %i in 64, %w = %j in 32] {
      nest.store %zero, %x[%v, %w]
    }
  }
}

// -----

nest.func @bound_twice(%x: !nest.buffer<[4, 4], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for thread.x %i in 4 {
    // expected-error @+1 {{'nest.for' op bound to thread.x expects no other such loop around it, got 'i'}}
    nest.for thread.x %j in 4 {
      nest.block @b [%v = %i in 4, %w = %j in 4] {
        nest.store %zero, %x[%v, %w]
      }
    }
  }
}

// -----

nest.func @grid_inside_of_threads(%x: !nest.buffer<[4, 4], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for thread.x %i in 4 {
    // expected-error @+1 {{'nest.for' op bound to block.x expects loops around it in the kernel to be bound to the grid too, got the thread.x loop 'i'}}
    nest.for block.x %j in 4 {
      nest.block @b [%v = %i in 4, %w = %j in 4] {
        nest.store %zero, %x[%v, %w]
      }
    }
  }
}

// -----

nest.func @parallel_kernel(%x: !nest.buffer<[4, 4], f32>) {
  %zero = arith.constant 0.0 : f32
  nest.for parallel %i in 4 {
    // expected-error @+1 {{'nest.for' op bound to block.x expects no parallel loop around it, got 'i'}}
    nest.for block.x %j in 4 {
      nest.block @b [%v = %i in 4, %w = %j in 4] {
        nest.store %zero, %x[%v, %w]
      }
    }
  }
}

// -----

// An access that leaves its buffer whatever the symbols are.

nest.func @behind_the_end(%x: !nest.buffer<[n], f32>, out %y: !nest.buffer<[n], f32>) symbols (n in [1, 8]) {
  nest.for %i in n {
    // expected-error @+1 {{'nest.block' op expects indices of 'x' from 0 to n - 1 on axis 0, got v + 1 from 1 to n}}
    nest.block @b [%v = %i in n] {
      %value = nest.load %x[%v + 1]
      nest.store %value, %y[%v]
    }
  }
}
