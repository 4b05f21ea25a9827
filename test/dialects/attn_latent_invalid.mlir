// RUN: VERIFY_DIAGNOSTICS

attn.variant @all

func.func @query_without_elements(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects a query [rows, heads, elements], got !attn.ragged<[n, 16], bf16>}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @queries_of_other_heads(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 8, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects queries of the same rows, got !attn.ragged<[n, 16, 512], bf16> and !attn.ragged<[n, 8, 64], bf16>}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 8, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @three_arrays(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>, %c2: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects a cache of one or two arrays, got 3}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1, %c2 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @two_element_types(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], f16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects queries and a cache of one element type, f16 or bf16, or a cache of codes, got bf16, f16}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], f16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @elements_of_32_bits(
  %q: !attn.ragged<[n, 16, 512], f32>, %p: !attn.ragged<[n, 16, 64], f32>, %c0: !attn.paged<[pages, 16, 1, 512], f32, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], f32, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects queries and a cache of one element type, f16 or bf16, or a cache of codes, got f32}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], f32>, !attn.ragged<[n, 16, 64], f32> in
      !attn.paged<[pages, 16, 1, 512], f32, NHD>, !attn.paged<[pages, 16, 1, 64], f32, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f32>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @other_pages(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 8, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects a cache of the same pages, got !attn.paged<[pages, 16, 1, 512], bf16, NHD> and !attn.paged<[pages, 8, 1, 64], bf16, NHD>}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 8, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @several_heads(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 2, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects rows of one head and 512 elements in the cache, got !attn.paged<[pages, 16, 2, 512], bf16, NHD>}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 2, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @one_array_of_other_rows(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects rows of one head and 576 elements in the cache, got !attn.paged<[pages, 16, 1, 512], bf16, NHD>}}
  %out, %lse = attn.attend_latent %q, %p in %c0 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @results_of_other_elements(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects results !attn.ragged<[n, 16, 512], bf16> and !attn.ragged<[n, 16], f32>, got !attn.ragged<[n, 16, 64], bf16> and !attn.ragged<[n, 16], f32>}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 64], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----


func.func @no_variant(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %c0: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %c1: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects a variant, got @all, which is not defined}}
  %out, %lse = attn.attend_latent %q, %p in %c0, %c1 over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @codes_without_scales(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %kv: !attn.paged<[pages, 16, 1, 576], i8, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects scales of whole arrays for a cache of i8}}
  %out, %lse = attn.attend_latent %q, %p in %kv over %batch scale %scale variant @all 
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 576], i8, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @codes_with_scales_of_blocks(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %kv: !attn.paged<[pages, 16, 1, 576], i8, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects scales of whole arrays for a cache of i8}}
  %out, %lse = attn.attend_latent %q, %p in %kv over %batch scale %scale variant @all {scales = #attn.scales<block 32, f16>}
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 576], i8, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// -----

attn.variant @all

func.func @scales_without_codes(
  %q: !attn.ragged<[n, 16, 512], bf16>, %p: !attn.ragged<[n, 16, 64], bf16>, %kv: !attn.paged<[pages, 16, 1, 576], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // expected-error @+1 {{'attn.attend_latent' op expects no scales for a cache of bf16}}
  %out, %lse = attn.attend_latent %q, %p in %kv over %batch scale %scale variant @all {scales = #attn.scales<tensor>}
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 576], bf16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}
