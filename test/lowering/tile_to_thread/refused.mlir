// RUN: tilewright-opt %s --split-input-file --verify-diagnostics -p convert-tile-to-thread

func.func private @helper()

tile.kernel @call() warps 1 grid [1, 1, 1] {
  // expected-error @+1 {{'func.call' op has no meaning for one thread}}
  func.call @helper() : () -> ()
  tile.return
}

// -----

tile.kernel @map_with_a_branch(%f: f32, %b: i1) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %d = tile.map(%c : !tile.frag<[16, 32], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    // expected-error @+1 {{'scf.if' op expects an op of arith or math, or tile.load, in a region of rows or elements}}
    %y = scf.if %b -> (f32) {
      scf.yield %x : f32
    } else {
      scf.yield %f : f32
    }
    tile.yield %y : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @map_with_a_barrier(%f: f32) warps 1 grid [1, 1, 1] {
  %c = tile.fill %f : f32 -> !tile.frag<[16, 32], f32, mma_c>
  %d = tile.map(%c : !tile.frag<[16, 32], f32, mma_c>) {
  ^bb0(%x: f32, %row: i32, %column: i32):
    %r = arith.sitofp %row : i32 to f32
    // expected-error @+1 {{'tile.barrier' op expects an op of arith or math, or tile.load, in a region of rows or elements}}
    tile.barrier
    tile.yield %r : f32
  } -> !tile.frag<[16, 32], f32, mma_c>
  tile.return
}

// -----

tile.kernel @rows_with_a_branch(%x: !llvm.ptr<1>, %o: i64, %b: i1) warps 2 grid [1, 1, 1] {
  %s = arith.constant 0 : i32
  %ring = tile.alloc : !tile.ring<1 x [16, 32], f16, padded16>
  %a = tile.copy_async %x into %ring[%s] if %b rows {
  ^bb0(%row: i32):
    // expected-error @+1 {{'scf.if' op expects an op of arith or math, or tile.load, in a region of rows or elements}}
    %p = scf.if %b -> (i64) {
      scf.yield %o : i64
    } else {
      scf.yield %o : i64
    }
    tile.yield %p, %b : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [16, 32], f16, padded16>
    -> !tile.inflight<[16, 32], f16, padded16>
  tile.drain %a : !tile.inflight<[16, 32], f16, padded16>
  tile.return
}

// -----

// The swizzle's period is 8 rows of 8 chunks: two warps, or an even number of them, in a pass.
tile.kernel @one_warp_and_a_swizzle(%x: !llvm.ptr<1>, %o: i64, %b: i1) warps 1 grid [1, 1, 1] {
  %s = arith.constant 0 : i32
  %ring = tile.alloc : !tile.ring<1 x [16, 64], f16, swizzle128>
  // expected-error @+1 {{'tile.copy_async' op expects an even number of warps where a copied tile is swizzled, got 1}}
  %a = tile.copy_async %x into %ring[%s] if %b rows {
  ^bb0(%row: i32):
    tile.yield %o, %b : i64, i1
  } : !llvm.ptr<1> into !tile.ring<1 x [16, 64], f16, swizzle128>
    -> !tile.inflight<[16, 64], f16, swizzle128>
  tile.drain %a : !tile.inflight<[16, 64], f16, swizzle128>
  tile.return
}

// -----

tile.kernel @reduction_through_a_small_ring(%f: f32) warps 4 grid [1, 1, 1] {
  %ring = tile.alloc : !tile.ring<1 x [8, 64], bf16, swizzle128>
  %c = tile.fill %f : f32 -> !tile.frag<[16, 16], f32, mma_c>
  // expected-error @+1 {{'tile.team_reduce' op expects a ring of at least 2048 bytes, got !tile.ring<1 x [8, 64], bf16, swizzle128>}}
  %sum = tile.team_reduce sum %c through %ring
    : !tile.frag<[16, 16], f32, mma_c>, !tile.ring<1 x [8, 64], bf16, swizzle128>
    -> !tile.frag<[16, 16], f32, mma_c>
  tile.return
}
