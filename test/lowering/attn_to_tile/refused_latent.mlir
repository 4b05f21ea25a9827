// RUN: tilewright-opt %s --split-input-file --verify-diagnostics -p 'convert-attn-to-tile{warps=4}'

attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 16, 384], f16>, %p: !attn.ragged<[n, 16, 64], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 384], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 384], f16>, !attn.ragged<[n, 16], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op expects 256 or 512 latent elements, got 384}}
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 384], f16>, !attn.ragged<[n, 16, 64], f16> in
      !attn.paged<[pages, 16, 1, 384], f16, NHD>, !attn.paged<[pages, 16, 1, 64], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 384], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 384], f16>, !attn.ragged<[n, 16], f32>
}

// -----

attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 16, 512], f16>, %p: !attn.ragged<[n, 16, 128], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 128], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op expects a multiple of 16 up to 64 elements that carry positions, got 128}}
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16, 128], f16> in
      !attn.paged<[pages, 16, 1, 512], f16, NHD>, !attn.paged<[pages, 16, 1, 128], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
}

// -----

attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 16, 512], f16>, %p: !attn.ragged<[n, 16, 24], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 24], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op expects a multiple of 16 up to 64 elements that carry positions, got 24}}
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16, 24], f16> in
      !attn.paged<[pages, 16, 1, 512], f16, NHD>, !attn.paged<[pages, 16, 1, 24], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
}

// -----

// expected-error @+1 {{'attn.variant' op expects a variant of score, mask and state for latent attention, got one of key}}
attn.variant @all key {
^bb0(%x: f32, %b: i32, %h: i32, %kv_idx: i32, %d: i32):
  attn.yield %x : f32
}

func.func @attend(
  %q: !attn.ragged<[n, 16, 512], f16>, %p: !attn.ragged<[n, 16, 64], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>) {
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16, 64], f16> in
      !attn.paged<[pages, 16, 1, 512], f16, NHD>, !attn.paged<[pages, 16, 1, 64], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
}

// -----

attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 16, 512], f16>, %p: !attn.ragged<[n, 16, 64], f16>,
  %kv: !attn.paged<[pages, 16, 1, 576], i4, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op expects codes of 8 bits, got i4}}
  %out, %lse = attn.attend_latent %q, %p in %kv over %batch scale %scale variant @all
    {scales = #attn.scales<tensor>}
    : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16, 64], f16> in
      !attn.paged<[pages, 16, 1, 576], i4, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
}
