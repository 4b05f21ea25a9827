// RUN: tilewright-opt %s --split-input-file --verify-diagnostics -p 'convert-attn-to-tile{rows=48}'

attn.variant @all

func.func @rows_that_do_not_divide(
  %q: !attn.ragged<[n, 2, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a multiple of 16 packed rows that divides the 64 of 4 warps, or twice as many, got 48}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 64], bf16>, !attn.ragged<[n, 2], f32>
}
