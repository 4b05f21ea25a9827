// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

attn.variant @all

// A cache of two arrays.
// CHECK-LABEL: func.func @apart
func.func @apart(
  %q_nope: !attn.ragged<[n, 16, 512], bf16>, %q_pe: !attn.ragged<[n, 16, 64], bf16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], bf16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], bf16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // CHECK: attn.attend_latent %q_nope, %q_pe in %ckv, %kpe over %batch scale %scale variant @all : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD> over !attn.batch<[b, nnz]> -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
      !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
  func.return
}

// A cache of one array.
// CHECK-LABEL: func.func @combined
func.func @combined(
  %q_nope: !attn.ragged<[n, 8, 256], f16>, %q_pe: !attn.ragged<[n, 8, 32], f16>,
  %kv: !attn.paged<[pages, 1, 1, 288], f16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // CHECK: attn.attend_latent %q_nope, %q_pe in %kv over %batch
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %kv over %batch scale %scale variant @all
    : !attn.ragged<[n, 8, 256], f16>, !attn.ragged<[n, 8, 32], f16> in
      !attn.paged<[pages, 1, 1, 288], f16, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 8, 256], f16>, !attn.ragged<[n, 8], f32>
  func.return
}

// A cache of codes.
// CHECK-LABEL: func.func @codes
func.func @codes(
  %q_nope: !attn.ragged<[n, 8, 256], f16>, %q_pe: !attn.ragged<[n, 8, 32], f16>,
  %kv: !attn.paged<[pages, 1, 1, 288], f8E4M3FN, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) {
  // CHECK: attn.attend_latent %q_nope, %q_pe in %kv over %batch scale %scale variant @all {scales = #attn.scales<tensor>} :
  %out, %lse = attn.attend_latent %q_nope, %q_pe in %kv over %batch scale %scale variant @all
    {scales = #attn.scales<tensor>}
    : !attn.ragged<[n, 8, 256], f16>, !attn.ragged<[n, 8, 32], f16> in
      !attn.paged<[pages, 1, 1, 288], f8E4M3FN, NHD> over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 8, 256], f16>, !attn.ragged<[n, 8], f32>
  func.return
}
