// RUN: VERIFY_DIAGNOSTICS

// A query has rows, heads and elements; a result of one number a head has two axes.
// expected-error @+1 {{expected extents [rows, heads] or [rows, heads, head_dim], got 1 extents}}
func.func @ragged_of_one_axis(%q: !attn.ragged<[n], bf16>) {
  func.return
}

// -----

// expected-error @+1 {{expected extents [pages, tokens, heads, head_dim], got 3 extents}}
func.func @paged_of_three_axes(%k: !attn.paged<[pages, 16, 128], bf16, NHD>) {
  func.return
}

// -----

// expected-error @+1 {{expected extents [requests, page table entries], got 1 extents}}
func.func @batch_of_one_axis(%batch: !attn.batch<[b]>) {
  func.return
}

// -----

// expected-error @+1 {{axis 1 has extent 0, expected at least 1}}
func.func @pages_of_no_token(%k: !attn.paged<[pages, 0, 8, 128], bf16, NHD>) {
  func.return
}

// -----

// expected-error @+1 {{expected `NHD`, or `HND`}}
func.func @pages_in_another_order(%k: !attn.paged<[pages, 16, 8, 128], bf16, NDH>) {
  func.return
}

// -----

// A page table is no tensor: its entries have no type of their own.
// expected-error @+1 {{'>' expected}}
func.func @batch_with_elements(%batch: !attn.batch<[b, nnz], i32>) {
  func.return
}

// -----

// expected-error @+1 {{'attn.variant' op expects its mask region to have arguments (i32, i32, i32, i32), got (i32, i32)}}
attn.variant @mask_of_two_positions mask {
^bb0(%q_idx: i32, %kv_idx: i32):
  %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
  attn.yield %seen : i1
}

// -----

// expected-error @+1 {{'attn.variant' op expects its score region to have arguments (f32, i32, i32, i32, i32), got (f16, i32, i32, i32, i32)}}
attn.variant @score_of_another_type score {
^bb0(%score: f16, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %wide = arith.extf %score : f16 to f32
  attn.yield %wide : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects its mask region to yield i1, got i32}}
attn.variant @mask_that_is_a_number mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  attn.yield %kv_idx : i32
}

// -----

// expected-error @+1 {{'attn.variant' op expects its score region to yield f32, got nothing}}
attn.variant @score_that_yields_nothing score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  attn.yield
}

// -----

// A variant knows nothing of what is around it.
func.func @variant_with_a_value_from_outside(%window: i32) {
  // expected-error @+1 {{'attn.variant' op Operation using value defined out of its IsolatedFromAbove parent}}
  attn.variant @windowed mask {
  ^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
    %distance = arith.subi %q_idx, %kv_idx : i32
    %seen = arith.cmpi sle, %distance, %window : i32
    attn.yield %seen : i1
  }
  func.return
}

// -----

func.func @variant_that_is_not_defined(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend' op expects a variant, got @causal, which is not defined}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @causal
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

func.func @variant_that_is_a_function(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend' op expects @variant_that_is_a_function to be an attn.variant, got func.func}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @variant_that_is_a_function
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @values_of_another_layout(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, HND>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects values of the keys' type !attn.paged<[pages, 16, 2, 64], bf16, NHD>, got !attn.paged<[pages, 16, 2, 64], bf16, HND>}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @full
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, HND>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @query_of_two_axes(
  %q: !attn.ragged<[n, 4], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects a query [rows, heads, head_dim], got !attn.ragged<[n, 4], bf16>}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 4], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @keys_of_another_element_type(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects query, keys and values of one element type, f16 or bf16, or keys and values of codes, got bf16 and f16}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], f16, NHD>,
      !attn.paged<[pages, 16, 2, 64], f16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @elements_of_f32(
  %q: !attn.ragged<[n, 4, 64], f32>, %k: !attn.paged<[pages, 16, 2, 64], f32, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects query, keys and values of one element type, f16 or bf16, or keys and values of codes, got f32 and f32}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 4, 64], f32>, !attn.paged<[pages, 16, 2, 64], f32, NHD>,
      !attn.paged<[pages, 16, 2, 64], f32, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], f32>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @keys_of_another_head_dim(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects keys of head_dim 64, got 128}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 128], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return
}

// -----

attn.variant @full

func.func @symbolic_number_of_heads(
  %q: !attn.ragged<[n, h, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects constant numbers of heads}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, h, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, h, 64], bf16>, !attn.ragged<[n, h], f32>
  func.return
}

// -----

attn.variant @full

func.func @heads_in_no_equal_groups(
  %q: !attn.ragged<[n, 6, 64], bf16>, %k: !attn.paged<[pages, 16, 4, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects a number of query heads that is a multiple of the 4 key heads, got 6}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 6, 64], bf16>, !attn.paged<[pages, 16, 4, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 4, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 6, 64], bf16>, !attn.ragged<[n, 6], f32>
  func.return
}

// -----

attn.variant @full

func.func @lse_of_the_query_type(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{expects results !attn.ragged<[n, 4, 64], bf16> and !attn.ragged<[n, 4], f32>, got !attn.ragged<[n, 4, 64], bf16> and !attn.ragged<[n, 4], bf16>}}
  %out, %lse = attn.attend %q, %k, %k over %batch scale %scale variant @full
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], bf16>
  func.return
}

// -----

attn.variant @v

func.func @codes_without_scales(
  %q: !attn.ragged<[n, 32, 128], bf16>, %k: !attn.paged<[pages, 16, 8, 128], i8, NHD>, %v: !attn.paged<[pages, 16, 8, 128], i8, NHD>, %b: !attn.batch<[b, nnz]>, %s: f32
) {
  // expected-error @+1 {{expects scales for keys and values of i8}}
  %o, %l = attn.attend %q, %k, %v over %b scale %s variant @v
    : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], i8, NHD>, !attn.paged<[pages, 16, 8, 128], i8, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  func.return
}

// -----

attn.variant @v

func.func @scales_without_codes(
  %q: !attn.ragged<[n, 32, 128], bf16>, %k: !attn.paged<[pages, 16, 8, 128], bf16, NHD>, %v: !attn.paged<[pages, 16, 8, 128], bf16, NHD>, %b: !attn.batch<[b, nnz]>, %s: f32
) {
  // expected-error @+1 {{expects no scales for keys and values of bf16}}
  %o, %l = attn.attend %q, %k, %v over %b scale %s variant @v {scales = #attn.scales<tensor>}
    : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
  func.return
}
