// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// A mask alone: which keys a query sees.
// CHECK-LABEL: attn.variant @causal mask {
// CHECK-NEXT: ^{{.*}}(%{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32):
// CHECK: attn.yield %{{.*}} : i1
attn.variant @causal mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
  attn.yield %seen : i1
}

// A score alone: what becomes of a score.
// CHECK-LABEL: attn.variant @halved score {
// CHECK-NEXT: ^{{.*}}(%{{.*}}: f32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32, %{{.*}}: i32):
// CHECK: attn.yield %{{.*}} : f32
// CHECK-NOT: mask
attn.variant @halved score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %half = arith.constant 0.5 : f32
  %changed = arith.mulf %score, %half : f32
  attn.yield %changed : f32
}

// The score stands before the mask.
// CHECK-LABEL: attn.variant @both score {
// CHECK: } mask {
attn.variant @both score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  attn.yield %score : f32
} mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %always = arith.constant true
  attn.yield %always : i1
}

// A variant with neither is attention as it is.
// CHECK-LABEL: attn.variant @full{{$}}
attn.variant @full

// Extents are symbolic integers, in queries, pages and batches alike.
// CHECK-LABEL: func.func @attend
// CHECK-SAME: !attn.ragged<[n, 32, 128], bf16>
// CHECK-SAME: !attn.paged<[pages, 16, 8, 128], bf16, NHD>
// CHECK-SAME: !attn.batch<[b, nnz]>
func.func @attend(
  %q: !attn.ragged<[n, 32, 128], bf16>, %k: !attn.paged<[pages, 16, 8, 128], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 8, 128], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>) {
  // CHECK: %[[OUT:.*]], %[[LSE:.*]] = attn.attend %q, %k, %v over %batch scale %scale variant @causal :
  // CHECK-SAME: -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  // CHECK-NEXT: func.return %[[OUT]], %[[LSE]]
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
    : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>,
      !attn.paged<[pages, 16, 8, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  func.return %out, %lse : !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
}

// An extent can be an expression, and pages can have the head before the token.
// CHECK-LABEL: func.func @expressions
// CHECK-SAME: !attn.ragged<[2*n + 1, 4], f32>
// CHECK-SAME: !attn.paged<[(m + 15) floordiv 16, 1, 2, 64], f16, HND>
func.func @expressions(
  %x: !attn.ragged<[2*n + 1, 4], f32>,
  %y: !attn.paged<[(m + 15) floordiv 16, 1, 2, 64], f16, HND>
) {
  func.return
}

// A layout of pages can stand alone.
// CHECK-LABEL: func.func @layouts
// CHECK-SAME: attributes {layout = #attn<page_layout HND>}
func.func @layouts() attributes {layout = #attn<page_layout HND>} {
  func.return
}

// Keys and values are codes with scales, in one array, with strides, a table for each head.
// CHECK-LABEL: func.func @codes
func.func @codes(
  %q: !attn.ragged<[n, 32, 128], bf16>, %k: !attn.paged<[pages, 16, 8, 128], i4, NHD>,
  %v: !attn.paged<[pages, 16, 8, 128], i4, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>) {
  // CHECK: attn.attend {{.*}} variant @causal
  // CHECK-SAME: {combined, scales = #attn.scales<block 32, f16>, strided, table_of_heads} :
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
    {combined, scales = #attn.scales<block 32, f16>, strided, table_of_heads}
    : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], i4, NHD>,
      !attn.paged<[pages, 16, 8, 128], i4, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  func.return %out, %lse : !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
}

// CHECK-LABEL: func.func @ragged
func.func @ragged(
  %q: !attn.ragged<[n, 32, 128], bf16>, %k: !attn.ragged<[m, 8, 128], f8E5M2>,
  %v: !attn.ragged<[m, 8, 128], f8E5M2>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>) {
  // CHECK: attn.attend {{.*}} {scales = #attn.scales<head>} :
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
    {scales = #attn.scales<head>}
    : !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[m, 8, 128], f8E5M2>,
      !attn.ragged<[m, 8, 128], f8E5M2>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  func.return %out, %lse : !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
}
