// RUN: VERIFY_DIAGNOSTICS

// The data of a stage are there after its wait: reading it before is an error of types.
tile.kernel @read_before_its_wait(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1, %i: index
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.ldmatrix' op !tile.inflight<[64, 64], f16, swizzle128> should be of base attribute tile.shared}}
  %b = tile.ldmatrix %a[%i, %i]
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.frag<[64, 64], f16, mma_a>
  tile.return
}

// -----

tile.kernel @waited_for_twice(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  %b = tile.wait %a
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.wait' op expects a stage that is in flight here, got one that was waited for before, or that a loop does not pass on}}
  %c = tile.wait %a
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @drained_after_its_wait(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  %b = tile.wait %a
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.drain' op expects a stage that is in flight here}}
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @dropped(%x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects its stages in flight to be waited for, got 1 dropped}}
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

// Of two stages of one copy, both are waited for.
tile.kernel @one_of_two_dropped(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects its stages in flight to be waited for, got 1 dropped}}
  %a, %b = tile.copy_async %x, %x into %ring, %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  tile.drain %b : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

// Each trip would wait for the same copy.
tile.kernel @waited_for_in_a_loop(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1, %one: i32
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.for' op expects the stages in flight at its end to be those that it passes on, oldest first: 1 expected, 0 got}}
  scf.for %trip = %s to %one step %one : i32 {
    %b = tile.wait %a
      : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
    scf.yield
  }
  tile.return
}

// -----

// A wait counts the younger copies, so a loop keeps their order.
tile.kernel @reordered_by_a_loop(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1, %one: i32
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a, %b = tile.copy_async %x, %x into %ring, %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1>, !llvm.ptr<1>
    into !tile.ring<2 x [64, 64], f16, swizzle128>, !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.for' op expects the stages in flight at its end to be those that it passes on, oldest first: 2 expected, 2 got in another order}}
  %c, %d = scf.for %trip = %s to %one step %one iter_args(%e = %a, %f = %b)
    -> (!tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>) : i32 {
    scf.yield %f, %e
      : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  }
  tile.drain %c, %d
    : !tile.inflight<[64, 64], f16, swizzle128>, !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

// What a loop carries is known after it by the name of its result.
tile.kernel @waited_for_by_its_name_before_the_loop(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1, %one: i32
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  %c = scf.for %trip = %s to %one step %one iter_args(%e = %a)
    -> (!tile.inflight<[64, 64], f16, swizzle128>) : i32 {
    scf.yield %e : !tile.inflight<[64, 64], f16, swizzle128>
  }
  // expected-error @+1 {{'tile.drain' op expects a stage that is in flight here}}
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

// The result of a loop is dropped like that of a copy.
tile.kernel @dropped_after_a_loop(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1, %one: i32
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.for' op expects its stages in flight to be waited for, got 1 dropped}}
  %c = scf.for %trip = %s to %one step %one iter_args(%e = %a)
    -> (!tile.inflight<[64, 64], f16, swizzle128>) : i32 {
    scf.yield %e : !tile.inflight<[64, 64], f16, swizzle128>
  }
  tile.return
}

// -----

// A copy that a branch begins, the branch waits for.
tile.kernel @left_by_a_branch(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.if' op expects the stages in flight at its end to be those that it passes on, oldest first: 0 expected, 1 got}}
  scf.if %true {
    %a = tile.copy_async %x into %ring[%s] if %true rows {
    ^bb0(%row: i32):
      tile.yield %o, %true : i64, i1
    } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
      -> !tile.inflight<[64, 64], f16, swizzle128>
    scf.yield
  }
  tile.return
}

// -----

// Only some CTAs would have waited.
tile.kernel @waited_for_in_a_branch(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.if' op expects the stages in flight at its end to be those that it passes on, oldest first: 1 expected, 0 got}}
  scf.if %true {
    %b = tile.wait %a
      : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, swizzle128>
    scf.yield
  }
  tile.return
}

// -----

// A stage cannot come from outside, where nothing is known of its copy.
// expected-error @+1 {{'tile.kernel' op expects pointers and numbers as parameters, got !tile.inflight<[64, 64], f16, swizzle128>}}
tile.kernel @never_copied(%a: !tile.inflight<[64, 64], f16, swizzle128>) warps 4 grid [1, 1, 1] {
  tile.drain %a : !tile.inflight<[64, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @waited_for_as_another_type(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  %a = tile.copy_async %x into %ring[%s] if %true rows {
  ^bb0(%row: i32):
    tile.yield %o, %true : i64, i1
  } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
    -> !tile.inflight<[64, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.wait' op expects result type !tile.shared<[64, 64], f16, swizzle128>, got !tile.shared<[64, 64], f16, padded16>}}
  %b = tile.wait %a
    : !tile.inflight<[64, 64], f16, swizzle128> -> !tile.shared<[64, 64], f16, padded16>
  tile.return
}

// -----

// What a loop of unknown length copies, it waits for itself.
tile.kernel @left_in_flight_by_a_loop(
  %x: !llvm.ptr<1>, %s: i32, %o: i64, %true: i1
) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<2 x [64, 64], f16, swizzle128>
  // expected-error @+1 {{'scf.while' op expects the stages in flight at its end to be those that it passes on, oldest first: 0 expected, 1 got}}
  %end = scf.while (%i = %s) : (i32) -> i32 {
    scf.condition(%true) %i : i32
  } do {
  ^bb0(%i: i32):
    %a = tile.copy_async %x into %ring[%i] if %true rows {
    ^bb0(%row: i32):
      tile.yield %o, %true : i64, i1
    } : !llvm.ptr<1> into !tile.ring<2 x [64, 64], f16, swizzle128>
      -> !tile.inflight<[64, 64], f16, swizzle128>
    scf.yield %i : i32
  }
  tile.return
}
