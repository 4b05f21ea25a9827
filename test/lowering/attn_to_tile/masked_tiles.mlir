// RUN: tilewright-opt %s --split-input-file -p convert-attn-to-tile | filecheck %s

// Loops over tiles of keys count in i32; those over steps of a product count in index. So does the
// loop around the tiles that need a mask and those that need none, which is unrolled to PTX. A mask
// stands between a tile's product and the reduction of its rows.

// Without a mask only the tile that the sequence ends in is masked. Tiles are named by their first
// keys, so that the end of the sequence is that of the loop.
// CHECK-LABEL: tile.kernel @full
// CHECK: scf.while
// CHECK: scf.for %[[PART:.*]] = %c0 to %c2 step %c1 iter_args
// CHECK: %[[IS_FIRST:.*]] = arith.cmpi eq, %[[PART]], %c0 : index
// CHECK-NEXT: %[[BEGIN:.*]] = arith.select %[[IS_FIRST]], %begin, %full_end : i32
// CHECK-NEXT: %[[END:.*]] = arith.select %[[IS_FIRST]], %full_end, %kv_end : i32
// CHECK-NEXT: %[[MASKED:.*]] = arith.select %[[IS_FIRST]], %false, %true : i1
// CHECK-NEXT: scf.for %{{.*}} = %[[BEGIN]] to %[[END]] step %c64_i32 {{.*}} : i32 {
// CHECK: tile.mma
// CHECK: %scores = scf.if %[[MASKED]]
// CHECK: ^{{.*}}(%[[SCORE:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32, %[[COLUMN:.*]]: i32):
// CHECK-NEXT: %[[KEY:.*]] = arith.addi %{{.*}}, %[[COLUMN]] : i32
// CHECK-NEXT: %[[SEEN:.*]] = arith.cmpi slt, %[[KEY]], %kv_end : i32
// CHECK-NEXT: arith.select %[[SEEN]], %[[SCORE]], %{{.*}} : f32
// CHECK: } else {
// CHECK-NEXT: scf.yield
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @all

func.func @full(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// A causal mask has one masked loop, behind the tiles that every query sees. It is a range of keys,
// whose end is found once for each row of a masked tile.
// CHECK-LABEL: tile.kernel @causal
// CHECK: scf.while
// CHECK: %masked = arith.select %{{.*}}, %false, %true : i1
// CHECK-NEXT: scf.for {{.*}} : i32 {
// CHECK: tile.mma
// CHECK: %scores = scf.if %masked
// CHECK: %[[LAST:.*]] = arith.subi %end, %{{.*}} : i32
// CHECK: arith.minsi %[[LAST]], %{{.*}} : i32
// CHECK: ^{{.*}}(%[[SCORE:.*]]: f32, %[[END:.*]]: i32, %{{.*}}: i32, %[[COLUMN:.*]]: i32):
// CHECK-NEXT: %[[SEEN:.*]] = arith.cmpi sle, %[[COLUMN]], %[[END]] : i32
// CHECK-NEXT: arith.select %[[SEEN]], %[[SCORE]]
// CHECK: } else {
// CHECK-NEXT: scf.yield
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @past mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
  attn.yield %seen : i1
}

func.func @causal(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @past
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// A window cuts keys off at both ends: the loop in the middle is the only one without a mask.
// CHECK-LABEL: tile.kernel @window
// CHECK: scf.while
// CHECK: scf.for %[[PART:.*]] = %c0 to %c3 step %c1 iter_args
// CHECK: %[[IS_FIRST:.*]] = arith.cmpi eq, %[[PART]], %c0 : index
// CHECK: %[[NOT_MIDDLE:.*]] = arith.select %[[IS_FIRST]], %true, %true : i1
// CHECK-NEXT: %[[IS_MIDDLE:.*]] = arith.cmpi eq, %[[PART]], %c1 : index
// CHECK: %masked = arith.select %[[IS_MIDDLE]], %false, %[[NOT_MIDDLE]] : i1
// CHECK-NEXT: scf.for {{.*}} : i32 {
// CHECK: tile.mma
// CHECK: %scores = scf.if %masked
// CHECK: %[[PAST:.*]] = arith.cmpi sle, %[[COLUMN:.*]], %{{.*}} : i32
// CHECK-NEXT: %[[NEAR:.*]] = arith.cmpi sge, %[[COLUMN]], %{{.*}} : i32
// CHECK-NEXT: arith.andi %[[PAST]], %[[NEAR]] : i1
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @near mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %window = arith.constant 100 : i32
  %distance = arith.subi %q_idx, %kv_idx : i32
  %past = arith.cmpi sge, %q_idx, %kv_idx : i32
  %near = arith.cmpi sle, %distance, %window : i32
  %seen = arith.andi %past, %near : i1
  attn.yield %seen : i1
}

func.func @window(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @near
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// Of a mask that is not understood every tile is masked.
// CHECK-LABEL: tile.kernel @opaque
// CHECK: scf.while
// CHECK: scf.for {{.*}} : i32 {
// CHECK: arith.xori
// CHECK: arith.select
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @chequered mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %zero = arith.constant 0 : i32
  %bits = arith.xori %q_idx, %kv_idx : i32
  %seen = arith.cmpi ne, %bits, %zero : i32
  attn.yield %seen : i1
}

func.func @opaque(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @chequered
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// A conjunction keeps the bounds of the part that is understood: keys of the future are not
// visited, which takes the position of the last query to know.
// CHECK-LABEL: tile.kernel @causal_and_opaque
// CHECK: scf.while
// CHECK: %[[FIRST:.*]] = arith.addi %position, %{{.*}} : i32
// CHECK: %[[LAST:.*]] = arith.addi %position, %{{.*}} : i32
// CHECK-NEXT: %[[BEHIND:.*]] = arith.addi %[[LAST]], %{{.*}} : i32
// CHECK-NEXT: arith.minsi %kv_end, %[[BEHIND]] : i32
// CHECK: scf.for {{.*}} : i32 {
// CHECK: arith.xori
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @past_and_chequered mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %zero = arith.constant 0 : i32
  %bits = arith.xori %q_idx, %kv_idx : i32
  %odd = arith.cmpi ne, %bits, %zero : i32
  %past = arith.cmpi sge, %q_idx, %kv_idx : i32
  %seen = arith.andi %odd, %past : i1
  attn.yield %seen : i1
}

func.func @causal_and_opaque(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @past_and_chequered
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// A score alone changes all tiles; the tile that the sequence ends in is masked after it.
// CHECK-LABEL: tile.kernel @score
// CHECK: scf.while
// CHECK: scf.for {{.*}} : i32 {
// CHECK: %scores = scf.if %masked
// CHECK: math.absf
// CHECK: arith.select
// CHECK: } else {
// CHECK: ^{{.*}}(%[[PRODUCT:.*]]: f32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32):
// CHECK: %[[SCALED:.*]] = arith.mulf %[[PRODUCT]], %softmax_scale : f32
// CHECK-NEXT: %[[CHANGED:.*]] = math.absf %[[SCALED]] : f32
// CHECK-NEXT: %[[LOG2:.*]] = arith.mulf %[[CHANGED]], %{{.*}} : f32
// CHECK-NEXT: tile.yield %[[LOG2]] : f32
// CHECK-NOT: scf.for {{.*}} : i32 {
// CHECK: tile.drain
attn.variant @absolute score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %changed = math.absf %score : f32
  attn.yield %changed : f32
}

func.func @score(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @absolute
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// All functions that attend become kernels, and no variant is left.
// CHECK-LABEL: tile.kernel @one
// CHECK: scf.while
// CHECK-LABEL: tile.kernel @two
// CHECK: scf.while
// CHECK-NOT: attn.
attn.variant @all

func.func @one(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

func.func @two(
  %q: !attn.ragged<[n, 2, 16], f16>, %k: !attn.paged<[pages, 1, 2, 16], f16, HND>,
  %v: !attn.paged<[pages, 1, 2, 16], f16, HND>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 16], f16>, !attn.ragged<[n, 2], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 16], f16>, !attn.paged<[pages, 1, 2, 16], f16, HND>,
      !attn.paged<[pages, 1, 2, 16], f16, HND>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 16], f16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 16], f16>, !attn.ragged<[n, 2], f32>
}

// -----

// A module inside another has variants of its own.
// CHECK: builtin.module @inner {
// CHECK: tile.kernel @nested
builtin.module @inner {
  attn.variant @own

  func.func @nested(
    %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
    %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
  ) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
    %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @own
      : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
        !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
      -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
    func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  }
}
