// RUN: tilewright-opt %s --split-input-file -p convert-attn-to-tile | filecheck %s

// Rows of a multiple of 128 bytes are swizzled; up to head_dim 128 a tile has 64 keys.
// CHECK-LABEL: tile.kernel @head_dim_128
// CHECK: tile.alloc : !tile.ring<1 x [64, 128], bf16, swizzle128>
// CHECK: tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
// CHECK: tile.alloc : !tile.ring<2 x [64, 128], bf16, swizzle128>
attn.variant @all

func.func @head_dim_128(
  %q: !attn.ragged<[n, 2, 128], bf16>, %k: !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 128], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 128], bf16>, !attn.ragged<[n, 2], f32>) {
  // CHECK: scf.while
  // The queries are loaded into registers once, before the loops.
  // CHECK: %[[QUERY:.*]] = tile.ldmatrix {{.*}} -> !tile.frag<[64, 128], bf16, mma_a>
  // CHECK: scf.for {{.*}} : i32 {
  // CHECK-NOT: mma_a
  // CHECK: %[[B:.*]] = tile.ldmatrix
  // CHECK-NEXT: %[[A:.*]] = tile.extract %[[QUERY]]
  // CHECK-NEXT: tile.mma %[[A]], %[[B]]
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 128], bf16>, !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 128], bf16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 128], bf16>, !attn.ragged<[n, 2], f32>
}

// -----

// Above head_dim 128 a tile has 32 keys, and the queries stay in shared memory.
// CHECK-LABEL: tile.kernel @head_dim_192
// CHECK: %[[QUERIES:.*]] = tile.alloc : !tile.ring<1 x [64, 192], f16, swizzle128>
// CHECK: tile.alloc : !tile.ring<2 x [32, 192], f16, swizzle128>
attn.variant @all

func.func @head_dim_192(
  %q: !attn.ragged<[n, 2, 192], f16>, %k: !attn.paged<[pages, 16, 2, 192], f16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 192], f16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 192], f16>, !attn.ragged<[n, 2], f32>) {
  // CHECK: %[[QUERY:.*]] = tile.wait {{.*}} -> !tile.shared<[64, 192], f16, swizzle128>
  // CHECK-NOT: tile.ldmatrix
  // CHECK: scf.for {{.*}} : i32 {
  // CHECK: tile.ldmatrix %[[QUERY]]{{.*}} -> !tile.frag<[64, 16], f16, mma_a>
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 192], f16>, !attn.paged<[pages, 16, 2, 192], f16, NHD>,
      !attn.paged<[pages, 16, 2, 192], f16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 192], f16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 192], f16>, !attn.ragged<[n, 2], f32>
}

// -----

// Other rows are padded.
// CHECK-LABEL: tile.kernel @head_dim_80
// CHECK: tile.alloc : !tile.ring<1 x [64, 80], bf16, padded16>
// CHECK: tile.alloc : !tile.ring<2 x [64, 80], bf16, padded16>
attn.variant @all

func.func @head_dim_80(
  %q: !attn.ragged<[n, 2, 80], bf16>, %k: !attn.paged<[pages, 16, 2, 80], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 80], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 80], bf16>, !attn.ragged<[n, 2], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 80], bf16>, !attn.paged<[pages, 16, 2, 80], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 80], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 80], bf16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 80], bf16>, !attn.ragged<[n, 2], f32>
}

// -----

// The query heads of a key head are packed into rows: packed row r is query row r / 4 of head r % 4.
// CHECK-LABEL: tile.kernel @group_of_4
// CHECK-SAME: warps 4 grid [cta_bounds - 1, 1, 1]
// CHECK: %kv_head = tile.load %items[
// CHECK: %packed_rows = arith.muli %{{.*}}, %c4_i32
// CHECK: tile.map() {
// CHECK-NEXT: ^{{.*}}(%[[ROW:.*]]: i32):
// CHECK-NEXT: %[[PACKED:.*]] = arith.addi %first_row, %[[ROW]] : i32
// CHECK-NEXT: %[[QUERY:.*]] = arith.divui %[[PACKED]], %c4_i32 : i32
// CHECK-NEXT: %[[POSITION:.*]] = arith.addi %position, %[[QUERY]] : i32
// CHECK-NEXT: %[[FIRST_HEAD:.*]] = arith.muli %kv_head, %c4_i32 : i32
// CHECK-NEXT: %[[IN_GROUP:.*]] = arith.remui %[[PACKED]], %c4_i32 : i32
// CHECK-NEXT: %[[HEAD:.*]] = arith.addi %[[FIRST_HEAD]], %[[IN_GROUP]] : i32
// CHECK-NEXT: tile.yield %[[POSITION]], %[[HEAD]] : i32, i32
attn.variant @all

func.func @group_of_4(
  %q: !attn.ragged<[n, 8, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 8, 64], bf16>, !attn.ragged<[n, 8], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 8, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 8, 64], bf16>, !attn.ragged<[n, 8], f32>
  func.return %out, %lse : !attn.ragged<[n, 8, 64], bf16>, !attn.ragged<[n, 8], f32>
}

// -----

// In layout NHD a row of a page is token * heads + head.
// CHECK-LABEL: tile.kernel @nhd
// CHECK: tile.copy_async %k_pages, %v_pages
// CHECK: %[[ENTRY:.*]] = arith.divui %[[KEY:.*]], %c16_i32 : i32
// CHECK: %[[PLACE:.*]] = arith.addi %page_begin, %[[ENTRY]] : i32
// CHECK: %[[PAGE:.*]] = tile.load %kv_indices[%[[PLACE]]]
// CHECK: %[[TOKEN:.*]] = arith.remui %[[KEY]], %c16_i32 : i32
// CHECK: %[[FIRST:.*]] = arith.muli %[[TOKEN]], %c3_i32 : i32
// CHECK: %[[IN_PAGE:.*]] = arith.addi %[[FIRST]], %kv_head : i32
// CHECK: %[[PAGE_ROWS:.*]] = arith.muli %[[PAGE]], %c48_i32 : i32
// CHECK: arith.addi %[[PAGE_ROWS]], %[[IN_PAGE]] : i32
attn.variant @all

func.func @nhd(
  %q: !attn.ragged<[n, 3, 64], bf16>, %k: !attn.paged<[pages, 16, 3, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 3, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 3, 64], bf16>, !attn.paged<[pages, 16, 3, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 3, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>
  func.return %out, %lse : !attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>
}

// -----

// In layout HND it is head * tokens + token.
// CHECK-LABEL: tile.kernel @hnd
// CHECK: tile.copy_async %k_pages, %v_pages
// CHECK: %[[TOKEN:.*]] = arith.remui %{{.*}}, %c16_i32 : i32
// CHECK: %[[FIRST:.*]] = arith.muli %kv_head, %c16_i32 : i32
// CHECK: arith.addi %[[FIRST]], %[[TOKEN]] : i32
attn.variant @all

func.func @hnd(
  %q: !attn.ragged<[n, 3, 64], bf16>, %k: !attn.paged<[pages, 16, 3, 64], bf16, HND>,
  %v: !attn.paged<[pages, 16, 3, 64], bf16, HND>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 3, 64], bf16>, !attn.paged<[pages, 16, 3, 64], bf16, HND>,
      !attn.paged<[pages, 16, 3, 64], bf16, HND>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>
  func.return %out, %lse : !attn.ragged<[n, 3, 64], bf16>, !attn.ragged<[n, 3], f32>
}
